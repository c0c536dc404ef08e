package gateway

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/bus"
	"holdfast/ocpp"
	"holdfast/ws"
)

// station is a charging station made of a socket: it says exactly what a test wants.
type station struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	http *http.Response
}

// dial connects and sends an upgrade request.
func dial(t testing.TB, address, path string, header ...string) *station {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: gw\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", path)
	for i := 0; i+1 < len(header); i += 2 {
		fmt.Fprintf(conn, "%s: %s\r\n", header[i], header[i+1])
	}
	io.WriteString(conn, "\r\n")
	s := &station{t: t, conn: conn, r: bufio.NewReader(conn)}
	if s.http, err = http.ReadResponse(s.r, nil); err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	return s
}

func (s *station) send(text string) {
	s.t.Helper()
	b := []byte{0x81}
	switch n := len(text); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	b = append(b, 0, 0, 0, 0) // a mask of zeros
	if _, err := s.conn.Write(append(b, text...)); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the next text message, or "close CODE", or "eof".
func (s *station) next() string {
	s.t.Helper()
	for {
		op, payload, err := s.frame()
		switch {
		case err != nil:
			return "eof"
		case op == 8 && len(payload) >= 2:
			return fmt.Sprint("close ", binary.BigEndian.Uint16(payload))
		case op == 1:
			return string(payload)
		}
	}
}

func (s *station) frame() (byte, []byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.r, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if n == 126 {
		var ext [2]byte
		if _, err := io.ReadFull(s.r, ext[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(ext[:]))
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(s.r, payload)
	return head[0] & 0xf, payload, err
}

func (s *station) expect(want string) {
	s.t.Helper()
	if got := s.next(); got != want {
		s.t.Fatalf("got %s, want %s", got, want)
	}
}

// site is a gateway on a real bus with a csms that the test writes.
type site struct {
	gw      *Gateway
	bus     *bus.Bus
	address string
	stop    context.CancelFunc // of the gateway and its port
	done    chan struct{}

	mu     sync.Mutex
	events []any
}

func (s *site) seen(match func(any) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if match(e) {
			n++
		}
	}
	return n
}

// admitAll admits the stations that begin with CS, under their upper-case spelling.
func admitAll(_ context.Context, c ocpp.Credentials) (ocpp.Decision, error) {
	id := strings.ToUpper(string(c.Station))
	switch {
	case strings.HasPrefix(id, "PINNED"):
		return ocpp.Decision{Allowed: true, Station: ocpp.StationID(id), Pin: ocpp.V201}, nil
	case strings.HasPrefix(id, "OLD"):
		return ocpp.Decision{Allowed: true, Station: ocpp.StationID(id), Quirks: ocpp.Quirks{AssumeV16: true}}, nil
	case strings.HasPrefix(id, "BASIC"):
		if string(c.Basic) != id+":p:w" {
			return ocpp.Decision{Reason: ocpp.ReasonWrongPassword}, nil
		}
	case strings.HasPrefix(id, "BLOCKED"):
		return ocpp.Decision{Reason: ocpp.ReasonBlocked}, nil
	case strings.HasPrefix(id, "AWAY"):
		return ocpp.Decision{}, errors.New("authority is away")
	case !strings.HasPrefix(id, "CS"):
		return ocpp.Decision{Reason: ocpp.ReasonUnknownStation}, nil
	}
	return ocpp.Decision{Allowed: true, Station: ocpp.StationID(id)}, nil
}

type testBus struct{ *bus.Bus }

func (b testBus) Attach(s ocpp.StationID) (Attachment, error) { return b.Bus.Attach(s) }

// newSite starts everything; handle answers stations' CALLs, nil: there is no csms.
func newSite(t testing.TB, handle ocpp.CallFunc, change func(*Config)) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b, err := bus.Open(t.Context(), bus.Config{Dir: t.TempDir(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s := &site{bus: b, done: make(chan struct{})}
	cfg := Config{ID: "gw1", Admit: admitAll, Bus: testBus{b}, Logger: log, HoldCalls: time.Millisecond,
		Publish: func(e any) { s.mu.Lock(); s.events = append(s.events, e); s.mu.Unlock() }}
	if change != nil {
		change(&cfg)
	}
	if s.gw, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	var running sync.WaitGroup
	if handle != nil {
		running.Go(func() { b.ServeCalls(ctx, handle) })
		eventually(t, "csms", func() bool { return b.PingCSMS(ctx) == nil })
	}
	running.Go(func() { b.ServeDown(ctx, s.gw.Deliver) })
	running.Go(func() { s.gw.Run(ctx) })
	running.Go(func() { s.gw.Serve(ctx, l, ocpp.ProfilePlain) })
	go func() { running.Wait(); close(s.done) }()
	t.Cleanup(func() { stop(); <-s.done })
	if handle != nil {
		eventually(t, "ready", func() bool { return len(s.gw.Ready()) == 0 })
	}
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

const v16 = "ocpp1.6"

// echoCalls answers each CALL with its action.
func echoCalls(_ context.Context, id ocpp.StationID, c ocpp.Call) (json.RawMessage, error) {
	switch c.Action {
	case "Fail":
		return nil, &ocpp.Error{Code: ocpp.FormatViolation, Description: "no"}
	case "Nobody":
		return nil, ocpp.ErrTimeout
	}
	return json.RawMessage(fmt.Sprintf(`{"a":%q,"s":%q}`, c.Action, id)), nil
}

func basicHeader(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

var _ ws.Session = (*conn)(nil)
