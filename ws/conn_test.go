package ws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startEcho starts a plain server whose connections have r as session and p as
// ping policy.
func startEcho(t testing.TB, cfg Config, p Ping, r *recorder) *testServer {
	t.Helper()
	return startServer(t, cfg, Endpoint{Upgrade: func(context.Context, *Request) Response {
		return Response{Status: http.StatusSwitchingProtocols, Session: r, Ping: p}
	}})
}

func TestPing(t *testing.T) {
	quick := Config{PingInterval: 100 * time.Millisecond, PongTime: 300 * time.Millisecond, CloseTime: 200 * time.Millisecond}
	answer := func(c *client, pong, say bool, frames int) {
		for range frames {
			first, p, err := c.read()
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("not closed while the client did this")
				}
				return
			}
			if first == bitFin|opPing && pong {
				_, _ = c.conn.Write(frame(bitFin|opPong, p))
			}
			if first == bitFin|opPing && say {
				_, _ = c.conn.Write(text("alive"))
			}
		}
	}
	for _, tt := range []struct {
		name   string
		ping   Ping
		client func(c *client)
		reason CloseReason // "": it stays
	}{
		{"ponging stays", Ping{}, func(c *client) { answer(c, true, false, 10) }, ""},
		{"never ponging stays", Ping{}, func(c *client) { answer(c, false, false, 10) }, ""},
		{"ponged once, then silent", Ping{}, func(c *client) { answer(c, true, false, 1); answer(c, false, false, 1000) }, ReasonNoPong},
		{"ponged once, then only talks", Ping{}, func(c *client) { answer(c, true, false, 1); answer(c, false, true, 20) }, ""},
		{"required, silent", Ping{Require: true}, func(c *client) { answer(c, false, false, 1000) }, ReasonNoPong},
		{"required, talks only", Ping{Require: true}, func(c *client) { answer(c, false, true, 1000) }, ReasonNoPong},
		{"required, pongs", Ping{Require: true}, func(c *client) { answer(c, true, false, 10) }, ""},
		{"own interval", Ping{Interval: 50 * time.Millisecond, Require: true}, func(c *client) { answer(c, true, false, 10) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRecorder()
			s := startEcho(t, quick, tt.ping, r)
			c := dial(t, s.addr, nil)
			tt.client(c)
			if tt.reason != "" {
				if got := r.wait(t); got != tt.reason {
					t.Errorf("closed with %s, want %s", got, tt.reason)
				}
				return
			}
			select {
			case <-r.closed:
				t.Errorf("closed with %s", r.reason)
			default:
			}
		})
	}
}

func TestPingOff(t *testing.T) {
	r := echoSession()
	s := startEcho(t, Config{PingInterval: tick}, Ping{Off: true}, r)
	c := dial(t, s.addr, nil)
	eventually(t, "time passes", func() bool { return s.wheel.ticked() > 10 })
	c.write(text("x"))
	c.expectText("x") // and nothing before
}

// ticked returns the last tick that was handled.
func (w *wheel) ticked() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func TestClose(t *testing.T) {
	const own CloseReason = "blocked"
	t.Run("peer answers", func(t *testing.T) {
		r := echoSession()
		s := startEcho(t, Config{}, Ping{Off: true}, r)
		c := dial(t, s.addr, nil)
		<-r.opened
		conn := r.conn.Load()
		conn.Close(4001, "taken over", own)
		conn.Close(4002, "too late", "late")
		if err := conn.Send([]byte("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		c.expect(bitFin|opClose, closePayload(4001, "taken over"))
		c.write(text("ignored"))
		c.write(frame(bitFin|opClose, closePayload(4001, "")))
		if got := r.wait(t); got != own {
			t.Errorf("closed with %s", got)
		}
		if _, _, err := c.read(); err != io.EOF {
			t.Errorf("after the closing handshake: %v", err)
		}
		if code := conn.PeerClose(); code != 4001 {
			t.Errorf("peer's code %d", code)
		}
		conn.Abort("late")
		conn.Resume()
	})
	t.Run("peer does not answer", func(t *testing.T) {
		r := echoSession()
		s := startEcho(t, Config{CloseTime: 100 * time.Millisecond}, Ping{Off: true}, r)
		dial(t, s.addr, nil)
		<-r.opened
		r.conn.Load().Close(1001, "", own)
		if got := r.wait(t); got != own {
			t.Errorf("closed with %s", got)
		}
	})
	t.Run("abort", func(t *testing.T) {
		r := echoSession()
		s := startEcho(t, Config{}, Ping{Off: true}, r)
		c := dial(t, s.addr, nil)
		<-r.opened
		r.conn.Load().Abort(own)
		if got := r.wait(t); got != own {
			t.Errorf("closed with %s", got)
		}
		if _, _, err := c.read(); err == nil || err == io.EOF {
			t.Errorf("client reads %v, want a reset", err)
		}
	})
	t.Run("from the session", func(t *testing.T) {
		r := newRecorder()
		r.onMessage = func(c *Conn, _ []byte) { c.Close(1008, "no", own) }
		s := startEcho(t, Config{}, Ping{Off: true}, r)
		c := dial(t, s.addr, nil)
		c.write(append(text("a"), text("b")...))
		c.expect(bitFin|opClose, closePayload(1008, "no"))
		c.write(frame(bitFin|opClose, closePayload(1008, "")))
		if got := r.wait(t); got != own {
			t.Errorf("closed with %s", got)
		}
	})
	t.Run("asked for by the answer", func(t *testing.T) {
		r := echoSession()
		s := startServer(t, Config{}, Endpoint{Upgrade: func(context.Context, *Request) Response {
			return Response{Status: 101, Session: r, CloseCode: 1002, CloseText: "no common subprotocol"}
		}})
		c := dial(t, s.addr, nil, "Sec-WebSocket-Protocol: ocpp0.1")
		if p := c.resp.Header["Sec-Websocket-Protocol"]; p != nil {
			t.Errorf("subprotocol %q", p)
		}
		c.expect(bitFin|opClose, closePayload(1002, "no common subprotocol"))
		c.net.Close()
		if got := r.wait(t); got != ReasonRefused {
			t.Errorf("closed with %s", got)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		r := echoSession()
		s := startEcho(t, Config{}, Ping{}, r)
		c := dial(t, s.addr, nil)
		<-r.opened
		go s.stop()
		c.expect(bitFin|opClose, closePayload(1001, "going away"))
		c.write(frame(bitFin|opClose, closePayload(1001, "")))
		if got := r.wait(t); got != ReasonShutdown {
			t.Errorf("closed with %s", got)
		}
		s.stop()
		if err := r.conn.Load().Send(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after the end: %v", err)
		}
	})
	t.Run("shutdown with a dead peer", func(t *testing.T) {
		r := echoSession()
		s := startEcho(t, Config{CloseTime: 100 * time.Millisecond}, Ping{}, r)
		dial(t, s.addr, nil)
		<-r.opened
		s.stop()
		if got := r.wait(t); got != ReasonShutdown {
			t.Errorf("closed with %s", got)
		}
	})
	t.Run("panic", func(t *testing.T) {
		r := newRecorder()
		r.onMessage = func(*Conn, []byte) { panic("bug") }
		s := startEcho(t, Config{}, Ping{}, r)
		c := dial(t, s.addr, nil)
		c.write(text("x"))
		if got := r.wait(t); got != ReasonPanic {
			t.Errorf("closed with %s", got)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A peer that reads nothing is cut, by bytes or by time, and costs the others
// nothing meanwhile.
func TestSlowReader(t *testing.T) {
	chunk := bytes.Repeat([]byte("x"), 32<<10)
	for _, tt := range []struct {
		name string
		cfg  Config
		send func(c *Conn) error
	}{
		{"bytes", Config{MaxUnsent: 256 << 10}, func(c *Conn) error {
			for range 10_000 {
				if err := c.Send(chunk); err != nil {
					return err
				}
			}
			return nil
		}},
		{"time", Config{MaxUnsent: 1 << 30, WriteTime: 200 * time.Millisecond}, func(c *Conn) error {
			for range 500 { // more than the kernel takes
				if err := c.Send(chunk); err != nil {
					return err
				}
			}
			return ErrSlowReader
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecorder()
			s := startEcho(t, tt.cfg, Ping{Off: true}, r)
			dial(t, s.addr, nil)
			<-r.opened
			if err := tt.send(r.conn.Load()); !errors.Is(err, ErrSlowReader) && !errors.Is(err, ErrClosed) {
				t.Errorf("Send: %v", err)
			}
			if got := r.wait(t); got != ReasonSlowReader {
				t.Errorf("closed with %s", got)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			if n := s.unsent.Load(); n != 0 {
				t.Errorf("%d unsent bytes are counted", n)
			}
		})
	}
}

// A peer that asks and does not read is not read from any more, and goes on
// when it reads again: nothing is lost.
func TestBackPressureByUnsent(t *testing.T) {
	r := echoSession()
	s := startEcho(t, Config{}, Ping{Off: true}, r)
	c := dial(t, s.addr, nil)
	const n, size = 400, 32 << 10
	go func() {
		msg := text(strings.Repeat("x", size))
		for range n {
			if _, err := c.conn.Write(msg); err != nil {
				return
			}
		}
	}()
	eventually(t, "server held back", func() bool {
		conn := r.conn.Load()
		return conn != nil && conn.Unsent() > unsentStop
	})
	for i := range n {
		if _, p, err := c.read(); err != nil || len(p) != size {
			t.Fatalf("echo %d: %d bytes, %v", i, len(p), err)
		}
	}
	select {
	case <-r.closed:
		t.Errorf("closed with %s", r.reason)
	default:
	}
}

// A message must be complete in time: half a frame, half a message, and, with
// TLS, half a record.
func TestSlowSender(t *testing.T) {
	pki := newPKI(t)
	for _, tt := range []struct {
		name string
		tls  bool
		send func(c *client)
	}{
		{"half a header", false, func(c *client) { c.write([]byte{bitFin | opText}) }},
		{"half a frame", false, func(c *client) { c.write(text("hello")[:8]) }},
		{"half a message", false, func(c *client) { c.write(frame(opText, []byte("a"))); c.write(frame(bitFin|opPing, nil)) }},
		{"half a frame after a message", false, func(c *client) { c.write(append(text("whole"), text("hello")[:8]...)) }},
		{"half a record", true, func(c *client) { c.net.Write([]byte{23, 3, 3, 1, 0, 7, 7, 7}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.tls && !releasesBuffers() {
				t.Skip("records are not looked into on this system")
			}
			r := newRecorder()
			e := Endpoint{Upgrade: upgrading(func() *recorder { return r })}
			var c *client
			if tt.tls {
				e.TLS = pki.serverConfig(false)
			}
			s := startServer(t, Config{MessageTime: 200 * time.Millisecond, CloseTime: 100 * time.Millisecond}, e)
			if tt.tls {
				c = dial(t, s.addr, clientConfig(pki))
			} else {
				c = dial(t, s.addr, nil)
			}
			tt.send(c)
			if got := r.wait(t); got != ReasonSlowSender {
				t.Errorf("closed with %s", got)
			}
			if n := s.partial.Load(); n != 0 {
				t.Errorf("%d bytes are counted", n)
			}
		})
	}
}

// Announcing much costs nothing until it comes, and all unfinished messages
// together are bounded.
func TestPartialIsBounded(t *testing.T) {
	sessions := make(chan *recorder, 100)
	s := startServer(t, Config{MaxPartial: 4 << 20}, Endpoint{Upgrade: upgrading(func() *recorder { r := newRecorder(); sessions <- r; return r })})
	announced := frame(bitFin|opText, make([]byte, 1<<20))
	var clients []*client
	for range 20 {
		c := dial(t, s.addr, nil)
		c.write(announced[:20])
		clients = append(clients, c)
	}
	for range 20 {
		r := <-sessions
		<-r.opened
		untilIdle(t, r.conn.Load())
		defer func() { sessions <- r }()
	}
	if n := s.partial.Load(); n > 20*64 {
		t.Errorf("%d bytes are kept for announcements", n)
	}
	for _, c := range clients {
		_, _ = c.conn.Write(announced[20 : 1<<20-20]) // some are cut meanwhile
	}
	eventually(t, "some are closed", func() bool { return s.open.Load() <= 8 })
	eventually(t, "within the bound", func() bool { return s.partial.Load() <= 4<<20 })
}

func TestPause(t *testing.T) {
	got := make(chan string, 1000)
	r := newRecorder()
	r.onMessage = func(c *Conn, data []byte) {
		c.Pause()
		got <- string(data)
	}
	s := startEcho(t, Config{}, Ping{Off: true}, r)
	c := dial(t, s.addr, nil)
	c.write(bytes.Join([][]byte{text("1"), text("2"), frame(opText, []byte("3")), frame(bitFin, []byte("!"))}, nil))
	c.write(frame(bitFin|opPing, []byte("p")))
	c.expect(bitFin|opPong, []byte("p")) // control frames are handled meanwhile
	for i, want := range []string{"1", "2", "3!"} {
		if m := receive(t, got); m != want {
			t.Fatalf("got %q, want %q", m, want)
		}
		if len(got) != 0 {
			t.Fatal("a message came during the pause")
		}
		if i == 2 {
			break
		}
		r.conn.Load().Resume()
	}
	// A flood during the pause is bounded.
	flood := text(strings.Repeat("x", 1000))
	written := make(chan struct{})
	var n atomic.Int64
	go func() {
		defer close(written)
		for {
			if _, err := c.conn.Write(flood); err != nil {
				return
			}
			n.Add(1)
		}
	}()
	eventually(t, "reading stops", func() bool {
		before := n.Load()
		<-time.After(20 * time.Millisecond)
		return before > 100 && n.Load() == before
	})
	if kept := s.partial.Load(); kept > maxHeld+2*scratchSize {
		t.Errorf("%d bytes are kept", kept)
	}
	// And all of it comes.
	for range 500 {
		r.conn.Load().Resume()
		if m := receive(t, got); len(m) != 1000 {
			t.Fatalf("got %d bytes", len(m))
		}
	}
	// A peer that dies meanwhile is noticed, if nobody has to read for it.
	if !releasesBuffers() {
		c.net.Close()
		<-written
		return
	}
	c.net.(interface{ SetLinger(int) error }).SetLinger(0)
	c.net.Close()
	<-written
	if got := r.wait(t); got != ReasonPeerGone {
		t.Errorf("closed with %s", got)
	}
}
