package ws

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var tlsVersions = []struct {
	name    string
	version uint16
}{{"1.2", tls.VersionTLS12}, {"1.3", tls.VersionTLS13}}

// heldConn collects what a TLS client writes, for the test to send in pieces.
type heldConn struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	held bytes.Buffer
}

func (h *heldConn) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hold {
		return h.held.Write(b)
	}
	return h.Conn.Write(b)
}

// take returns the records that write produces.
func (h *heldConn) take(write func()) []byte {
	h.mu.Lock()
	h.hold = true
	h.mu.Unlock()
	write()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = false
	defer h.held.Reset()
	return bytes.Clone(h.held.Bytes())
}

// dialHeld is dial with a heldConn below TLS.
func dialHeld(t *testing.T, addr string, cfg *tls.Config) (*client, *heldConn) {
	t.Helper()
	c := dialRaw(t, addr, nil)
	h := &heldConn{Conn: c.net}
	c.conn = tls.Client(h, cfg)
	c.r.Reset(c.conn)
	if err := c.upgrade(); err != nil {
		t.Fatal(err)
	}
	return c, h
}

func versionConfig(pki *testPKI, version uint16, cert tls.Certificate) *tls.Config {
	cfg := clientConfig(pki, cert)
	cfg.MinVersion, cfg.MaxVersion = version, version
	return cfg
}

// Records and the frames in them are cut at every byte; each rest arrives when
// the server has parked the connection with what it had.
func TestRecordsSplitEverywhere(t *testing.T) {
	pki := newPKI(t)
	cert := pki.client(t, "CS1")
	for _, v := range tlsVersions {
		t.Run(v.name, func(t *testing.T) {
			r := echoSession()
			s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(true), Upgrade: upgrading(func() *recorder { return r })})
			c, h := dialHeld(t, s.addr, versionConfig(pki, v.version, cert))
			send := func(b []byte) {
				if _, err := h.Conn.Write(b); err != nil {
					t.Fatal(err)
				}
				untilIdle(t, r.conn.Load())
			}
			// A first connection tells the record's size and is given up with it.
			size := len(h.take(func() { c.write(text("[2,\"1\",\"Heartbeat\",{}]")) }))
			c.net.Close()

			r = echoSession()
			c, h = dialHeld(t, s.addr, versionConfig(pki, v.version, cert))
			<-r.opened
			for cut := range size + 1 {
				record := h.take(func() { c.write(text("[2,\"1\",\"Heartbeat\",{}]")) })
				send(record[:cut])
				send(record[cut:])
				c.expectText("[2,\"1\",\"Heartbeat\",{}]")
			}
			// One frame in two records, cut at every byte of the frame.
			whole := text("[2,\"1\",\"Heartbeat\",{}]")
			for cut := 1; cut < len(whole); cut++ {
				send(h.take(func() { c.write(whole[:cut]) }))
				send(h.take(func() { c.write(whole[cut:]) }))
				c.expectText("[2,\"1\",\"Heartbeat\",{}]")
			}
			// Everything a byte at a time.
			for _, b := range h.take(func() { c.write(text("bytewise")) }) {
				send([]byte{b})
			}
			c.expectText("bytewise")
			if got := s.partial.Load(); got != 0 {
				t.Errorf("%d bytes of unfinished messages are counted", got)
			}
		})
	}
}

// No message may wait for the next packet: many frames in one record, many
// records in one packet, and a record that ends in the middle of a frame.
func TestPipelined(t *testing.T) {
	pki := newPKI(t)
	cert := pki.client(t, "CS1")
	for _, v := range tlsVersions {
		t.Run(v.name, func(t *testing.T) {
			r := echoSession()
			s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(true), Upgrade: upgrading(func() *recorder { return r })})
			c, h := dialHeld(t, s.addr, versionConfig(pki, v.version, cert))
			long := strings.Repeat("x", 5000)
			frames := bytes.Join([][]byte{text("a"), text(long), frame(bitFin|opPing, []byte("p")), text("b"), text("c")}, nil)
			expect := func() {
				t.Helper()
				c.expectText("a")
				c.expectText(long)
				c.expect(bitFin|opPong, []byte("p"))
				c.expectText("b")
				c.expectText("c")
			}
			c.write(frames) // one record
			expect()
			packet := h.take(func() { // many records
				for _, b := range bytes.SplitAfter(frames, []byte("x")) {
					c.write(b)
				}
			})
			if _, err := h.Conn.Write(packet); err != nil {
				t.Fatal(err)
			}
			expect()
			half := h.take(func() { c.write(frames); c.write(frames) })
			for _, part := range [][]byte{half[:len(half)/2], half[len(half)/2:]} {
				if _, err := h.Conn.Write(part); err != nil {
					t.Fatal(err)
				}
				untilIdle(t, r.conn.Load())
			}
			expect()
			expect()
		})
	}
}

// What a client sends together with its request, before it saw the 101, is not
// lost.
func TestEarlyMessage(t *testing.T) {
	pki := newPKI(t)
	for _, cfg := range []*tls.Config{nil, clientConfig(pki)} {
		e := Endpoint{Upgrade: upgrading(echoSession)}
		if cfg != nil {
			e.TLS = pki.serverConfig(false)
		}
		s := startServer(t, Config{}, e)
		c := dialRaw(t, s.addr, cfg)
		c.write([]byte(upgradeRequest + "\r\n" + string(text("early")) + string(text("late")[:3])))
		line, err := c.r.ReadString('\n')
		if err != nil || !strings.Contains(line, "101") {
			t.Fatalf("%q, %v", line, err)
		}
		for line != "\r\n" {
			if line, err = c.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		c.expectText("early")
		c.write(text("late")[3:])
		c.expectText("late")
	}
}

// A large record does not stay with the connection.
func TestBuffersAfterLargeRecord(t *testing.T) {
	if !releasesBuffers() {
		t.Skip("buffers are kept on this system")
	}
	pki := newPKI(t)
	r := echoSession()
	s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(false), Upgrade: upgrading(func() *recorder { return r })})
	c := dial(t, s.addr, clientConfig(pki))
	for range 20 {
		big := strings.Repeat("x", 16<<10)
		c.write(text(big))
		c.expectText(big)
	}
	untilIdle(t, r.conn.Load())
	inspect(r, func(c *tls.Conn) {
		if n := keptBytes(c); n != 0 {
			t.Errorf("an idle connection keeps %d bytes of buffers", n)
		}
	})
}

// inspect calls f with the tls.Conn of an idle connection, if it has one. The
// next turn comes after f.
func inspect(r *recorder, f func(*tls.Conn)) {
	c := r.conn.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := stock(c.tls); t != nil {
		f(t)
	}
	c.state.Or(0) // what f read happened before the next post
}

// keptBytes is the capacity of a tls.Conn's read buffers.
func keptBytes(t *tls.Conn) int {
	v := reflect.ValueOf(t).Elem()
	return v.FieldByName("rawInput").FieldByName("buf").Cap() + v.FieldByName("hand").FieldByName("buf").Cap() +
		v.FieldByName("input").FieldByName("s").Cap()
}

// Certificates go after the upgrade, and are there during it.
func TestCertificatesForgotten(t *testing.T) {
	pki := newPKI(t)
	r := echoSession()
	var cn string
	base := upgrading(func() *recorder { return r })
	s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(true), Upgrade: func(ctx context.Context, q *Request) Response {
		cn = q.TLS.PeerCertificates[0].Subject.CommonName
		return base(ctx, q)
	}})
	c := dial(t, s.addr, clientConfig(pki, pki.client(t, "CS1")))
	c.write(text("x"))
	c.expectText("x")
	untilIdle(t, r.conn.Load())
	if cn != "CS1" {
		t.Errorf("common name %q", cn)
	}
	var state tls.ConnectionState
	inspect(r, func(c *tls.Conn) { state = c.ConnectionState() })
	for _, cert := range state.PeerCertificates {
		if cert != nil {
			t.Error("a peer certificate is kept")
		}
	}
	for _, chain := range state.VerifiedChains {
		if chain != nil {
			t.Error("a verified chain is kept")
		}
	}
	info := r.conn.Load().Info()
	if info.TLSVersion != tls.VersionTLS13 || info.CipherSuite == 0 || info.Resumed || !info.Remote.IsValid() {
		t.Errorf("info %+v", info)
	}
}

func TestResumption(t *testing.T) {
	pki := newPKI(t)
	cert := pki.client(t, "CS1")
	for _, v := range tlsVersions {
		t.Run(v.name, func(t *testing.T) {
			sessions := make(chan *recorder, 2)
			s := startServer(t, Config{}, Endpoint{Label: "3", TLS: pki.serverConfig(true), Upgrade: upgrading(func() *recorder { r := echoSession(); sessions <- r; return r })})
			cfg := versionConfig(pki, v.version, cert)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			for i := range 2 {
				c := dial(t, s.addr, cfg)
				c.write(text("x"))
				c.expectText("x")
				r := <-sessions
				if got := r.conn.Load().Info().Resumed; got != (i == 1) {
					t.Errorf("connection %d: resumed %v", i, got)
				}
			}
			for _, result := range []string{"full", "resumed"} {
				if n := value(s.metrics.handshakes.WithLabelValues("3", result)); n != 1 {
					t.Errorf("%v handshakes %s", n, result)
				}
			}
		})
	}
}

// Messages of many records, more than one turn reads.
func TestLargeOverTLS(t *testing.T) {
	pki := newPKI(t)
	for _, v := range tlsVersions {
		r := echoSession()
		s := startServer(t, Config{MaxUnsent: 4 << 20}, Endpoint{TLS: pki.serverConfig(false), Upgrade: upgrading(func() *recorder { return r })})
		c := dial(t, s.addr, versionConfig(pki, v.version, pki.client(t, "CS1")))
		big := strings.Repeat("0123456789abcdef", 1<<16)
		go func() {
			for range 5 {
				_, _ = c.conn.Write(append(text(big), text("small")...))
			}
		}()
		for range 5 {
			c.expectText(big)
			c.expectText("small")
		}
		untilIdle(t, r.conn.Load()) // the turn that echoed settles after it
		if n := s.partial.Load(); n != 0 {
			t.Errorf("%d bytes are counted", n)
		}
	}
}

// How a peer can leave, and what it is called.
func TestPeerLeaves(t *testing.T) {
	pki := newPKI(t)
	for _, tt := range []struct {
		name   string
		leave  func(c *client)
		reason CloseReason
	}{
		{"close_notify", func(c *client) { c.conn.(*tls.Conn).CloseWrite() }, ReasonPeerGone},
		{"FIN", func(c *client) { c.net.Close() }, ReasonPeerGone},
		{"half-close", func(c *client) { c.net.(*net.TCPConn).CloseWrite() }, ReasonPeerGone},
		{"RST", func(c *client) { c.net.(*net.TCPConn).SetLinger(0); c.net.Close() }, ReasonPeerGone},
		{"FIN in a record", func(c *client) { c.net.Write([]byte{23, 3, 3, 0, 50, 1, 2}); c.net.Close() }, ReasonPeerGone},
		{"broken record", func(c *client) { c.net.Write([]byte{23, 3, 3, 0, 30}); c.net.Write(make([]byte, 30)) }, ReasonTLSError},
		{"plain bytes", func(c *client) { c.net.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, ReasonTLSError},
		{"close frame", func(c *client) { c.write(frame(bitFin|opClose, closePayload(1001, ""))) }, ReasonPeerClose},
	} {
		for _, when := range []string{"parked", "with data"} {
			t.Run(tt.name+"/"+when, func(t *testing.T) {
				r := echoSession()
				s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(false), Upgrade: upgrading(func() *recorder { return r })})
				c := dial(t, s.addr, clientConfig(pki))
				c.write(text("x"))
				c.expectText("x")
				if when == "with data" {
					c.write(bytes.Repeat(text("y"), 100))
				} else {
					untilIdle(t, r.conn.Load())
				}
				tt.leave(c)
				if got := r.wait(t); got != tt.reason {
					t.Errorf("closed with %s, want %s", got, tt.reason)
				}
				if err := s.Check(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// openssl's client updates its keys (and asks for ours) while the connection
// is parked, and talks on.
func TestKeyUpdate(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	pki := newPKI(t)
	got := make(chan string, 10)
	r := newRecorder()
	r.onMessage = func(c *Conn, data []byte) {
		got <- string(data)
		_ = c.Send(data)
	}
	s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(false), Upgrade: upgrading(func() *recorder { return r })})
	cmd := exec.Command(openssl, "s_client", "-connect", s.addr, "-tls1_3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	send := func(b []byte) {
		if _, err := in.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send([]byte(upgradeRequest + "\r\n"))
	select {
	case <-r.opened:
	case <-time.After(waitTime):
		t.Fatal("no upgrade")
	}
	for i, command := range []string{"k\n", "K\n", "k\n", "K\n"} {
		send(text("before"))
		if m := receive(t, got); m != "before" {
			t.Fatalf("got %q", m)
		}
		untilIdle(t, r.conn.Load())
		send([]byte(command)) // a record of its own: KEYUPDATE
		eventually(t, "key update sent", func() bool { return strings.Count(out.String(), "KEYUPDATE") == i+1 })
		untilIdle(t, r.conn.Load())
	}
	send(text("after"))
	if m := receive(t, got); m != "after" {
		t.Fatalf("got %q", m)
	}
	eventually(t, "echo with new keys", func() bool { return strings.Contains(out.String(), "after") })
}

func receive(t *testing.T, ch <-chan string) string {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(waitTime):
		t.Fatal("no message")
		return ""
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
