package ws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// waitTime bounds every wait of the tests; nothing is asserted about times.
const waitTime = 20 * time.Second

// eventually polls cond until it holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTime)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, waitTime)
		}
		runtime.Gosched()
		<-time.After(time.Millisecond)
	}
}

// testPKI is a root, an intermediate and leaves below it.
type testPKI struct {
	root, sub       *x509.Certificate
	rootKey, subKey *ecdsa.PrivateKey
	server          tls.Certificate
	pool            *x509.CertPool
	serial          atomic.Int64
}

func newPKI(t testing.TB) *testPKI {
	t.Helper()
	p := &testPKI{pool: x509.NewCertPool()}
	p.root, p.rootKey = p.issue(t, "root", true, nil, nil)
	p.sub, p.subKey = p.issue(t, "station CA", true, p.root, p.rootKey)
	p.pool.AddCert(p.root)
	cert, key := p.issue(t, "localhost", false, p.sub, p.subKey)
	p.server = tls.Certificate{Certificate: [][]byte{cert.Raw, p.sub.Raw}, PrivateKey: key}
	return p
}

func (p *testPKI) issue(t testing.TB, cn string, ca bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(p.serial.Add(1)), Subject: pkix.Name{CommonName: cn, Organization: []string{"Operator"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{cn}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if ca {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	if parent == nil {
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// client returns a client certificate with its intermediate.
func (p *testPKI) client(t testing.TB, cn string) tls.Certificate {
	t.Helper()
	cert, key := p.issue(t, cn, false, p.sub, p.subKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, p.sub.Raw}, PrivateKey: key}
}

func (p *testPKI) serverConfig(mutual bool) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{p.server}}
	if mutual {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, p.pool
	}
	return cfg
}

// testServer is a running Server with one listener.
type testServer struct {
	*Server
	t    testing.TB
	addr string
	stop func() // ends it and waits
}

func startServer(t testing.TB, cfg Config, e Endpoint) *testServer {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		if err := s.Serve(ctx, l, e); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	ts := &testServer{Server: s, t: t, addr: l.Addr().String(), stop: sync.OnceFunc(func() { cancel(); wg.Wait() })}
	t.Cleanup(ts.stop)
	return ts
}

// recorder is a session that records and does what its hooks say.
type recorder struct {
	onOpen    func(c *Conn)
	onMessage func(c *Conn, data []byte)
	onBinary  func(c *Conn, data []byte)

	conn   atomic.Pointer[Conn]
	opened chan struct{}
	closed chan struct{}
	reason CloseReason // after closed
}

func newRecorder() *recorder {
	return &recorder{opened: make(chan struct{}), closed: make(chan struct{})}
}

func (r *recorder) Opened(c *Conn) {
	r.conn.Store(c)
	if r.onOpen != nil {
		r.onOpen(c)
	}
	close(r.opened)
}

func (r *recorder) Message(c *Conn, data []byte) {
	if r.onMessage != nil {
		r.onMessage(c, data)
	}
}

func (r *recorder) Binary(c *Conn, data []byte) {
	if r.onBinary != nil {
		r.onBinary(c, data)
	}
}

func (r *recorder) Closed(c *Conn, reason CloseReason) {
	r.reason = reason
	close(r.closed) // a second call panics
}

func (r *recorder) wait(t testing.TB) CloseReason {
	t.Helper()
	select {
	case <-r.closed:
		return r.reason
	case <-time.After(waitTime):
		t.Fatal("session was not closed")
		return ""
	}
}

// echoSession is an echo for text and binary.
func echoSession() *recorder {
	r := newRecorder()
	r.onMessage = func(c *Conn, data []byte) { _ = c.Send(data) }
	r.onBinary = func(c *Conn, data []byte) { _ = c.SendBinary(data) }
	return r
}

// upgrading accepts everything with the session that next returns.
func upgrading(next func() *recorder) func(context.Context, *Request) Response {
	return func(context.Context, *Request) Response {
		return Response{Status: http.StatusSwitchingProtocols, Session: next(), Ping: Ping{Off: true}}
	}
}

// client is a raw WebSocket client.
type client struct {
	t    testing.TB
	net  net.Conn // TCP
	conn net.Conn // TLS, or TCP
	r    *bufio.Reader
	resp *http.Response
}

const upgradeRequest = "GET /ocpp/CS1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// dialRaw opens TCP and, with cfg, TLS.
func dialRaw(t testing.TB, addr string, cfg *tls.Config) *client {
	t.Helper()
	c, err := tryDial(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	t.Cleanup(func() { c.net.Close() })
	return c
}

func tryDial(addr string, cfg *tls.Config) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(2 * waitTime))
	c := &client{net: nc, conn: nc}
	if cfg != nil {
		tc := tls.Client(nc, cfg)
		if err := tc.Handshake(); err != nil {
			nc.Close()
			return nil, err
		}
		c.conn = tc
	}
	c.r = bufio.NewReader(c.conn)
	return c, nil
}

// dial opens a WebSocket; headers are added to the request.
func dial(t testing.TB, addr string, cfg *tls.Config, headers ...string) *client {
	t.Helper()
	c := dialRaw(t, addr, cfg)
	if err := c.upgrade(headers...); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) upgrade(headers ...string) error {
	req := upgradeRequest
	for _, h := range headers {
		req += h + "\r\n"
	}
	if _, err := io.WriteString(c.conn, req+"\r\n"); err != nil {
		return err
	}
	var err error
	if c.resp, err = http.ReadResponse(c.r, nil); err != nil {
		return err
	}
	if c.resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %s", c.resp.Status)
	}
	return nil
}

// frame builds a masked frame; first is its first byte.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, bitMask|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, bitMask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bitMask|127), uint64(n))
	}
	key := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, payload...)
	unmask(b[at:], key)
	return b
}

func text(s string) []byte { return frame(bitFin|opText, []byte(s)) }

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("client writes: %v", err)
	}
}

// read reads one frame of the server.
func (c *client) read() (first byte, payload []byte, err error) {
	var h [10]byte
	if _, err := io.ReadFull(c.r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(c.r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(c.r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	if n > 64<<20 {
		return 0, nil, errors.New("server sent a masked or giant frame")
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return h[0], payload, err
}

func (c *client) expect(first byte, payload []byte) {
	c.t.Helper()
	f, p, err := c.read()
	if err != nil {
		c.t.Fatalf("client reads: %v", err)
	}
	if f != first || !bytes.Equal(p, payload) {
		c.t.Fatalf("got frame %#x of %d bytes %.100q, want %#x of %d bytes %.100q", f, len(p), p, first, len(payload), payload)
	}
}

func (c *client) expectText(s string) { c.t.Helper(); c.expect(bitFin|opText, []byte(s)) }

// expectClose reads up to a close frame and checks its code (0: none) and that
// the server then ends the connection.
func (c *client) expectClose(code uint16) {
	c.t.Helper()
	for {
		f, p, err := c.read()
		if err != nil {
			c.t.Fatalf("client waits for close %d: %v", code, err)
		}
		if f != bitFin|opClose {
			continue
		}
		got := uint16(0)
		if len(p) >= 2 {
			got = binary.BigEndian.Uint16(p)
		}
		if got != code {
			c.t.Fatalf("closed with %d %q, want %d", got, p, code)
		}
		break
	}
	if f, _, err := c.read(); err == nil {
		c.t.Fatalf("frame %#x after the close frame", f)
	}
}

func clientConfig(p *testPKI, certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: p.pool, ServerName: "localhost", Certificates: certs}
}

// TestMain fails the package when goroutines are left.
func TestMain(m *testing.M) {
	if os.Getenv(clientEnv) != "" {
		if err := runIdleClients(); err != nil && !errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr, "clients:", err)
		}
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		deadline := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > 2 && time.Now().Before(deadline) {
			runtime.Gosched()
		}
		if n := runtime.NumGoroutine(); n > 2 {
			buf := make([]byte, 1<<20)
			fmt.Printf("%d goroutines are left:\n%s\n", n, buf[:runtime.Stack(buf, true)])
			code = 1
		}
	}
	if code != 0 {
		os.Exit(code)
	}
}

// value reads a counter or gauge.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	if out.Counter != nil {
		return out.Counter.GetValue()
	}
	return out.Gauge.GetValue()
}
