package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// adminPort serves the admin port with flags f and returns its URL on loopback,
// whatever address it listens on.
func adminPort(t *testing.T, f adminFlags) string {
	t.Helper()
	url, _ := adminProcess(t, f)
	return url
}

// adminProcess is adminPort with the process.
func adminProcess(t *testing.T, f adminFlags) (string, *process) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	p := newProcess(&env{ctx: ctx, log: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", f.ListenAdmin)
	if err != nil {
		t.Fatal(err)
	}
	f.ListenAdmin = l.Addr().String()
	l.Close()
	if err := p.startAdmin(&f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := p.services.stop(); err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(f.ListenAdmin)
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port, p
}

// The admin port shows metrics, profiles and memory to whoever may see them.
func TestAdminPort(t *testing.T) {
	const token = "a-token-of-twenty-characters"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name                     string
		flags                    adminFlags
		nobody, stranger, knower int // status of /metrics and its like
	}{
		{"loopback", adminFlags{ListenAdmin: "127.0.0.1:0"}, 200, 200, 200},
		{"loopback with a token", adminFlags{ListenAdmin: "127.0.0.1:0", AdminTokenFile: file}, 401, 401, 200},
		{"everywhere", adminFlags{ListenAdmin: "0.0.0.0:0"}, 403, 403, 403},
		{"everywhere with a token", adminFlags{ListenAdmin: "0.0.0.0:0", AdminTokenFile: file}, 401, 401, 200},
		{"everywhere, closed network", adminFlags{ListenAdmin: ":0", AdminOpen: true}, 200, 200, 200},
		{"a token comes before an open network", adminFlags{ListenAdmin: ":0", AdminOpen: true, AdminTokenFile: file}, 401, 401, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := adminPort(t, tt.flags)
			for _, who := range []struct {
				authorization string
				want          int
			}{{"", tt.nobody}, {"Bearer " + token + "x", tt.stranger}, {"Bearer ", tt.stranger}, {"Basic " + token, tt.stranger}, {"bearer " + token, tt.knower}} {
				for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": who.want, "/debug/pprof/": who.want, "/debug/pprof/cmdline": who.want, "/debug/memory": who.want, "/debug/check": who.want, "//metrics": 0} {
					r, err := http.NewRequest("GET", url+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					if who.authorization != "" {
						r.Header.Set("Authorization", who.authorization)
					}
					answer, err := http.DefaultTransport.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(answer.Body)
					answer.Body.Close()
					if want != 0 && answer.StatusCode != want || want == 0 && strings.Contains(string(body), "go_goroutines") {
						t.Errorf("%q %s: %d, want %d", who.authorization, path, answer.StatusCode, want)
					}
				}
			}
		})
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newProcess(&env{ctx: t.Context()}).startAdmin(&adminFlags{ListenAdmin: "127.0.0.1:0", AdminTokenFile: file}); err == nil || !strings.Contains(err.Error(), "--admin-token-file") {
		t.Errorf("a short token: %v", err)
	}
}

// What a part finds wrong in its counts is told in words, with an error's status.
func TestCheckTellsProblems(t *testing.T) {
	url, p := adminProcess(t, adminFlags{ListenAdmin: "127.0.0.1:0"})
	check := func(want int, text string) {
		t.Helper()
		r, err := http.Get(url + "/debug/check")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != want || !strings.Contains(string(body), text) {
			t.Errorf("%d %s (%v), want %d and %s", r.StatusCode, body, err, want, text)
		}
	}
	registered := 5
	p.admin.askCheck(func() error {
		if registered != 5 {
			return fmt.Errorf("%d registered, 5 counted", registered)
		}
		return nil
	})
	check(http.StatusOK, `"problems": []`)
	registered = 6
	check(http.StatusInternalServerError, "6 registered, 5 counted")
}

// The operator API speaks HTTPS with a certificate from files, and takes a new
// one without a restart.
func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key")
	serial := int64(0)
	renew := func() {
		serial++
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(serial) * time.Minute) // file systems have coarse clocks
		for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
			if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(name, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew()
	f := &certificateFiles{cert: cert, key: key, log: slog.New(slog.DiscardHandler)}
	if err := f.load(); err != nil {
		t.Fatal(err)
	}
	shown := func() int64 {
		f.looked = time.Time{}
		pair, err := f.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	if got := shown(); got != 1 {
		t.Errorf("serial number %d", got)
	}
	renew()
	if got := shown(); got != 2 {
		t.Errorf("serial number %d after a new certificate", got)
	}
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != 2 {
		t.Errorf("serial number %d after half a file", got)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listenTLS(l, "api-cert", cert, key, f.log); err == nil || !strings.Contains(err.Error(), "--api-cert") {
		t.Errorf("half a file at the start: %v", err)
	}
	renew()
	secure, err := listenTLS(l, "api-cert", cert, key, f.log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveHTTP(ctx, secure, http.NotFoundHandler()) }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get("https://" + l.Addr().String())
	if err != nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("%v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	client.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
