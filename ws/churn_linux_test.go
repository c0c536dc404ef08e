package ws

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Thousands come and go in every way: goroutines, files, counters and the heap
// are where they were.
func TestChurn(t *testing.T) {
	pki, other := newPKI(t), newPKI(t)
	cert, wrong := pki.client(t, "CS1"), other.client(t, "CS1")
	n := 300
	if raceEnabled || testing.Short() {
		n = 60
	}
	s := startServer(t, Config{PongTime: 2 * tick, CloseTime: 2 * tick, MessageTime: 4 * tick}, Endpoint{
		TLS: pki.serverConfig(true),
		Upgrade: func(_ context.Context, r *Request) Response {
			resp := Response{Status: 101, Session: echoSession(), Deflate: true, Ping: Ping{Off: true}}
			switch r.Path {
			case "/refused":
				return Response{Status: http.StatusUnauthorized, Body: "no"}
			case "/protocol":
				resp.CloseCode, resp.CloseText = 1002, "no common subprotocol"
			case "/nopong":
				resp.Ping = Ping{Interval: tick, Require: true}
			}
			return resp
		},
	})
	cfg := clientConfig(pki, cert)
	open := func(path string) *client {
		c, err := tryDial(s.addr, cfg)
		if err != nil {
			t.Error(err)
			runtime.Goexit()
		}
		c.t = t
		if _, err := c.conn.Write([]byte(strings.Replace(upgradeRequest, "/ocpp/CS1", path, 1) + "\r\n")); err != nil {
			t.Error(err)
		}
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Error(err)
			runtime.Goexit()
		}
		c.resp = resp
		return c
	}
	gone := func(c *client) { // reads until the server ends it
		for {
			if _, _, err := c.read(); err != nil {
				c.net.Close()
				return
			}
		}
	}
	ways := map[string]func(){
		"close frame": func() {
			c := open("/a")
			_, _ = c.conn.Write(append(text("x"), frame(bitFin|opClose, closePayload(1000, ""))...))
			gone(c)
		},
		"FIN":          func() { open("/a").net.Close() },
		"RST":          func() { c := open("/a"); c.net.(*net.TCPConn).SetLinger(0); c.net.Close() },
		"close_notify": func() { c := open("/a"); c.conn.(*tls.Conn).CloseWrite(); gone(c) },
		"half a frame": func() { c := open("/a"); _, _ = c.conn.Write(text("hello")[:7]); gone(c) },
		"bad frame":    func() { c := open("/a"); _, _ = c.conn.Write([]byte{0xFF, 0}); gone(c) },
		"too big": func() {
			c := open("/a")
			_, _ = c.conn.Write([]byte{0x81, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4})
			gone(c)
		},
		"unread echo":          func() { c := open("/a"); _, _ = c.conn.Write(text(strings.Repeat("x", 200<<10))); c.net.Close() },
		"refused":              func() { open("/refused").net.Close() },
		"protocol":             func() { gone(open("/protocol")) },
		"no pong":              func() { gone(open("/nopong")) },
		"wrong CA":             func() { _ = handshake2(s.addr, clientConfig(pki, wrong)) },
		"no certificate":       func() { _ = handshake2(s.addr, clientConfig(pki)) },
		"not TLS":              func() { _ = writeAndClose(s.addr, "GET / HTTP/1.1\r\n\r\n") },
		"cut in the handshake": func() { _ = writeAndClose(s.addr, "\x16\x03\x01\x00\x80\x01") },
		"connect only":         func() { _ = writeAndClose(s.addr, "") },
	}
	run := func(way func(), n int) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					way()
				}
			})
		}
		wg.Wait()
		eventually(t, "everybody gone", func() bool { return s.open.Load() == 0 && s.accepted.Load() == 0 && s.gate.opening() == 0 })
	}
	for _, way := range ways {
		run(way, 8) // pools, stacks, label values
	}
	runtime.GC()
	goroutines, files, base := runtime.NumGoroutine(), openFiles(t), measure()
	total := int64(0)
	for name, way := range ways {
		n := n
		if name == "half a frame" || name == "no pong" || name == "protocol" { // these wait for a deadline
			n /= 4
		}
		total += int64(n)
		run(way, n)
		eventually(t, name+": goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
		eventually(t, name+": files", func() bool { return openFiles(t) <= files })
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	after := measure()
	t.Logf("%d connections: %d heap bytes each remain", total, (after.heap-base.heap)/total)
	if left := after.heap - base.heap; left > 100<<10 && left/total > 50 {
		t.Errorf("%d heap bytes remain after %d connections", left, total)
	}
}
