package ws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	pki := newPKI(t)
	for _, mode := range []string{"plain", "tls"} {
		t.Run(mode, func(t *testing.T) {
			e := Endpoint{Upgrade: func(context.Context, *Request) Response { return Response{} }}
			ccfg := clientConfig(pki)
			if mode == "tls" {
				e.TLS = pki.serverConfig(false)
			} else {
				ccfg = nil
			}
			sessions := make(chan *recorder, 1)
			e.Upgrade = func(context.Context, *Request) Response {
				r := echoSession()
				sessions <- r
				return Response{Status: 101, Session: r, Deflate: true, Ping: Ping{Interval: tick}}
			}
			// Room for all that is sent: nobody is a slow reader on a busy machine.
			s := startServer(t, Config{CloseTime: 200 * time.Millisecond, MaxUnsent: 8 << 20}, e)
			for round := range 30 {
				c := dial(t, s.addr, ccfg)
				r := <-sessions
				<-r.opened
				conn := r.conn.Load()
				var wg sync.WaitGroup
				wg.Go(func() { // the client reads all
					_, _ = io.Copy(io.Discard, c.r)
				})
				wg.Go(func() {
					for i := range 200 {
						if _, err := c.conn.Write(append(text(fmt.Sprint(i)), frame(bitFin|opPing, nil)...)); err != nil {
							return
						}
					}
				})
				for range 4 {
					wg.Go(func() {
						for i := range 100 {
							_ = conn.Send(bytes.Repeat([]byte("y"), i*20))
							if i%10 == 0 {
								conn.Pause()
								_ = conn.Info()
								_ = s.Check()
								conn.Resume()
							}
						}
					})
				}
				wg.Go(func() {
					for range round * 5 {
						_ = conn.Send([]byte("z"))
					}
					if round%2 == 0 {
						conn.Close(1000, "done", "test")
					} else {
						conn.Abort("test")
					}
				})
				if got := r.wait(t); got != "test" {
					t.Errorf("closed with %s", got)
				}
				c.net.Close()
				wg.Wait()
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Parking and waking up again and again: no wake-up is lost.
func TestParkWake(t *testing.T) {
	pki := newPKI(t)
	cycles := 100_000
	if testing.Short() || raceEnabled {
		cycles = 5_000
	}
	const conns = 8
	for _, mode := range []string{"plain", "tls"} {
		t.Run(mode, func(t *testing.T) {
			e := Endpoint{Upgrade: upgrading(echoSession)}
			ccfg := clientConfig(pki)
			if mode == "tls" {
				e.TLS = pki.serverConfig(false)
			} else {
				ccfg = nil
			}
			s := startServer(t, Config{}, e)
			var wg sync.WaitGroup
			for range conns {
				c := dial(t, s.addr, ccfg)
				c.net.SetDeadline(time.Now().Add(5 * time.Minute))
				wg.Go(func() {
					msg := text("[2,\"1\",\"Heartbeat\",{}]")
					for i := range cycles / conns / 2 {
						if _, err := c.conn.Write(msg); err != nil {
							t.Errorf("cycle %d: %v", i, err)
							return
						}
						c.net.SetReadDeadline(time.Now().Add(waitTime))
						if _, _, err := c.read(); err != nil {
							t.Errorf("cycle %d: %v", i, err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
