package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"holdfast/ocpp"
)

// beating is a connected station over mutual TLS that sends the same Heartbeat
// again and again and allocates nothing for it.
type beating struct {
	conn        *tls.Conn
	frame, back []byte
}

// answerHeartbeat is a csms that answers every CALL alike.
func answerHeartbeat(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) {
	return json.RawMessage(`{"currentTime":"2026-01-01T00:00:00Z"}`), nil
}

// newBeating connects a station to a gateway, NATS in between and answerHeartbeat behind.
func newBeating(t testing.TB) *beating {
	t.Helper()
	root := (*testCA)(nil).issue(t, "root", true, time.Hour)
	server, leaf := root.issue(t, "gateway", false, time.Hour), root.issue(t, "CS1", false, time.Hour)
	s := newSite(t, answerHeartbeat, nil)
	s.gw.SetTLS(TLS{Certificates: []tls.Certificate{server.pair()}, Trust: Trust{Roots: []*x509.Certificate{root.cert}}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.gw.Serve(ctx, l, ocpp.ProfileMTLS) }()
	t.Cleanup(func() { stop(); <-served })
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{leaf.pair()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET /ocpp/CS1 HTTP/1.1\r\nHost: gw\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n")
	head := make([]byte, 0, 1024)
	for n := 0; len(head) < 4 || string(head[len(head)-4:]) != "\r\n\r\n"; head = head[:n] {
		m, err := conn.Read(head[n:cap(head)])
		if n += m; err != nil {
			t.Fatal(err)
		}
	}
	const call, answer = `[2,"1","Heartbeat",{}]`, `[3,"1",{"currentTime":"2026-01-01T00:00:00Z"}]`
	b := &beating{conn: conn, frame: append([]byte{0x81, 0x80 | byte(len(call)), 0, 0, 0, 0}, call...), back: make([]byte, 2+len(answer))}
	b.beat(t)
	if got := string(b.back[2:]); got != answer {
		t.Fatalf("answer %s", got)
	}
	return b
}

// beat is one Heartbeat and its answer.
func (b *beating) beat(t testing.TB) {
	if _, err := b.conn.Write(b.frame); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b.conn, b.back); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkHeartbeat is one Heartbeat of an idle mutual-TLS station: woken, read,
// carried over NATS, answered, parked again. Its allocations are those of the
// gateway, both ends of the bus and the handler together.
func BenchmarkHeartbeat(b *testing.B) {
	s := newBeating(b)
	s.conn.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		s.beat(b)
	}
}

// TestHeartbeatKeepsNothing: what a Heartbeat allocates is garbage after it.
func TestHeartbeatKeepsNothing(t *testing.T) {
	s := newBeating(t)
	live := func() int64 {
		var m runtime.MemStats
		for range 3 { // pools are emptied by the second one
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const beats = 2000
	kept := int64(1 << 62)
	for range 4 { // what is kept is kept each time; tables and pools grow once
		before := live()
		for range beats {
			s.beat(t)
		}
		kept = min(kept, live()-before)
	}
	if kept > 2*beats {
		t.Errorf("%d heartbeats keep %d bytes", beats, kept)
	}
}
