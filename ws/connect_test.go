//go:build unix

package ws

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process used so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkConnectMTLS compares the server's CPU for one new mutual-TLS
// WebSocket with that of a bare crypto/tls handshake and one message. The
// clients are another process. WS_IDLE sets how many connect.
func BenchmarkConnectMTLS(b *testing.B) {
	n := 1000
	if v, err := strconv.Atoi(os.Getenv("WS_IDLE")); err == nil {
		n = v
	}
	pki := newPKI(b)
	cert, key := pki.issue(b, "CS1", false, pki.sub, pki.subKey)
	in := idleClients{N: n, Root: pki.root.Raw, Key: marshalKey(b, key), MaxVersion: tls.VersionTLS13, Chain: [][]byte{cert.Raw, pki.sub.Raw}}
	run := func(b *testing.B, addr string) {
		in.Addr = addr
		var cpu, wall time.Duration
		for b.Loop() {
			p := idleSelf(b, in)
			start, used := time.Now(), cpuTime()
			p.step()
			wall += time.Since(start)
			cpu += cpuTime() - used
			p.stop()
		}
		b.ReportMetric(float64(cpu.Microseconds())/float64(b.N*n), "server-µs/conn")
		b.ReportMetric(float64(b.N*n)/wall.Seconds(), "conn/s")
	}
	b.Run("ws", func(b *testing.B) {
		s := startServer(b, Config{}, Endpoint{TLS: pki.serverConfig(true), Upgrade: upgrading(echoSession)})
		run(b, s.addr)
	})
	b.Run("bare", func(b *testing.B) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", pki.serverConfig(true))
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { bareUpgrade(c) })
			}
		})
		run(b, l.Addr().String())
		l.Close()
		wg.Wait()
	})
}

// bareUpgrade answers an upgrade without looking at it and holds the
// connection.
func bareUpgrade(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	if _, err := c.Read(buf); err != nil {
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n"); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c)
}

// BenchmarkEcho is one small message there and back on an idle connection.
func BenchmarkEcho(b *testing.B) {
	pki := newPKI(b)
	for _, mode := range []string{"plain", "tls"} {
		b.Run(mode, func(b *testing.B) {
			e := Endpoint{Upgrade: upgrading(echoSession)}
			cfg := clientConfig(pki)
			if mode == "tls" {
				e.TLS = pki.serverConfig(false)
			} else {
				cfg = nil
			}
			s := startServer(b, Config{}, e)
			c := dial(b, s.addr, cfg)
			c.net.SetDeadline(time.Time{})
			msg, buf := text("[2,\"1\",\"Heartbeat\",{}]"), make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.conn.Write(msg); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c.r, buf[:len(msg)-4]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
