package fleet

import (
	"cmp"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/ocpp"
)

// testServer is a small OCPP server for both version families, written without
// any of the product's server code. It keeps a record, idempotently, and can be
// told to do wrong.
type testServer struct {
	t    testing.TB
	http *httptest.Server

	// What goes wrong. Set before stations connect, or between steps.
	boot        atomic.Value // func(station string, n int) (status string, interval int)
	loseAnswers atomic.Int64 // so many transaction messages are processed and not answered
	dropStops   atomic.Bool  // the end of transactions is acknowledged and forgotten
	doubleStart atomic.Bool  // every start makes a second record
	alterValues atomic.Bool  // meter values are stored one too high
	dropStop    atomic.Int64 // the end that brings this to zero is acknowledged and forgotten
	doubleOnce  atomic.Bool  // one start makes a second record
	crashed     atomic.Bool  // what stations tell of may be unknown
	invalidBoot atomic.Bool  // BootNotification is answered with nonsense
	password    atomic.Value // string; other passwords are refused

	mu       sync.Mutex
	stations map[string]*testStation
	nextID   int
}

// testStation is what the server knows of a station.
type testStation struct {
	server       *testServer
	id           string
	version      ocpp.Version
	seen         []string // actions, in order
	boots        int
	resultErrors int
	record       []*RecordedTransaction
	c            *serverConn // nil while offline
	connects, ends,
	pings, pongs int
	waiting  map[ocpp.MessageID]chan ocpp.Frame
	offline  int                           // events with offline:true
	onSign   func(payload json.RawMessage) // may be nil
	payloads map[string][]json.RawMessage  // by action, of those that are not transaction messages
	always   chan ocpp.Frame               // gets the answers that nobody waits for; may be nil
}

func newTestServer(t testing.TB, profile ocpp.SecurityProfile, ca *testCA) *testServer {
	s := &testServer{t: t, stations: make(map[string]*testStation), nextID: 100}
	s.boot.Store(func(string, int) (string, int) { return "Accepted", 300 })
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.upgrade))
	s.http.Config.ErrorLog = discardLog
	switch profile {
	case ocpp.ProfilePlain:
		s.http.Start()
	default:
		s.http.TLS = &tls.Config{Certificates: []tls.Certificate{*ca.issue(t, "localhost", net.IPv4(127, 0, 0, 1))}}
		if profile == ocpp.ProfileMTLS {
			s.http.TLS.ClientAuth = tls.RequireAndVerifyClientCert
			s.http.TLS.ClientCAs = ca.roots
		}
		s.http.StartTLS()
	}
	t.Cleanup(func() {
		s.mu.Lock()
		for _, st := range s.stations {
			if st.c != nil {
				st.c.Close()
			}
		}
		s.mu.Unlock()
		s.http.Close()
	})
	return s
}

func (s *testServer) target() string {
	return strings.Replace(s.http.URL, "http", "ws", 1) + "/ocpp"
}

func (s *testServer) upgrade(w http.ResponseWriter, r *http.Request) {
	id, err := ocpp.ParseStationID(r.URL.EscapedPath())
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if want, _ := s.password.Load().(string); want != "" {
		if user, password, ok := r.BasicAuth(); !ok || user != string(id) || password != want {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
	}
	version, ok := ocpp.VersionOf(r.Header.Get("Sec-WebSocket-Protocol"))
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer nc.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	c := &serverConn{Conn: nc, br: rw.Reader}
	if !ok {
		io.WriteString(nc, "\r\n")
		c.write(opClose, []byte{0x03, 0xea})
		return
	}
	fmt.Fprintf(nc, "Sec-WebSocket-Protocol: %s\r\n\r\n", version.Subprotocol())
	s.mu.Lock()
	st := s.stations[string(id)]
	if st == nil {
		st = &testStation{server: s, id: string(id), waiting: make(map[ocpp.MessageID]chan ocpp.Frame), payloads: make(map[string][]json.RawMessage)}
		s.stations[string(id)] = st
	}
	st.version, st.c = version, c
	st.connects++
	s.mu.Unlock()
	st.serve(c)
	s.mu.Lock()
	st.ends++
	if st.c == c {
		st.c = nil
	}
	s.mu.Unlock()
}

func (st *testStation) serve(c *serverConn) {
	for {
		op, data, err := c.read()
		if err != nil {
			return
		}
		switch op {
		case opClose:
			c.write(opClose, data)
			return
		case opPing:
			st.server.mu.Lock()
			st.pings++
			st.server.mu.Unlock()
			c.write(opPong, data)
		case opPong:
			st.server.mu.Lock()
			st.pongs++
			st.server.mu.Unlock()
		case opText:
			if !utf8Frame(st.server.t, data) {
				return
			}
			frame, bad := ocpp.Parse(data)
			if bad != nil && bad.Type == ocpp.TypeError && bad.ID == "-1" { // what it answers to the unreadable
				frame, bad = ocpp.Frame{Type: ocpp.TypeError, ID: "-1", Err: &ocpp.Error{Code: ocpp.RPCFrameworkError}}, nil
			}
			if bad != nil {
				st.server.t.Errorf("station %s sent %s: %v", st.id, data, bad)
				return
			}
			if frame.Type == ocpp.TypeCall {
				if reply := st.answer(frame.Action, frame.Payload); reply != nil {
					c.write(opText, ocpp.AppendResult(nil, frame.ID, encode(reply)))
				}
				continue
			}
			st.server.mu.Lock()
			if frame.Type == ocpp.TypeResultError {
				st.resultErrors++
			}
			waiter := st.waiting[frame.ID]
			if waiter == nil {
				waiter = st.always
			}
			delete(st.waiting, frame.ID)
			st.server.mu.Unlock()
			if waiter != nil {
				waiter <- frame
			}
		}
	}
}

type object = map[string]any

// answer is the server's rules: nil means that it does not answer.
func (st *testStation) answer(action string, payload json.RawMessage) any {
	s := st.server
	s.mu.Lock()
	defer s.mu.Unlock()
	st.seen = append(st.seen, action)
	if action != "MeterValues" && action != "TransactionEvent" {
		st.payloads[action] = append(st.payloads[action], append(json.RawMessage(nil), payload...))
	}
	now := time.Now().UTC().Format(time.RFC3339)
	lose := func(reply any) any {
		if s.loseAnswers.Load() > 0 {
			s.loseAnswers.Add(-1)
			return nil
		}
		return reply
	}
	switch action {
	case "BootNotification":
		st.boots++
		if s.invalidBoot.Load() {
			return object{"status": 1}
		}
		status, interval := s.boot.Load().(func(string, int) (string, int))(st.id, st.boots)
		return object{"status": status, "currentTime": now, "interval": interval}
	case "Heartbeat":
		return object{"currentTime": now}
	case "Authorize":
		status := "Accepted"
		if strings.Contains(string(payload), "BLOCKED") {
			status = "Blocked"
		}
		return object{"idTagInfo": object{"status": status}, "idTokenInfo": object{"status": status}}
	case "StartTransaction":
		return lose(st.start(payload))
	case "MeterValues":
		st.meter(payload)
		return lose(object{})
	case "StopTransaction":
		st.stop(payload)
		return lose(object{})
	case "TransactionEvent":
		st.event(payload)
		return lose(object{})
	case "SignCertificate":
		if st.onSign != nil {
			st.onSign(payload)
		}
		return object{"status": "Accepted"}
	}
	return object{}
}

// call sends a CALL to a station and returns its answer.
func (s *testServer) call(station, action string, payload any) ocpp.Frame {
	s.t.Helper()
	s.mu.Lock()
	st := s.stations[station]
	s.nextID++
	id := ocpp.MessageID("s" + strconv.Itoa(s.nextID))
	answer := make(chan ocpp.Frame, 1)
	var c *serverConn
	if st != nil {
		st.waiting[id] = answer
		c = st.c
	}
	s.mu.Unlock()
	if c == nil {
		s.t.Fatalf("station %s is offline", station)
	}
	c.write(opText, ocpp.AppendCall(nil, id, action, encode(payload), false))
	select {
	case frame := <-answer:
		return frame
	case <-time.After(10 * time.Second):
		s.t.Fatalf("station %s did not answer %s", station, action)
		return ocpp.Frame{}
	}
}

// status calls and returns the answer's status.
func (s *testServer) status(station, action string, payload any) string {
	s.t.Helper()
	frame := s.call(station, action, payload)
	if frame.Err != nil {
		return string(frame.Err.Code)
	}
	var answer simple
	json.Unmarshal(frame.Payload, &answer)
	return answer.Status
}

// look reads a station's state under the server's lock; the zero station if
// there is none yet.
func (s *testServer) look(station string, f func(*testStation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stations[station]
	if st == nil {
		st = &testStation{}
	}
	f(st)
}

func (s *testServer) saw(station, action string) (n int) {
	s.look(station, func(st *testStation) {
		for _, a := range st.seen {
			if a == action {
				n++
			}
		}
	})
	return n
}

// lastStatus is what was last reported of a connector (2.x: of an EVSE).
func (s *testServer) lastStatus(station string, connector int) (status string) {
	s.look(station, func(st *testStation) {
		for _, payload := range st.payloads["StatusNotification"] {
			var r struct {
				Connector int    `json:"connectorId"`
				EVSE      int    `json:"evseId"`
				Status    string `json:"status"`
				Status2x  string `json:"connectorStatus"`
			}
			json.Unmarshal(payload, &r)
			if cmp.Or(r.EVSE, r.Connector) == connector {
				status = r.Status + r.Status2x
			}
		}
	})
	return status
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
