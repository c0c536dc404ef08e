package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// site is a running `holdfast all`, and the commands of its operator.
type site struct {
	t    *testing.T
	data string
	url  string
	tls  string
	mtls string
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, data: filepath.Join(t.TempDir(), "data")}
	var addresses [4]string
	var listeners []net.Listener
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = l.Addr().String()
		listeners = append(listeners, l)
	}
	for _, l := range listeners { // free, and all different
		l.Close()
	}
	s.url, s.tls, s.mtls = "http://"+addresses[0], addresses[2], addresses[3]
	args := []string{"all", "--data", s.data, "--listen-api", addresses[0], "--listen-admin", addresses[1], "--listen-tls", addresses[2], "--listen-mtls", addresses[3]}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var log lockedBuffer
	go func() { done <- run(ctx, args, &log, &log) }()
	t.Cleanup(func() {
		stop()
		if code := <-done; code != exitDone {
			t.Errorf("holdfast all ended with %d", code)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	ready := "http://" + addresses[1] + "/readyz"
	eventually(t, "ready", func() bool {
		answer, err := http.Get(ready)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return s
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// run runs a client command that has to end with code.
func (s *site) run(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, err bytes.Buffer
	if got := run(s.t.Context(), append(args, "--url", s.url, "--data", s.data), &out, &err); got != code {
		s.t.Errorf("holdfast %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got, code, &out, &err)
	}
	return out.String(), err.String()
}

// jsonOf runs a client command with --json and decodes what it prints.
func jsonOf[T any](s *site, args ...string) (v T) {
	s.t.Helper()
	out, _ := s.run(exitDone, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("holdfast %s --json: %v in %s", strings.Join(args, " "), err, out)
	}
	return v
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// An operator registers a station, sees it come, commands it and reads what was
// said, with nothing but the command line.
func TestOperatorsDay(t *testing.T) {
	s := startSite(t)
	out := filepath.Join(t.TempDir(), "keys")
	text, _ := s.run(exitDone, "station", "add", "CS 1", "--profile", "3", "--serial", "SN-1", "--out", out, "--label", "site=north")
	contains(t, text, "CS 1.crt", "CS 1.key", "ca.crt")
	if info, err := os.Stat(filepath.Join(out, "CS 1.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info, err)
	}
	_, text = s.run(exitFailed, "station", "add", "CS 1", "--profile", "3", "--out", out)
	contains(t, text, "exists already")
	text, note := s.run(exitDone, "station", "add", "CS 2")
	contains(t, note, "shown only now")
	if password := strings.TrimSpace(text); len(password) < 16 || strings.ContainsAny(password, " \n") {
		t.Errorf("standard output is %q, want the password alone", text)
	}
	_, text = s.run(exitFailed, "station", "add", "CS 2")
	contains(t, text, "CS 2", "exists already")
	text, _ = s.run(exitDone, "station", "list")
	contains(t, text, "CS 1", "CS 2", "never connected")
	_, text = s.run(exitFailed, "call", "CS 1", "ClearCache")
	contains(t, text, "offline")

	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "CS 1.crt"), filepath.Join(out, "CS 1.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(out, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := fleet.ParseRoots(ca)
	if err != nil {
		t.Fatal(err)
	}
	fl, err := fleet.New(fleet.Config{
		Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileMTLS: "wss://" + s.mtls + "/ocpp"}, Roots: roots,
		Stations:  []fleet.Identity{{ID: "CS 1", Profile: ocpp.ProfileMTLS, Version: ocpp.V16, Certificate: &pair}},
		Behaviour: fleet.Behaviour{SessionGap: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- fl.Run(ctx) }()

	eventually(t, "the station boots", func() bool {
		v := jsonOf[api.StationView](s, "station", "show", "CS 1")
		return v.State != nil && v.State.Connected && !v.State.BootAt.IsZero()
	})
	text, _ = s.run(exitDone, "station", "list", "--connected")
	contains(t, text, "CS 1", "connected")
	text, _ = s.run(exitDone, "call", "CS 1", "TriggerMessage", `{"requestedMessage":"Heartbeat"}`)
	contains(t, text, `"status"`)
	_, text = s.run(exitFailed, "call", "CS 1", "Reset", `{"type":"Sideways"}`)
	contains(t, text, "not valid; nothing was sent")
	s.run(exitUsage, "call", "CS 1", "Reset", `[`)
	command := jsonOf[api.CommandView](s, "call", "CS 1", "GetConfiguration", "--async")
	if command.ID == "" || command.Result != "pending" {
		t.Errorf("asynchronous call: %+v", command)
	}
	eventually(t, "the log of the station", func() bool {
		text, _ := s.run(exitDone, "station", "log", "CS 1")
		return strings.Contains(text, "BootNotification") && strings.Contains(text, "TriggerMessage")
	})
	followed, unfollow := context.WithCancel(t.Context())
	var tail lockedBuffer
	following := make(chan int, 1)
	go func() {
		following <- run(followed, []string{"station", "log", "CS 1", "--follow", "--last", "2", "--url", s.url, "--data", s.data}, &tail, &tail)
	}()
	eventually(t, "the last two messages", func() bool { return strings.Count(tail.String(), "\n") >= 2 })
	s.run(exitDone, "call", "CS 1", "ClearCache")
	eventually(t, "a new message", func() bool { return strings.Contains(tail.String(), "ClearCache") })
	unfollow()
	if code := <-following; code != exitDone {
		t.Errorf("station log --follow ended with %d: %s", code, tail.String())
	}

	s.run(exitDone, "station", "disconnect", "CS 1")
	s.run(exitDone, "station", "block", "CS 1", "--reason", "stolen")
	eventually(t, "the blocked station is gone", func() bool { return !jsonOf[api.StationView](s, "station", "show", "CS 1").State.Connected })
	eventually(t, "why it does not connect", func() bool {
		text, _ := s.run(exitDone, "station", "attempts", "CS 1")
		return strings.Contains(text, "blocked")
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	certificates := jsonOf[[]store.Certificate](s, "cert", "list", "--station", "CS 1")
	if len(certificates) != 1 {
		t.Fatalf("certificates %+v", certificates)
	}
	text, _ = s.run(exitDone, "cert", "show", certificates[0].Serial)
	contains(t, text, "CN=SN-1", "BEGIN CERTIFICATE")
	text, _ = s.run(exitDone, "cert", "revoke", certificates[0].Serial, "--reason", "key_compromise")
	contains(t, text, "revoked (key_compromise)")
	s.run(exitDone, "station", "remove", "CS 1")
	_, text = s.run(exitFailed, "station", "show", "CS 1")
	contains(t, text, "CS 1", "not found")
}

func TestSignedRequest(t *testing.T) {
	s := startSite(t)
	dir := t.TempDir()
	s.run(exitDone, "station", "add", "CS3", "--profile", "3", "--no-key")
	key, request := filepath.Join(dir, "k.pem"), filepath.Join(dir, "r.pem")
	writeCSR(t, key, request, "CS3")
	text, _ := s.run(exitDone, "cert", "sign", request, "--station", "CS3")
	contains(t, text, "BEGIN CERTIFICATE")
	chain := filepath.Join(dir, "c.pem")
	s.run(exitDone, "cert", "sign", request, "--station", "CS3", "--out", chain)
	if _, err := tls.LoadX509KeyPair(chain, key); err != nil {
		t.Error(err)
	}
	s.run(exitUsage, "cert", "sign", request)
	s.run(exitUsage, "cert", "sign", filepath.Join(dir, "nothing"), "--station", "CS3")
	_, text = s.run(exitFailed, "cert", "sign", request, "--station", "CS4")
	contains(t, text, "CS4", "not found")

	text, _ = s.run(exitDone, "token", "add", "viewer", "--role", "read", "--expires", "1d")
	token := strings.TrimSpace(text)
	var out, failure bytes.Buffer
	if code := run(t.Context(), []string{"station", "list", "--url", s.url, "--token", token}, &out, &failure); code != exitDone {
		t.Errorf("list with a token of role read: %d %s", code, &failure)
	}
	if code := run(t.Context(), []string{"station", "add", "X", "--url", s.url, "--token", token}, &out, &failure); code != exitFailed || !strings.Contains(failure.String(), "needs role admin") {
		t.Errorf("add with a token of role read: %d %s", code, &failure)
	}
	s.run(exitDone, "token", "revoke", "viewer")
	failure.Reset()
	if code := run(t.Context(), []string{"station", "list", "--url", s.url, "--token", token}, &out, &failure); code != exitFailed || !strings.Contains(failure.String(), "revoked") {
		t.Errorf("list with a revoked token: %d %s", code, &failure)
	}
}

// Without a server, a token or an address a client says what to do.
func TestClientErrors(t *testing.T) {
	empty := t.TempDir()
	t.Chdir(empty)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"station", "list", "--url", "http://127.0.0.1:1", "--token", "x"}, exitFailed, "is holdfast running there?"},
		{[]string{"station", "list"}, exitUsage, "--token"},
		{[]string{"station", "list", "--url", "http://192.0.2.1"}, exitUsage, "--token"},
		{[]string{"station", "list", "--url", "ftp://x", "--token", "x"}, exitUsage, "http://host:port"},
		{[]string{"station", "list", "--data", empty}, exitFailed, "no such file"},
		{[]string{"station", "add"}, exitUsage, "<id>"},
		{[]string{"station", "add", "A", "--profile", "4"}, exitUsage, "--profile"},
		{[]string{"cert", "list", "--expiring", "soon"}, exitUsage, "30d"},
		{[]string{"station", "update", "A", "--token", "x"}, exitUsage, "nothing to change"},
	} {
		var out, failure bytes.Buffer
		if code := run(t.Context(), tt.args, &out, &failure); code != tt.code || !strings.Contains(failure.String(), tt.want) || strings.Count(failure.String(), "\n") != 1 {
			t.Errorf("%v: %d %q, want %d and one line with %q", tt.args, code, failure.String(), tt.code, tt.want)
		}
	}
}

func TestEnsureToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "token")
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		wg.Go(func() {
			var err error
			if tokens[i], err = ensureToken(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] || len(token) < 40 {
			t.Errorf("tokens %q", tokens)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureToken(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a token that others can read: %v", err)
	}
}

func writeCSR(t *testing.T, keyPath, csrPath, commonName string) {
	t.Helper()
	key, err := pki.GenerateKey(pki.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	for path, data := range map[string][]byte{keyPath: []byte(text), csrPath: csr} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
