package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestUpgrade is the table of HTTP answers.
func TestUpgrade(t *testing.T) {
	s := newSite(t, echoCalls, nil)
	for _, tt := range []struct {
		path   string
		header []string
		status int
		sub    string
	}{
		{"/ocpp/CS1", []string{"Sec-WebSocket-Protocol", v16}, 101, v16},
		{"//ocpp///cs1/", []string{"Sec-WebSocket-Protocol", "ocpp9, ocpp2.0.1,ocpp1.6"}, 101, "ocpp2.0.1"},
		{"/ocpp/CS1", []string{"Sec-WebSocket-Protocol", "OCPP1.6"}, 101, "OCPP1.6"},
		{"/ocpp/CS1", []string{"Sec-WebSocket-Protocol", "ocpp1.6, ocpp2.1"}, 101, v16},
		{"/ocpp/PINNED", []string{"Sec-WebSocket-Protocol", "ocpp1.6, ocpp2.0.1"}, 101, "ocpp2.0.1"},
		{"/ocpp/OLD", nil, 101, ""},
		{"/ocpp/who", []string{"Sec-WebSocket-Protocol", v16}, 404, ""},
		{"/", []string{"Sec-WebSocket-Protocol", v16}, 404, ""},
		{"/ocpp/CS%2", []string{"Sec-WebSocket-Protocol", v16}, 404, ""},
		{"/ocpp/BLOCKED", []string{"Sec-WebSocket-Protocol", v16}, 403, ""},
		{"/ocpp/AWAY", []string{"Sec-WebSocket-Protocol", v16}, 503, ""},
		{"/ocpp/BASIC", []string{"Sec-WebSocket-Protocol", v16}, 401, ""},
		{"/ocpp/BASIC", []string{"Sec-WebSocket-Protocol", v16, "Authorization", basicHeader("BASIC:x")}, 401, ""},
		{"/ocpp/BASIC", []string{"Sec-WebSocket-Protocol", v16, "Authorization", "bAsIc  %%%"}, 401, ""},
		{"/ocpp/BASIC", []string{"Sec-WebSocket-Protocol", v16, "Authorization", strings.Replace(basicHeader("BASIC:p:w"), "Basic", "basic", 1)}, 101, v16},
	} {
		st := dial(t, s.address, tt.path, tt.header...)
		if st.http.StatusCode != tt.status || st.http.Header.Get("Sec-WebSocket-Protocol") != tt.sub {
			t.Errorf("%s %v: %d %q, want %d %q", tt.path, tt.header, st.http.StatusCode, st.http.Header.Get("Sec-WebSocket-Protocol"), tt.status, tt.sub)
		}
		if tt.status == 401 && st.http.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", tt.path)
		}
		st.conn.Close()
	}
	// No acceptable subprotocol: 101 without the header, then closed at once.
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", "ocpp0.1")
	if st.http.StatusCode != 101 || st.http.Header.Get("Sec-WebSocket-Protocol") != "" {
		t.Errorf("wrong subprotocol: %d", st.http.StatusCode)
	}
	st.expect("close 1002")
	strict := newSite(t, echoCalls, func(c *Config) { c.RefuseSubprotocol, c.HideUnknown = true, true })
	if st := dial(t, strict.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", "ocpp0.1"); st.http.StatusCode != 400 {
		t.Errorf("wrong subprotocol, strict: %d", st.http.StatusCode)
	}
	if st := dial(t, strict.address, "/ocpp/who", "Sec-WebSocket-Protocol", v16); st.http.StatusCode != 401 {
		t.Errorf("hidden unknown: %d", st.http.StatusCode)
	}
}

// TestCallsUp takes CALLs of a station through: answers, errors, silence, order,
// and what is not OCPP-J.
func TestCallsUp(t *testing.T) {
	s := newSite(t, echoCalls, nil)
	for version, spelled := range map[ocpp.Version]string{ocpp.V16: "FormationViolation", ocpp.V201: "FormatViolation", ocpp.V21: "FormatViolation"} {
		st := dial(t, s.address, "/ocpp/cs1", "Sec-WebSocket-Protocol", version.Subprotocol())
		st.send(`[2,"b","BootNotification",{}]`) // right behind the 101
		st.expect(`[3,"b",{"a":"BootNotification","s":"CS1"}]`)
		st.send(`[2,"f","Fail",{}]`)
		st.expect(`[4,"f","` + spelled + `","no",{}]`)
		st.send(`[2,"1"]`)
		st.expect(`[4,"1","ProtocolError","a CALL has 4 elements, this has 2",{}]`)
		st.send(`[2,"17","Heartbeat",{`)
		st.expect(`[4,"17","` + spelled + `","not a JSON array",{}]`)
		st.send(`not json`)
		if version != ocpp.V16 {
			st.expect(`[4,"-1","RpcFrameworkError","not a JSON array",{}]`)
		}
		st.send(`[9,"9","Heartbeat",{}]`)
		if version == ocpp.V201 {
			st.expect(`[4,"9","MessageTypeNotSupported","message type 9",{}]`)
		}
		st.send(`pong`)
		st.send(`[3,"nobody asked",{}]`)
		st.send(`[2,"n","Nobody",{}]`) // no answer: the station repeats
		for i := range 3 * maxWaiting {
			st.send(fmt.Sprintf(`[2,"%d","Heartbeat",{}]`, i))
		}
		for i := range 3 * maxWaiting {
			st.expect(fmt.Sprintf(`[3,"%d",{"a":"Heartbeat","s":"CS1"}]`, i))
		}
		st.conn.Close()
	}
}

// TestCallsDown takes CALLs to a station through, with each outcome, one in
// flight at a time, also while the station's own CALL is open.
func TestCallsDown(t *testing.T) {
	hold := make(chan struct{})
	s := newSite(t, func(ctx context.Context, id ocpp.StationID, c ocpp.Call) (json.RawMessage, error) {
		if c.Action == "Held" {
			select {
			case <-hold:
			case <-t.Context().Done():
			}
		}
		return echoCalls(ctx, id, c)
	}, nil)
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
	call := func(action string) chan result {
		ch := make(chan result, 1)
		go func() {
			p, err := s.bus.CallStation(t.Context(), "cs1", ocpp.Call{Version: ocpp.V16, Action: action, Payload: []byte(`{}`)})
			ch <- result{p, err}
		}()
		return ch
	}
	next := func() (id, action string) {
		var f []json.RawMessage
		if err := json.Unmarshal([]byte(st.next()), &f); err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(f[1], &id)
		json.Unmarshal(f[2], &action)
		return id, action
	}
	st.send(`[2,"h","Held",{}]`) // the directions are independent
	a := call("A")
	id, action := next()
	b := call("B")
	st.send(`[3,"` + id + `",{"got":"` + action + `"}]`)
	if r := <-a; string(r.payload) != `{"got":"A"}` || r.err != nil {
		t.Errorf("A: %s %v", r.payload, r.err)
	}
	st.send(`[3,"` + id + `",{"got":"twice"}]`)
	id2, action := next()
	if action != "B" || id2 == id || len(id2) > 36 {
		t.Errorf("second call: %s %q", action, id2)
	}
	st.send(`[4,"` + id2 + `","NotSupported","no",{"x":1}]`)
	if r := <-b; r.err == nil || r.err.Error() != "NotSupported: no" {
		t.Errorf("B: %v", r.err)
	}
	c := call("C")
	id, _ = next()
	st.send(`[3,"` + id + `",`)
	if r := <-c; !errors.Is(r.err, ocpp.ErrInvalidAnswer) {
		t.Errorf("broken answer: %v", r.err)
	}
	close(hold)
	st.expect(`[3,"h",{"a":"Held","s":"CS1"}]`)
}

// TestTimeouts: a station that leaves CALLs without an answer is cut in the end.
func TestTimeouts(t *testing.T) {
	s := newSite(t, echoCalls, func(c *Config) { c.CallTime = 300 * time.Millisecond })
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
	for i := range maxTimeouts {
		_, err := s.bus.CallStation(t.Context(), "CS1", ocpp.Call{Version: ocpp.V16, Action: "D", Payload: []byte(`{}`)})
		if !errors.Is(err, ocpp.ErrTimeout) {
			t.Errorf("timeout %d: %v", i, err)
		}
		st.next()
	}
	st.expect("close 1001") // it answers no CALL: it may recover by reconnecting
	st.conn.Close()
	eventually(t, "offline", func() bool {
		_, err := s.bus.CallStation(t.Context(), "CS1", ocpp.Call{Version: ocpp.V16, Action: "E"})
		return errors.Is(err, ocpp.ErrOffline)
	})
}

// TestTakeover: the newest connection wins, the old one's CALL fails at once and
// its end takes nothing from the new one.
func TestTakeover(t *testing.T) {
	s := newSite(t, echoCalls, nil)
	for round := range 20 {
		old := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
		eventually(t, "registered", func() bool { return s.gw.lookup("CS1") != nil })
		failed := make(chan error, 1)
		go func() {
			_, err := s.bus.CallStation(t.Context(), "CS1", ocpp.Call{Version: ocpp.V16, Action: "Reset"})
			failed <- err
		}()
		old.next()
		fresh := dial(t, s.address, "/ocpp/cs1", "Sec-WebSocket-Protocol", v16)
		if err := <-failed; !errors.Is(err, ocpp.ErrConnectionLost) {
			t.Fatalf("round %d: call in flight: %v", round, err)
		}
		old.expect("close 4001")
		old.conn.Close()
		go func() {
			_, err := s.bus.CallStation(t.Context(), "CS1", ocpp.Call{Version: ocpp.V16, Action: "Reset"})
			failed <- err
		}()
		f := fresh.next()
		fresh.send(`[3,` + strings.SplitN(f, ",", 3)[1] + `,{}]`)
		if err := <-failed; err != nil {
			t.Fatalf("round %d: call to the new connection: %v", round, err)
		}
		fresh.conn.Close()
		eventually(t, "gone", func() bool { return s.gw.lookup("CS1") == nil })
	}
	// Another gateway: a newer epoch wins, an older one changes nothing.
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
	eventually(t, "registered", func() bool { return s.gw.lookup("CS1") != nil })
	epoch := s.gw.lookup("CS1").epoch
	s.gw.Taken(ocpp.Connected{Station: "cs1", Gateway: "gw2", Epoch: epoch - 1})
	st.send(`[2,"1","Heartbeat",{}]`)
	st.expect(`[3,"1",{"a":"Heartbeat","s":"CS1"}]`)
	s.gw.Taken(ocpp.Connected{Station: "cs1", Gateway: "gw2", Epoch: epoch + 1})
	st.expect("close 4001")
	if err := s.gw.Check(); err != nil {
		t.Error(err)
	}
}

// TestAway: without csms new stations get 503, and after AwayTime those that are
// here are disconnected.
func TestAway(t *testing.T) {
	s := newSite(t, nil, func(c *Config) { c.AwayTime = 10 * time.Millisecond })
	eventually(t, "not ready", func() bool { return len(s.gw.Ready()) > 0 })
	if st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16); st.http.StatusCode != 503 {
		t.Errorf("without csms: %d", st.http.StatusCode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.bus.ServeCalls(ctx, echoCalls) }()
	eventually(t, "ready", func() bool { return len(s.gw.Ready()) == 0 })
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
	st.send(`[2,"1","Heartbeat",{}]`)
	st.expect(`[3,"1",{"a":"Heartbeat","s":"CS1"}]`)
	cancel()
	<-served
	st.send(`[2,"2","Heartbeat",{}]`) // no answer
	st.expect("close 1001")
}

// TestDrain: close frames for everyone, those in a transaction last, and nobody new.
func TestDrain(t *testing.T) {
	s := newSite(t, echoCalls, nil)
	charging := dial(t, s.address, "/ocpp/CS0", "Sec-WebSocket-Protocol", v16)
	charging.send(`[2,"1","StartTransaction",{}]`)
	charging.next()
	var idle []*station
	for i := range 5 {
		idle = append(idle, dial(t, s.address, fmt.Sprintf("/ocpp/CS%d", i+1), "Sec-WebSocket-Protocol", v16))
	}
	eventually(t, "all", func() bool { return len(s.gw.all()) == 6 })
	var order atomic.Int32
	done := make(chan struct{})
	go func() { s.gw.Drain(t.Context(), 120*time.Millisecond); close(done) }()
	for _, st := range idle {
		go func() { st.next(); order.Add(1); st.conn.Close() }()
	}
	charging.expect("close 1001")
	if n := order.Load(); n == 0 {
		t.Error("the charging station was closed first")
	}
	charging.conn.Close()
	<-done
	if st := dial(t, s.address, "/ocpp/CS9", "Sec-WebSocket-Protocol", v16); st.http.StatusCode != 503 {
		t.Errorf("while draining: %d", st.http.StatusCode)
	}
	connects := s.seen(func(e any) bool { _, ok := e.(*ocpp.Connected); return ok })
	disconnects := s.seen(func(e any) bool { _, ok := e.(*ocpp.Disconnected); return ok })
	if connects != 6 || disconnects != 6 {
		t.Errorf("%d connects, %d disconnects told", connects, disconnects)
	}
}

// TestChurn: connections of every kind leave no goroutine and no file behind.
func TestChurn(t *testing.T) {
	s := newSite(t, echoCalls, nil)
	round := func(n int) {
		for i := range n {
			switch st := (*station)(nil); i % 5 {
			case 0: // clean close
				st = dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
				st.conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
				st.next()
				st.conn.Close()
			case 1: // lost
				dial(t, s.address, "/ocpp/CS2", "Sec-WebSocket-Protocol", v16).conn.Close()
			case 2: // unknown
				dial(t, s.address, "/ocpp/who", "Sec-WebSocket-Protocol", v16).conn.Close()
			case 3: // wrong subprotocol
				dial(t, s.address, "/ocpp/CS3", "Sec-WebSocket-Protocol", "x").conn.Close()
			case 4: // lost in the middle of its own CALL
				st = dial(t, s.address, "/ocpp/CS4", "Sec-WebSocket-Protocol", v16)
				st.send(`[2,"1","Heartbeat",{}]`)
				st.conn.Close()
			}
		}
		eventually(t, "all gone", func() bool { return len(s.gw.all()) == 0 && s.gw.ws.Check() == nil })
	}
	round(50)
	eventually(t, "quiet", func() bool { return runtime.NumGoroutine() < 200 })
	goroutines, files := settled(t), openFiles(t)
	round(1000)
	eventually(t, "goroutines back", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	eventually(t, "files back", func() bool { return openFiles(t) <= files+2 })
}

func settled(t *testing.T) int {
	n := runtime.NumGoroutine()
	for range 50 {
		time.Sleep(time.Millisecond)
		n = min(n, runtime.NumGoroutine())
	}
	return n
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(list)
}
