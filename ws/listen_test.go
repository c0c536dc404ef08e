package ws

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// get sends raw bytes and returns the HTTP answer.
func get(t *testing.T, addr string, cfg *tls.Config, request string) (*http.Response, string) {
	t.Helper()
	c := dialRaw(t, addr, cfg)
	c.write([]byte(request))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("%.40q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("%.40q: after the answer: %v", request, err)
	}
	return resp, string(body)
}

func TestHTTPAnswers(t *testing.T) {
	pki := newPKI(t)
	answer := Response{Status: 401, Header: http.Header{"WWW-Authenticate": {`Basic realm="x"`}}, Body: "who are you\n"}
	for _, cfg := range []*tls.Config{nil, pki.serverConfig(false)} {
		var asked *Request
		s := startServer(t, Config{}, Endpoint{Label: "2", TLS: cfg, Upgrade: func(_ context.Context, r *Request) Response {
			asked = r
			switch r.Path {
			case "/none":
				return Response{Status: 101}
			case "/panic":
				panic("bug")
			}
			return answer
		}})
		var ccfg *tls.Config
		if cfg != nil {
			ccfg = clientConfig(pki)
		}
		resp, body := get(t, s.addr, ccfg, upgradeRequest+"\r\n")
		if resp.StatusCode != 401 || body != answer.Body || resp.Header.Get("WWW-Authenticate") == "" || !resp.Close {
			t.Errorf("%v %q", resp, body)
		}
		if asked.Path != "/ocpp/CS1" || !asked.Remote.IsValid() || (asked.TLS != nil) != (cfg != nil) {
			t.Errorf("request %+v", asked)
		}
		for path, want := range map[string]int{"/none": 500, "/panic": 500} {
			if resp, _ := get(t, s.addr, ccfg, strings.Replace(upgradeRequest, "/ocpp/CS1", path, 1)+"\r\n"); resp.StatusCode != want {
				t.Errorf("%s: %v", path, resp.Status)
			}
		}
		early := strings.Repeat(string(text("early")), 3000)
		if resp, _ := get(t, s.addr, ccfg, upgradeRequest+"\r\n"+early); resp.StatusCode != 401 {
			t.Errorf("with early messages: %v", resp.Status)
		}
		resp, _ = get(t, s.addr, ccfg, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp.StatusCode != 426 || resp.Header.Get("Upgrade") != "websocket" {
			t.Errorf("without upgrade: %v", resp)
		}
		resp, _ = get(t, s.addr, ccfg, "GET / HTTP/1.1\r\nX: "+strings.Repeat("y", 2*maxHead))
		if resp.StatusCode != 431 {
			t.Errorf("giant head: %v", resp.Status)
		}
		if n := value(s.metrics.badRequests.WithLabelValues("2", "426")); n != 1 {
			t.Errorf("%v bad requests counted", n)
		}
		eventually(t, "accounts even", func() bool { return s.accepted.Load() == 0 })
	}
}

func TestPlainToTLSPort(t *testing.T) {
	pki := newPKI(t)
	s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(false), Upgrade: upgrading(echoSession)})
	if resp, body := get(t, s.addr, nil, upgradeRequest+"\r\n"); resp.StatusCode != 400 || !strings.Contains(body, "TLS") {
		t.Errorf("%v %q", resp.Status, body)
	}
}

func TestSubprotocol(t *testing.T) {
	r := echoSession()
	s := startServer(t, Config{}, Endpoint{Upgrade: func(_ context.Context, q *Request) Response {
		return Response{Status: 101, Session: r, Subprotocol: q.Subprotocols[1]}
	}})
	c := dial(t, s.addr, nil, "Sec-WebSocket-Protocol: ocpp2.1, OCPP2.0.1")
	if got := c.resp.Header.Get("Sec-WebSocket-Protocol"); got != "OCPP2.0.1" {
		t.Errorf("answered %q", got)
	}
	if got := c.resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455 §1.3
		t.Errorf("accept %q", got)
	}
	<-r.opened
	if got := r.conn.Load().Info().Subprotocol; got != "OCPP2.0.1" {
		t.Errorf("info %q", got)
	}
}

// wasReset reports whether the server reset a connection before it said
// anything.
func wasReset(addr string) bool {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(waitTime))
	_, _ = nc.Write([]byte("G")) // the kernel keeps who says nothing from the server for a while
	_, err = nc.Read(make([]byte, 1))
	return errors.Is(err, syscall.ECONNRESET)
}

func TestMaxConnections(t *testing.T) {
	s := startServer(t, Config{MaxConnections: 3}, Endpoint{Upgrade: upgrading(echoSession)})
	var clients []*client
	for range 3 {
		clients = append(clients, dial(t, s.addr, nil))
	}
	if !wasReset(s.addr) {
		t.Error("a fourth connection was not reset")
	}
	if n := value(s.metrics.sheds.WithLabelValues(shedConnections)); n != 1 {
		t.Errorf("%v sheds counted", n)
	}
	clients[0].net.Close()
	eventually(t, "room", func() bool { return s.accepted.Load() == 2 })
	c := dial(t, s.addr, nil)
	c.write(text("x"))
	c.expectText("x")
	for _, c := range append(clients, c) {
		c.net.Close()
	}
	eventually(t, "accounts even", func() bool { return s.accepted.Load() == 0 && s.open.Load() == 0 })
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestSourceRate(t *testing.T) {
	s := startServer(t, Config{PerSourceRate: 0.001, PerSourceBurst: 2}, Endpoint{Upgrade: upgrading(echoSession)})
	for range 2 {
		c := dial(t, s.addr, nil)
		c.write(text("x"))
		c.expectText("x")
	}
	if !wasReset(s.addr) {
		t.Error("a third connection was not reset")
	}
	if n := value(s.metrics.sheds.WithLabelValues(shedSource)); n != 1 {
		t.Errorf("%v sheds counted", n)
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(2, 3)
	now := time.Unix(0, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i, tt := range []struct {
		addr  netip.Addr
		after time.Duration
		want  bool
	}{
		{a, 0, true}, {a, 0, true}, {a, 0, true}, {a, 0, false}, {b, 0, true},
		{netip.MustParseAddr("::ffff:192.0.2.1"), 0, false},
		{a, 500 * time.Millisecond, true}, {a, 0, false}, {a, time.Hour, true}, {a, 0, true}, {a, 0, true}, {a, 0, false},
	} {
		now = now.Add(tt.after)
		if got := l.allow(tt.addr, now); got != tt.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	// One IPv6 customer is one source.
	for i := range 4 {
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, byte(i), 1})
		if got := l.allow(addr, now); got != (i < 3) {
			t.Errorf("IPv6 %d: %v", i, got)
		}
	}
	// What is remembered is bounded.
	for i := range maxSources + 1000 {
		l.allow(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i)))), now)
	}
	if n := len(l.sources); n > maxSources {
		t.Errorf("%d sources", n)
	}
	if !l.allow(netip.MustParseAddr("198.51.100.1"), now) {
		t.Error("a full table refuses strangers")
	}
	if l.allow(netip.MustParseAddr("198.51.100.2"), now.Add(time.Minute)); len(l.sources) > 10 {
		t.Errorf("%d sources after a minute", len(l.sources))
	}
}

// The gate: a few are opened at once, some wait, the rest is not accepted, and
// all are served in the end.
func TestGate(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	s := startServer(t, Config{MaxOpening: 4, MaxWaiting: 6}, Endpoint{Upgrade: func(ctx context.Context, _ *Request) Response {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return Response{Status: 101, Session: echoSession()}
	}})
	const n = 30
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			c, err := tryDial(s.addr, nil)
			if err == nil {
				defer c.net.Close()
				err = c.upgrade()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "gate full", func() bool {
		return now.Load() == 4 && s.gate.waiting() == 6 && value(s.metrics.acceptPauses.WithLabelValues(pauseWaiting)) == 1
	})
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	close(release)
	wg.Wait()
	if m := most.Load(); m != 4 {
		t.Errorf("%d were opened at once", m)
	}
	eventually(t, "gate empty", func() bool { return s.gate.waiting() == 0 && s.gate.opening() == 0 && s.accepted.Load() == 0 })
}

// Who waited too long, or left meanwhile, is not opened.
func TestGateExpiry(t *testing.T) {
	for _, tt := range []struct {
		reason string
		cfg    Config
		leave  bool
	}{
		{shedExpired, Config{MaxOpening: 1, WaitTime: time.Millisecond}, false},
		{shedGone, Config{MaxOpening: 1}, true},
	} {
		release := make(chan struct{})
		var calls atomic.Int64
		s := startServer(t, tt.cfg, Endpoint{Upgrade: func(context.Context, *Request) Response {
			calls.Add(1)
			<-release
			return Response{Status: 404}
		}})
		first := dialRaw(t, s.addr, nil)
		first.write([]byte(upgradeRequest + "\r\n"))
		eventually(t, "one is opened", func() bool { return calls.Load() == 1 })
		leave := func() {}
		if tt.leave { // brought to the gate itself: the kernel may hold back who says nothing
			client, server := tcpPair(t)
			leave = func() { client.Close() }
			s.accepted.Add(1)
			s.gate.put(t.Context(), &arrival{ctx: t.Context(), conn: server, ep: &endpoint{}, since: time.Now()}, func() {})
		} else {
			second := dialRaw(t, s.addr, nil)
			second.write([]byte(upgradeRequest + "\r\n"))
		}
		eventually(t, "one waits", func() bool { return s.gate.waiting() == 1 })
		leave()
		<-time.After(5 * time.Millisecond) // WaitTime
		close(release)
		eventually(t, tt.reason, func() bool { return value(s.metrics.sheds.WithLabelValues(tt.reason)) == 1 })
		if calls.Load() != 1 {
			t.Errorf("%s: the second was opened", tt.reason)
		}
	}
}

// Silent connections keep nobody out: on Linux the kernel holds them back, then
// they take turns with those in line. In the end they are reset.
func TestSilentConnections(t *testing.T) {
	s := startServer(t, Config{MaxOpening: 2, MaxWaiting: 100, HandshakeTime: 3 * time.Second}, Endpoint{Upgrade: upgrading(echoSession)})
	for range 3 { // brought to the gate themselves: some kernels hold none back
		dialRaw(t, s.addr, nil)
		a, b := tcpPair(t)
		t.Cleanup(func() { a.Close() })
		if !s.gate.put(t.Context(), &arrival{ctx: t.Context(), conn: b, ep: &endpoint{}, since: time.Now()}, func() {}) {
			t.Fatal("not taken")
		}
		s.accepted.Add(1)
	}
	c := dial(t, s.addr, nil)
	c.write(text("x"))
	c.expectText("x")
	late, end := tcpPair(t) // silent for longer than it is given
	defer late.Close()
	s.accepted.Add(1)
	s.gate.put(t.Context(), &arrival{ctx: t.Context(), conn: end, ep: &endpoint{}, since: time.Now().Add(-s.cfg.WaitTime + time.Second)}, func() {})
	eventually(t, "reset", func() bool { return value(s.metrics.sheds.WithLabelValues(shedSilent)) >= 1 })
}

// tcpPair is the two ends of a connection.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// Slots: those that began go before those in line, and at most slots compute.
func TestSlots(t *testing.T) {
	order := make(chan string, 3)
	g := &gate{max: 8, maxWait: 8, slots: 1}
	names := make(map[*arrival]string)
	first, fresh := new(arrival), new(arrival)
	names[first], names[fresh] = "first", "fresh"
	waits, spoke := make(chan struct{}), make(chan struct{})
	g.open = func(a *arrival) {
		if a == first {
			g.release() // waits for its peer
			close(waits)
			<-spoke
			g.acquire()
		}
		order <- names[a]
		g.release()
	}
	if !g.put(t.Context(), first, nil) {
		t.Fatal("not taken")
	}
	<-waits
	g.acquire() // somebody computes
	if !g.put(t.Context(), fresh, nil) {
		t.Fatal("not taken")
	}
	if g.opening() != 1 || g.waiting() != 1 || g.running() != 1 {
		t.Errorf("%d openings, %d wait, %d compute: a connection without a slot has a goroutine", g.opening(), g.waiting(), g.running())
	}
	close(spoke)
	eventually(t, "the first waits for its next slot", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.begun) == 1 })
	g.release()
	if a, b := <-order, <-order; a != "first" || b != "fresh" {
		t.Errorf("order %s, %s", a, b)
	}
	g.close(func(*arrival) { t.Error("somebody was left in line") })
	if g.running() != 0 || g.opening() != 0 {
		t.Errorf("%d compute, %d are opened at the end", g.running(), g.opening())
	}
}

// flakyListener fails n times before it accepts.
type flakyListener struct {
	net.Listener
	fails atomic.Int64
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsPause(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &flakyListener{Listener: inner}
	l.fails.Store(4)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() {
		if err := s.Serve(ctx, l, Endpoint{Upgrade: upgrading(echoSession)}); err != nil {
			t.Error(err)
		}
	})
	c := dial(t, inner.Addr().String(), nil)
	c.write(text("x"))
	c.expectText("x")
	if n := value(s.metrics.acceptPauses.WithLabelValues(pauseFiles)); n != 4 {
		t.Errorf("%v pauses", n)
	}
	cancel()
	wg.Wait()
}

func TestListenerLost(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(t.Context(), l, Endpoint{Upgrade: upgrading(echoSession)}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	if err := s.Serve(t.Context(), l, Endpoint{}); err == nil {
		t.Error("an endpoint without Upgrade is served")
	}
}

// proxyHeader builds a PROXY protocol v2 header.
func proxyHeader(command, family byte, body []byte) []byte {
	b := append([]byte(proxySignature), 0x20|command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

func TestProxyProtocol(t *testing.T) {
	pki := newPKI(t)
	v4 := proxyHeader(1, 0x11, []byte{192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0, 80})
	v6 := proxyHeader(1, 0x21, append(append(make([]byte, 15), 7), append(make([]byte, 16), 0x30, 0x39, 0, 80)...))
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, tt := range []struct {
		name   string
		trust  []netip.Prefix
		header []byte
		remote string // "": refused
	}{
		{"IPv4", trusted, v4, "192.0.2.7:12345"},
		{"IPv6", trusted, v6, "[::7]:12345"},
		{"IPv4 with TLV", trusted, proxyHeader(1, 0x11, append([]byte{192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0, 80}, 4, 0, 1, 0)), "192.0.2.7:12345"},
		{"health check", trusted, proxyHeader(0, 0, nil), "127.0.0.1"},
		{"no header from a proxy", trusted, nil, ""},
		{"unknown family", trusted, proxyHeader(1, 0x31, make([]byte, 216)), ""},
		{"unknown command", trusted, proxyHeader(2, 0x11, make([]byte, 12)), ""},
		{"short", trusted, proxyHeader(1, 0x11, make([]byte, 4)), ""},
		{"version 1", trusted, []byte("PROXY TCP4 192.0.2.7 127.0.0.1 12345 80\r\n"), ""},
		{"nobody is trusted", nil, v4, ""},
		{"others are trusted", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, v4, ""},
		{"no proxy at all", nil, nil, "127.0.0.1"},
	} {
		for _, secure := range []bool{false, true} {
			var remote netip.AddrPort
			e := Endpoint{TrustProxy: tt.trust, Upgrade: func(ctx context.Context, r *Request) Response {
				remote = r.Remote
				return Response{Status: 404}
			}}
			if secure {
				e.TLS = pki.serverConfig(false)
			}
			s := startServer(t, Config{}, e)
			c := dialRaw(t, s.addr, nil)
			c.write(tt.header)
			if secure {
				c.conn = tls.Client(c.net, clientConfig(pki))
				c.r.Reset(c.conn)
			}
			err := c.upgrade()
			if tt.remote == "" {
				if remote.IsValid() {
					t.Errorf("%s: accepted as %v", tt.name, remote)
				}
			} else if !strings.HasPrefix(remote.String(), tt.remote) {
				t.Errorf("%s: remote %v, want %s (%v)", tt.name, remote, tt.remote, err)
			}
			s.stop()
		}
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{MaxMessage: -1}, {PongTime: -1}, {PerSourceRate: -1}, {MaxPartial: -1}, {MaxMessage: 1 << 31}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
