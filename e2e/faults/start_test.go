package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
)

// TestStartErrors: what keeps a process from starting is told in one line on
// standard error that begins with "holdfast:", beside the log lines, which begin
// with "time=". The line says what, where, and how to mend it.
func TestStartErrors(t *testing.T) {
	binary := e2e.Build(t, "holdfast/cmd/holdfast")
	taken := all(t) // its ports are in use, and its directory
	address := func(url string) string {
		_, a, _ := strings.Cut(url, "://")
		a, _, _ = strings.Cut(a, "/")
		return a
	}
	closedPort := "127.0.0.1:" + e2e.FreePort(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := all(t)
	damaged.Terminate()
	damaged.Wait(patience)
	if err := os.WriteFile(filepath.Join(damaged.Data, "ca", "station-ecdsa.pem"), []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := func(args ...string) []string { // on ports that are free, unless args say otherwise
		n := e2e.Ports(t, t.TempDir())
		seed(t, n.Data)
		args = append([]string{"all", "--plain"}, args...)
		set := strings.Join(args, " ")
		if !strings.Contains(set, "--data ") {
			args = append(args, "--data", n.Data)
		}
		for _, name := range []string{"api", "admin", "plain", "tls", "mtls"} {
			if !strings.Contains(set, "--listen-"+name) {
				args = append(args, n.ListenArgs(name)...)
			}
		}
		return args
	}

	for _, tt := range []struct {
		name string
		args []string
		code int
		say  []string // what the line has to say
	}{
		{"unknown flag", []string{"all", "--no-such-flag"}, 2, []string{"--no-such-flag", "--help"}},
		{"flag's value", []string{"all", "--drain-time", "soon"}, 2, []string{"--drain-time", "soon"}},
		{"unknown command", []string{"gatewya"}, 2, []string{"gatewya", "--help"}},
		{"gateway without NATS", []string{"gateway"}, 2, []string{"--nats"}},
		{"security profile", fresh("--profiles", "4"), 2, []string{"--profiles 4", "1, 2 and 3"}},
		{"proxy that is no network", fresh("--trust-proxy", "proxy.example"), 2, []string{"--trust-proxy", "proxy.example"}},
		{"certificate without key", fresh("--server-cert", file), 2, []string{"--server-cert", "--server-key"}},
		{"NATS not there", []string{"gateway", "--nats", "nats://user:secret@" + closedPort}, 1, []string{closedPort, "--nats"}},
		{"database not there", fresh("--database", "postgres://user:secret@"+closedPort+"/holdfast"), 1, []string{closedPort, "database"}},
		{"database that is no URL", fresh("--database", "mysql://user:secret@host/x"), 1, []string{"database", "postgres://"}},
		{"API port in use", fresh("--listen-api", address(taken.API)), 1, []string{address(taken.API), "in use", "--listen-api"}},
		{"admin port in use", fresh("--listen-admin", address(taken.Admin)), 1, []string{address(taken.Admin), "in use", "--listen-admin"}},
		{"plain port in use", fresh("--listen-plain", address(taken.Plain)), 1, []string{address(taken.Plain), "in use", "--listen-plain"}},
		{"TLS port in use", fresh("--listen-tls", address(taken.TLS)), 1, []string{address(taken.TLS), "in use", "--listen-tls"}},
		{"mutual TLS port in use", fresh("--listen-mtls", address(taken.MTLS)), 1, []string{address(taken.MTLS), "in use", "--listen-mtls"}},
		{"CA key that is none", fresh("--data", damaged.Data), 1, []string{filepath.Join(damaged.Data, "ca", "station-ecdsa.pem")}},
		{"data directory that is a file", fresh("--data", file), 1, []string{file, "--data"}},
		{"data directory below a file", fresh("--data", filepath.Join(file, "data")), 1, []string{file, "--data"}},
		{"server certificate that is none", fresh("--server-cert", file, "--server-key", file), 1, []string{file, "PEM"}},
		{"server certificate that is not there", fresh("--server-cert", file+"x", "--server-key", file), 1, []string{file + "x", "--server-cert"}},
		{"configuration file", []string{"all", "--config", file}, 2, []string{file}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), binary, tt.args...)
			var out, log bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &log
			begin := time.Now()
			cmd.Run() // its exit status follows
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			if took := time.Since(begin); took > patience {
				t.Errorf("it took %s", took)
			}
			var lines []string
			for line := range strings.Lines(log.String()) {
				if !strings.HasPrefix(line, "time=") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "holdfast: ") {
				t.Fatalf("%d lines, want one:\n%s", len(lines), log.String())
			}
			for _, want := range tt.say {
				if !strings.Contains(lines[0], want) {
					t.Errorf("the line does not say %q: %s", want, lines[0])
				}
			}
			if strings.Contains(log.String(), "secret@") || regexp.MustCompile(`goroutine \d|panic:`).MatchString(log.String()) {
				t.Errorf("it tells too much:\n%s", log.String())
			}
			if out.Len() > 0 {
				t.Errorf("on standard output: %s", out.String())
			}
		})
	}
}

// TestSecondTerm: a second SIGTERM ends a process at once that is still draining.
func TestSecondTerm(t *testing.T) {
	n := all(t, "--drain-time", "10m")
	var peers []*peer
	for _, s := range addMany(t, n, "S", 3, 1, nil) {
		p := attempt{station: s}.must(t)
		p.boot(t)
		peers = append(peers, p)
	}
	n.Terminate()
	e2e.Await(t, "draining", patience, func() bool { return strings.Contains(n.Tail(4<<10), "msg=draining") })
	stays := 0
	for _, p := range peers {
		if _, err := p.read(300 * time.Millisecond); err == errTimeout {
			stays++
		}
	}
	if stays != 2 || n.Ended() {
		t.Errorf("%d of 3 stations are still connected, want 2: they are closed over 10 minutes", stays)
	}
	n.Terminate()
	if code := n.Wait(5 * time.Second); code == 0 {
		t.Error("exit status 0 although stations were cut")
	}
}
