package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestProbe makes each kind of faulty attempt over each security profile, and
// many of them, and looks for what is left behind.
func TestProbe(t *testing.T) {
	ca := newTestCA(t)
	for profile := ocpp.ProfilePlain; profile <= ocpp.ProfileMTLS; profile++ {
		t.Run(profile.Label(), func(t *testing.T) {
			s := newTestServer(t, profile, ca)
			if profile != ocpp.ProfileMTLS {
				s.password.Store("secret")
			}
			id := Identity{ID: "A b|c", Profile: profile, Password: "secret", Certificate: ca.issue(t, "A b|c")}
			f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{profile: s.target()}, Roots: ca.anchors(), Stations: []Identity{id}})
			if err != nil {
				t.Fatal(err)
			}
			goroutines, files := runtime.NumGoroutine(), openFiles(t)
			for _, tt := range []struct {
				fault Fault
				only  ocpp.SecurityProfile // zero: every profile
				kind  errorKind            // errorKinds: admitted
			}{
				{NoFault, 0, errorKinds},
				{CleanClose, 0, errorKinds},
				{Cut, 0, errorKinds},
				{FailedHandshake, 0, errorKinds},
				{WrongPassword, ocpp.ProfilePlain, errorUnauthorized},
				{WrongPassword, ocpp.ProfileTLS, errorUnauthorized},
				{WrongSubprotocol, 0, errorSubprotocol},
				{NoCertificate, ocpp.ProfileMTLS, errorTLS},
			} {
				if tt.only != 0 && tt.only != profile {
					continue
				}
				for range 20 {
					err := f.Probe(t.Context(), "a B|c", tt.fault)
					e, refused := errors.AsType[*connectError](err)
					if tt.kind == errorKinds && err != nil || tt.kind != errorKinds && (!refused || e.kind != tt.kind) {
						t.Fatalf("fault %d: %v", tt.fault, err)
					}
				}
			}
			if err := f.Probe(t.Context(), "A b|c", NoSubprotocol); !closedWith(err, closeProtocol) {
				t.Errorf("no subprotocol: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := f.Probe(ctx, "A b|c", Silent); err == nil {
				t.Error("silent: closed without an error")
			}
			if err := f.Probe(t.Context(), "nobody", NoFault); err == nil {
				t.Error("unknown station")
			}
			eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines+1 }) // the server's keep-alive
			eventually(t, "no file left", func() bool { return openFiles(t) <= files })
		})
	}
}

func closedWith(err error, code int) bool {
	e, ok := errors.AsType[*closeError](err)
	return ok && e.code == code
}

// TestProvoke cuts, closes and silences a running station.
func TestProvoke(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) { c.Behaviour = passive() })
	connects := func(n int) {
		t.Helper()
		eventually(t, "connection", func() bool { return f.Stats().Connects == uint64(n) && f.Stats().Connected[1] == 1 })
	}
	connects(1)
	for i, fault := range []Fault{Cut, CleanClose} {
		if err := f.Provoke("CS-0", fault); err != nil {
			t.Fatal(err)
		}
		connects(i + 2)
	}
	eventually(t, "statuses", func() bool { return f.Stats().Outstanding == 0 })
	if err := f.Provoke("CS-0", Silent); err != nil {
		t.Fatal(err)
	}
	var c *serverConn
	s.look("CS-0", func(st *testStation) { c = st.c })
	before := f.Stats().Received
	c.write(opPing, nil)
	c.write(opText, []byte(`[2,"x","ClearCache",{}]`))
	c.write(opClose, []byte{0x03, 0xe9})
	connects(4)
	if got := f.Stats().Received - before; got != 0 {
		t.Errorf("%d messages handled while silent", got)
	}
	if err := f.Provoke("CS-0", WrongPassword); err == nil {
		t.Error("WrongPassword provoked")
	}
	if err := f.Provoke("nobody", Cut); err == nil {
		t.Error("unknown station")
	}
}

// TestSilence: a station on a silent line comes back when its own pings find out,
// or at Settle. The server is not told: the old connection is still open then.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		name string
		ping time.Duration
	}{{"pings", 100 * time.Millisecond}, {"settle", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, stop := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
				c.Behaviour, c.PingInterval = passive(), tt.ping
			})
			eventually(t, "quiet", func() bool { s := f.Stats(); return s.Connects == 1 && s.Sent > 0 && s.Outstanding == 0 })
			var old *serverConn
			s.look("CS-0", func(st *testStation) { old = st.c })
			if err := f.Provoke("CS-0", Silent); err != nil {
				t.Fatal(err)
			}
			if tt.ping == 0 {
				f.Settle(t.Context())
			}
			pings := 0
			eventually(t, "another connection", func() (ok bool) {
				s.look("CS-0", func(st *testStation) { ok, pings = st.connects == 2 && st.c != old, st.pings })
				return ok
			})
			eventually(t, "it is used", func() (ok bool) {
				s.look("CS-0", func(st *testStation) { ok = tt.ping == 0 || st.pings > pings })
				return ok && f.Stats().Connected[1] == 1
			})
			s.look("CS-0", func(st *testStation) {
				if st.pongs != 1 || st.ends != 0 {
					t.Errorf("%d pongs as a goodbye, %d connections ended", st.pongs, st.ends)
				}
			})
			if errors := f.Stats().Errors; len(errors) > 0 {
				t.Errorf("errors: %v", errors)
			}
			stop() // waits for what reads the old one, too
		})
	}
}

// TestSettleOffline: a station that would come back in an hour comes back at Settle.
func TestSettleOffline(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
		c.Behaviour, c.BackOff = passive(), BackOff{Minimum: time.Hour, Random: -1}
	})
	eventually(t, "quiet", func() bool { s := f.Stats(); return s.Connects == 1 && s.Sent > 0 && s.Outstanding == 0 })
	if err := f.Provoke("CS-0", Cut); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is away", func() bool { return f.Stats().Connected[1] == 0 })
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is back", func() bool { return f.Stats().Connects == 2 })
}

// TestPing: a server that does not pong is left.
func TestPing(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
		c.Behaviour, c.PingInterval = passive(), 30*time.Millisecond
	})
	eventually(t, "pings", func() (ok bool) {
		s.look("CS-0", func(st *testStation) { ok = st.pings > 3 && st.connects == 1 })
		return ok
	})
	eventually(t, "quiet", func() bool { return f.Stats().Outstanding == 0 })
	s.look("CS-0", func(st *testStation) { st.c.mu.Lock() }) // the server can write nothing any more
	var held *serverConn
	s.look("CS-0", func(st *testStation) { held = st.c })
	eventually(t, "reconnect", func() bool { return f.Stats().Connects > 1 })
	held.mu.Unlock()
}

// TestServerCertificate: an unknown CA and another host's name are not accepted,
// a common name without a SAN is.
func TestServerCertificate(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	for _, tt := range []struct {
		name string
		cert *tls.Certificate
		ok   bool
	}{
		{"SAN", ca.issue(t, "somebody", net.IPv4(127, 0, 0, 1)), true},
		{"CN only", ca.issue(t, "127.0.0.1"), true},
		{"another name", ca.issue(t, "somebody"), false},
		{"unknown CA", other.issue(t, "127.0.0.1", net.IPv4(127, 0, 0, 1)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*tt.cert}})
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := ln.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				io.ReadAtLeast(c, make([]byte, 4096), 10)
				io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
			}()
			f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{2: "wss://" + ln.Addr().String()}, Roots: ca.anchors(), Stations: []Identity{{ID: "A", Profile: 2}}})
			if err != nil {
				t.Fatal(err)
			}
			err = f.Probe(t.Context(), "A", NoFault)
			want := errorTLS
			if tt.ok {
				want = errorNotFound
			}
			if e, _ := errors.AsType[*connectError](err); e == nil || e.kind != want {
				t.Errorf("%v", err)
			}
			<-done
		})
	}
}

// TestBackOff: a station that is refused keeps trying, ever more slowly.
func TestBackOff(t *testing.T) {
	var tries atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tries.Add(1)
			c.Close()
		}
	}()
	f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://" + ln.Addr().String()}, Stations: []Identity{{ID: "A", Profile: 1}},
		BackOff: BackOff{Minimum: time.Millisecond, Random: -1, Repeat: 3}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	eventually(t, "attempts", func() bool { return tries.Load() > 8 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b := BackOff{Minimum: time.Second, Random: time.Second, Repeat: 3}
	s := f.stations[0]
	for n, least := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if got := b.wait(n, &s.random); got < least*time.Second || got >= (least+1)*time.Second {
			t.Errorf("after %d failures %s", n, got)
		}
	}
}

// TestMalformed: a station answers what it can and keeps the connection.
func TestMalformed(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V201, 1, func(c *Config) { c.Behaviour = passive() })
	eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
	var c *serverConn
	answer := make(chan ocpp.Frame, 4)
	s.look("CS-0", func(st *testStation) {
		c = st.c
		for _, id := range []ocpp.MessageID{"1", "2", "-1"} {
			st.waiting[id] = answer
		}
	})
	for _, tt := range []struct {
		message string
		code    ocpp.ErrorCode // empty: no answer
	}{
		{`[2,"1"]`, ocpp.ProtocolError},
		{`[2,"2","ClearCache",[]]`, ocpp.FormatViolation},
		{`nonsense`, ocpp.RPCFrameworkError},
		{`[3,"never sent",{}]`, ""},
	} {
		c.write(opText, []byte(tt.message))
		if tt.code == "" {
			continue
		}
		select {
		case got := <-answer:
			if got.Err == nil || got.Err.Code != tt.code {
				t.Errorf("%s: %+v", tt.message, got.Err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no answer", tt.message)
		}
	}
	if got := s.status("CS-0", "ClearCache", object{}); got != "Accepted" {
		t.Errorf("afterwards: %s", got)
	}
	if st := f.Stats(); st.Errors["protocol"] != 3 || st.Errors["stray_answer"] != 1 || st.Connects != 1 {
		t.Errorf("%+v", st)
	}
}

// TestInvalidAnswer: a 2.1 station says so with a CALLRESULTERROR.
func TestInvalidAnswer(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	s.invalidBoot.Store(true)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V21, 1, func(c *Config) {
		c.Behaviour = passive()
		c.Behaviour.BootRetry = 10 * time.Millisecond
	})
	eventually(t, "CALLRESULTERROR", func() (ok bool) {
		s.look("CS-0", func(st *testStation) { ok = st.resultErrors > 0 })
		return ok
	})
	s.invalidBoot.Store(false)
	eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
	if f.Stats().Errors["protocol"] == 0 {
		t.Error("not counted")
	}
}
