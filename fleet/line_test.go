package fleet

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"holdfast/ocpp"
)

// TestLine speaks through lines of each security profile, from several
// goroutines at once, ends them both ways, and looks for what is left behind.
func TestLine(t *testing.T) {
	ca := newTestCA(t)
	for profile := ocpp.ProfilePlain; profile <= ocpp.ProfileMTLS; profile++ {
		t.Run(profile.Label(), func(t *testing.T) {
			s := newTestServer(t, profile, ca)
			id := Identity{ID: "A", Profile: profile, Password: "secret", Certificate: ca.issue(t, "A")}
			f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{profile: s.target()}, Roots: ca.anchors(), Stations: []Identity{id}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Open(t.Context(), "B"); err == nil {
				t.Error("a line of nobody")
			}
			goroutines, files := runtime.NumGoroutine(), openFiles(t)
			for n := range 4 {
				l, err := f.Open(t.Context(), "A")
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Boot(t.Context()); err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						if err := errors.Join(l.Heartbeat(t.Context()), l.Status(t.Context())); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if n%2 == 0 {
					l.Close()
				} else {
					l.Cut()
				}
				select {
				case <-l.Ended():
				default:
					t.Error("not ended")
				}
				if err := l.Heartbeat(t.Context()); err == nil {
					t.Error("an ended line answers")
				}
				eventually(t, "the server has let go", func() bool {
					gone := false
					s.look("A", func(st *testStation) { gone = st.c == nil })
					return gone
				})
			}
			for action, want := range map[string]int{"BootNotification": 4, "Heartbeat": 32, "StatusNotification": 32} {
				if got := s.saw("A", action); got != want {
					t.Errorf("%d %s, want %d", got, action, want)
				}
			}
			eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines+1 }) // the server's keep-alive
			eventually(t, "no file left", func() bool { return openFiles(t) <= files })
		})
	}
}

// TestSilentLine: all that the server hears of a line that fell silent is one
// pong, whatever it sends.
func TestSilentLine(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{ocpp.ProfilePlain: s.target()}, Stations: []Identity{{ID: "A", Profile: ocpp.ProfilePlain, Password: "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := f.Open(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.FallSilent(); err != nil {
		t.Fatal(err)
	}
	answers := make(chan ocpp.Frame, 8)
	var c *serverConn
	eventually(t, "the server has the connection", func() bool {
		s.look("A", func(st *testStation) { c, st.always = st.c, answers })
		return c != nil
	})
	c.write(opPing, []byte("there?"))
	c.write(opText, []byte(`[2,"x","ClearCache",{}]`))
	c.write(opClose, []byte{0x03, 0xe9})
	<-l.Ended()
	eventually(t, "the server has read all", func() bool {
		gone := false
		s.look("A", func(st *testStation) { gone = st.c == nil })
		return gone
	})
	s.look("A", func(st *testStation) {
		if st.pongs != 1 {
			t.Errorf("%d pongs, want the one that nobody asked for", st.pongs)
		}
	})
	if len(answers) != 0 {
		t.Errorf("%d answers", len(answers))
	}
}
