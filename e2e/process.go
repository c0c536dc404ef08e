package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	buildMu sync.Mutex
	built   = make(map[string]string) // package and flags to binary, for this test binary's life
)

// Build compiles a command once per test binary and returns its path. Flags are
// those of go build.
func Build(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	key := strings.Join(append(flags, pkg), " ")
	if path, ok := built[key]; ok {
		return path
	}
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	if out, err := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	built[key] = path
	return path
}

// Clean removes what Build left; call it at the end of TestMain.
func Clean() {
	buildMu.Lock()
	defer buildMu.Unlock()
	for _, path := range built {
		os.RemoveAll(filepath.Dir(path))
	}
	clear(built)
}

var (
	portMu sync.Mutex
	taken  = make(map[string]bool) // by FreePort
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on now, another
// one each time: while few are free, the system would give one again that was
// not listened on yet.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		portMu.Lock()
		old := taken[port]
		taken[port] = true
		portMu.Unlock()
		if !old {
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// Process is one running process.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended

	mu  sync.Mutex
	log bytes.Buffer
}

// Start runs a binary until the test ends. Its output is shown if the test fails.
func Start(t testing.TB, binary string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(p.cmd.Args, " "), p.Tail(8<<10))
		}
	})
	return p
}

// Write takes the process's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.Len() > 8<<20 {
		p.log.Next(4 << 20)
	}
	return p.log.Write(b)
}

// Tail returns the last n bytes of the output.
func (p *Process) Tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.log.Bytes()
	return string(b[max(0, len(b)-n):])
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process with SIGKILL and waits.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Terminate sends SIGTERM.
func (p *Process) Terminate() { p.cmd.Process.Signal(syscall.SIGTERM) }

// Wait waits for the end and returns the exit code.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %s", p.cmd.Args[0], limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Node is a Holdfast process with its ports.
type Node struct {
	*Process
	Binary           string // empty: the product as it is released
	Args             []string
	Data             string
	API, Admin       string // http://127.0.0.1:port
	Plain, TLS, MTLS string // ws:// or wss:// …/ocpp
}

// All starts every role in one process, with all security profiles, on free
// ports, and waits until it is ready.
func All(t testing.TB, extra ...string) *Node {
	t.Helper()
	n := Ports(t, t.TempDir())
	n.Args = append(append([]string{"all", "--data", n.Data, "--plain", "--drain-time", "1s"}, n.ListenArgs("api", "admin", "plain", "tls", "mtls")...), extra...)
	n.Restart()
	n.AwaitReady()
	return n
}

// Ports reserves ports for a process with its data in dir.
func Ports(t testing.TB, dir string) *Node {
	n := &Node{Process: &Process{t: t}, Data: dir}
	n.API, n.Admin = "http://127.0.0.1:"+FreePort(t), "http://127.0.0.1:"+FreePort(t)
	n.Plain, n.TLS, n.MTLS = "ws://127.0.0.1:"+FreePort(t)+"/ocpp", "wss://127.0.0.1:"+FreePort(t)+"/ocpp", "wss://127.0.0.1:"+FreePort(t)+"/ocpp"
	return n
}

// ListenArgs are the --listen flags for the named ports.
func (n *Node) ListenArgs(names ...string) []string {
	var args []string
	for _, name := range names {
		address := map[string]string{"api": n.API, "admin": n.Admin, "plain": n.Plain, "tls": n.TLS, "mtls": n.MTLS}[name]
		_, address, _ = strings.Cut(address, "://")
		address, _, _ = strings.Cut(address, "/")
		args = append(args, "--listen-"+name, address)
	}
	return args
}

// Restart starts the process, again if it ran before.
func (n *Node) Restart() {
	n.t.Helper()
	binary := n.Binary
	if binary == "" {
		binary = Build(n.t, "holdfast/cmd/holdfast")
	}
	n.Process = Start(n.t, binary, n.Args...)
}

// AwaitReady waits until /readyz says so.
func (n *Node) AwaitReady() {
	n.t.Helper()
	n.Await("ready", 60*time.Second, func() bool {
		r, err := http.Get(n.Admin + "/readyz")
		if err != nil {
			if n.Ended() {
				n.t.Fatalf("%s ended: %s", strings.Join(n.Args[:1], ""), n.Tail(2000))
			}
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// Await polls until ok or the limit.
func (p *Process) Await(what string, limit time.Duration, ok func() bool) {
	p.t.Helper()
	Await(p.t, what, limit, ok)
}

// Await polls until ok or the limit.
func Await(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// Do calls the operator API with the admin token and decodes the answer into
// out, unless that is nil. It returns the HTTP status.
func (n *Node) Do(method, path string, body, out any) int {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.Data, "token"))
	if err != nil {
		n.t.Fatal(err)
	}
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			n.t.Fatal(err)
		}
		payload = bytes.NewReader(data)
	}
	r, err := http.NewRequest(method, n.API+path, payload)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			n.t.Fatalf("%s %s: %d %s: %v", method, path, resp.StatusCode, data, err)
		}
	}
	return resp.StatusCode
}

// Metric returns the sum of a metric's samples whose line holds all of parts.
func (n *Node) Metric(name string, parts ...string) float64 {
	n.t.Helper()
	r, err := http.Get(n.Admin + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	sum := 0.0
lines:
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		var v float64
		fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:], &v)
		sum += v
	}
	return sum
}
