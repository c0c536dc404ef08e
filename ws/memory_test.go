package ws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The clients of the memory measurement live in a process of their own: this
// test binary, started again with clientEnv set.
const clientEnv = "WS_IDLE_CLIENTS"

// idleClients is what the client process is told.
type idleClients struct {
	Addr       string
	N          int
	MaxVersion uint16
	Root, Key  []byte
	Chain      [][]byte
	Rounds     []int // then, per round, every client sends a message of that many bytes and reads the echo
}

// runIdleClients is the client process: it says a line after each step and
// goes on when it is sent one.
func runIdleClients() error {
	var in idleClients
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return err
	}
	root, err := x509.ParseCertificate(in.Root)
	if err != nil {
		return err
	}
	key, err := x509.ParseECPrivateKey(in.Key)
	if err != nil {
		return err
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MaxVersion: in.MaxVersion}
	cfg.RootCAs.AddCert(root)
	if in.Chain != nil {
		cfg.Certificates = []tls.Certificate{{Certificate: in.Chain, PrivateKey: key}}
	}
	if in.MaxVersion == 0 {
		cfg = nil
	}
	clients := make([]*client, in.N)
	each := func(do func(i int) error) error {
		var wg sync.WaitGroup
		errs := make(chan error, 16)
		for w := range 16 {
			wg.Go(func() {
				for i := w; i < in.N; i += 16 {
					if err := do(i); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
			return nil
		}
	}
	steps := []func(i int) error{func(i int) error {
		c, err := tryDial(in.Addr, cfg)
		if err != nil {
			return err
		}
		c.net.SetDeadline(time.Time{})
		clients[i] = c
		return c.upgrade()
	}}
	for _, size := range in.Rounds {
		msg := frame(bitFin|opText, bytes.Repeat([]byte("x"), size))
		steps = append(steps, func(i int) error {
			if _, err := clients[i].conn.Write(msg); err != nil {
				return err
			}
			_, _, err := clients[i].read()
			return err
		})
	}
	for _, step := range steps {
		if err := each(step); err != nil {
			return err
		}
		fmt.Println("ok")
		if _, err := stdin.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

// usage is the memory of this process after garbage collection; natural is
// the RSS that it had before.
type usage struct{ heap, stack, rss, natural int64 }

func measure() usage {
	natural := residentBytes()
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{heap: int64(m.HeapAlloc), stack: int64(m.StackInuse), rss: residentBytes(), natural: natural}
}

// residentBytes is the RSS, where it can be known.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func (u usage) per(base usage, n int) string {
	return fmt.Sprintf("heap %d B, stack %d B, RSS %d B (%d before GC)", (u.heap-base.heap)/int64(n), (u.stack-base.stack)/int64(n), (u.rss-base.rss)/int64(n), (u.natural-base.rss)/int64(n))
}

// idleMemory opens n connections and reports bytes per connection at rest,
// after each round of messages, and after everyone left.
func idleMemory(t testing.TB, n int, mode string, rounds []int, report func(when string, u, base usage)) {
	pki := newPKI(t)
	in := idleClients{N: n, Root: pki.root.Raw, Rounds: rounds}
	var server *tls.Config
	cert, key := pki.issue(t, "CS1", false, pki.sub, pki.subKey)
	in.Key = marshalKey(t, key)
	switch mode {
	case "plain":
	case "tls 1.3":
		in.MaxVersion, server = tls.VersionTLS13, pki.serverConfig(false)
	case "mutual 1.3":
		in.MaxVersion, server = tls.VersionTLS13, pki.serverConfig(true)
		in.Chain = [][]byte{cert.Raw, pki.sub.Raw}
	case "mutual 1.2":
		in.MaxVersion, server = tls.VersionTLS12, pki.serverConfig(true)
		in.Chain = [][]byte{cert.Raw, pki.sub.Raw}
	}
	shared := &quietEcho{}
	s := startServer(t, Config{}, Endpoint{Label: "3", TLS: server, Upgrade: func(_ context.Context, r *Request) Response {
		return Response{Status: http.StatusSwitchingProtocols, Session: shared}
	}})
	in.Addr = s.addr

	// Warm up: pools, stacks of workers.
	warm := idleSelf(t, idleClients{N: 200, Addr: in.Addr, Root: in.Root, Key: in.Key, Chain: in.Chain, MaxVersion: in.MaxVersion})
	warm.step()
	warm.stop()
	eventually(t, "warm-up clients gone", func() bool { return s.open.Load() == 0 })

	base := measure()
	clients := idleSelf(t, in)
	clients.step()
	eventually(t, "all open", func() bool { return s.open.Load() == int64(n) && s.gate.opening() == 0 })
	report("idle", measure(), base)
	for _, size := range rounds {
		clients.step()
		eventually(t, "all idle again", func() bool { return s.unsent.Load() == 0 })
		report(fmt.Sprintf("after %d B messages", size), measure(), base)
	}
	clients.stop()
	eventually(t, "all closed", func() bool { return s.open.Load() == 0 })
	report("all gone", measure(), base)
}

func marshalKey(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	b, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// quietEcho is an echo without state, so that only ws is measured.
type quietEcho struct{}

func (*quietEcho) Opened(*Conn)                  {}
func (*quietEcho) Message(c *Conn, data []byte)  { _ = c.Send(data) }
func (*quietEcho) Closed(c *Conn, _ CloseReason) {}

// clientProcess is a running client process.
type clientProcess struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

func idleSelf(t testing.TB, in idleClients) *clientProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &clientProcess{t: t, cmd: cmd, in: stdin, out: bufio.NewReader(stdout)}
	b, _ := json.Marshal(in)
	if _, err := stdin.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
	return p
}

// step lets the clients take their next step and waits for it.
func (p *clientProcess) step() {
	p.t.Helper()
	if p.n++; p.n > 1 {
		fmt.Fprintln(p.in)
	}
	if _, err := p.out.ReadString('\n'); err != nil {
		p.t.Fatalf("client process: %v", err)
	}
}

func (p *clientProcess) stop() {
	p.in.Close()
	_ = p.cmd.Wait() // it ends with an error: its input is gone
}

// TestIdleMemory bounds what an idle connection costs. The bounds are wide of
// the measured values; they catch buffers, goroutines and certificates.
func TestIdleMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes seconds, and the race detector has its own memory")
	}
	const n = 1000
	for _, tt := range []struct {
		mode  string
		limit int64 // heap bytes
	}{
		{"plain", 800},
		{"tls 1.3", 3800},
		{"mutual 1.3", 3800},
		{"mutual 1.2", 3800},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			idleMemory(t, n, tt.mode, []int{64, 16 << 10, 64}, func(when string, u, base usage) {
				t.Logf("%-22s %s per connection", when, u.per(base, n))
				if heap := (u.heap - base.heap) / n; releasesBuffers() && heap > tt.limit {
					t.Errorf("%s: %d heap bytes per connection, limit %d", when, heap, tt.limit)
				}
			})
		})
	}
}

// BenchmarkIdleMTLS reports bytes per idle mutual-TLS connection (leaf and one
// intermediate). WS_IDLE sets the number of connections.
func BenchmarkIdleMTLS(b *testing.B) {
	n := 4000
	if v, err := strconv.Atoi(os.Getenv("WS_IDLE")); err == nil {
		n = v
	}
	for b.Loop() {
		idleMemory(b, n, "mutual 1.3", []int{16 << 10}, func(when string, u, base usage) {
			b.Logf("%-22s %s per connection", when, u.per(base, n))
			if when == "idle" {
				b.ReportMetric(float64(u.heap-base.heap)/float64(n), "heap-B/conn")
				b.ReportMetric(float64(u.rss-base.rss)/float64(n), "RSS-B/conn")
			}
		})
	}
}

var _ net.Conn = (*sock)(nil)
