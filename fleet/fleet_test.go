package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/ocpp"
)

// lively stations charge all the time: a session lasts 100 ms, with a meter value every 10.
var lively = Behaviour{
	SessionGap:    20 * time.Millisecond,
	SessionLength: 100 * time.Millisecond,
	MeterInterval: 10 * time.Millisecond,
	UnplugDelay:   5 * time.Millisecond,
	RebootTime:    10 * time.Millisecond,
	IDTags:        []string{"TAG-A", "TAG-B"},
}

// passive stations only do what they are told.
func passive() Behaviour {
	b := lively
	b.SessionGap = -1
	b.SessionLength = time.Hour
	return b
}

// testFleet runs a fleet of n stations named CS-0… and stops it at the end.
func testFleet(t testing.TB, s *testServer, ca *testCA, profile ocpp.SecurityProfile, version ocpp.Version, n int, change func(*Config)) (f *Fleet, stop func()) {
	t.Helper()
	cfg := Config{
		Targets:     map[ocpp.SecurityProfile]string{profile: s.target()},
		Behaviour:   lively,
		BackOff:     BackOff{Minimum: 10 * time.Millisecond, Random: 5 * time.Millisecond, Repeat: 2},
		Resend:      Resend{Attempts: 5, Interval: 20 * time.Millisecond},
		CallTimeout: 5 * time.Second,
		Seed:        1,
	}
	if ca != nil {
		cfg.Roots = ca.anchors()
	}
	for i := range n {
		id := Identity{ID: ocpp.StationID(fmt.Sprintf("CS-%d", i)), Profile: profile, Version: version, Password: "correct horse battery", Connectors: 2}
		if profile == ocpp.ProfileMTLS {
			id.Certificate = ca.issue(t, string(id.ID))
		}
		cfg.Stations = append(cfg.Stations, id)
	}
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return f, stop
}

func settle(t testing.TB, f *Fleet) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.Settle(ctx); err != nil {
		t.Fatalf("%v; %+v", err, f.Stats())
	}
}

func mustVerify(t testing.TB, f *Fleet, s *testServer) Report {
	t.Helper()
	r, err := Verify(f.Ledger(), s.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCharging runs whole sessions over each security profile and version, loses
// answers on the way, and compares the records.
func TestCharging(t *testing.T) {
	ca := newTestCA(t)
	for _, tt := range []struct {
		profile ocpp.SecurityProfile
		version ocpp.Version
	}{
		{ocpp.ProfilePlain, ocpp.V16},
		{ocpp.ProfileTLS, ocpp.V16},
		{ocpp.ProfileMTLS, ocpp.V16},
		{ocpp.ProfilePlain, ocpp.V201},
		{ocpp.ProfileTLS, ocpp.V21},
		{ocpp.ProfileMTLS, ocpp.V201},
	} {
		t.Run(tt.profile.Label()+"/"+string(tt.version), func(t *testing.T) {
			s := newTestServer(t, tt.profile, ca)
			if tt.profile != ocpp.ProfileMTLS {
				s.password.Store("correct horse battery")
			}
			f, stop := testFleet(t, s, ca, tt.profile, tt.version, 5, func(c *Config) { c.CallTimeout = 100 * time.Millisecond })
			eventually(t, "first transactions", func() bool { return f.Stats().Connected[tt.profile] == 5 && f.Stats().Transactions > 0 })
			s.loseAnswers.Store(20)
			eventually(t, "sessions", func() bool {
				n := 0
				for tx := range f.Ledger().Transactions() {
					if tx.Stopped && len(tx.Values) > 4 {
						n++
					}
				}
				return n >= 30 && s.loseAnswers.Load() == 0
			})
			settle(t, f)
			r := mustVerify(t, f, s)
			if !r.OK() || r.Unacknowledged > 0 || r.Values < 300 || r.Stations != 5 {
				t.Errorf("report %+v", r)
			}
			st := f.Stats()
			if st.Errors["timeout"] == 0 || st.Errors["discarded"] > 0 || st.Errors["callerror"] > 0 || st.Errors["protocol"] > 0 {
				t.Errorf("errors %v", st.Errors)
			}
			if st.CallTime.Count == 0 || st.CallTime.P99 < st.CallTime.P50 || st.Sent == 0 {
				t.Errorf("stats %+v", st)
			}
			stop()
			if st := f.Stats(); st.Connected[tt.profile] != 0 || st.Outstanding != 0 {
				t.Errorf("after the end: %+v", st)
			}
			if n := s.saw("CS-0", "BootNotification"); n != 1 {
				t.Errorf("%d BootNotifications", n)
			}
		})
	}
}

// TestVerifyCatches tells the server to do wrong in each way.
func TestVerifyCatches(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong func(*testServer)
		kind  ProblemKind
		v     []ocpp.Version
	}{
		{"dropped end", func(s *testServer) { s.dropStops.Store(true) }, Missing, []ocpp.Version{ocpp.V16, ocpp.V201}},
		{"doubled transaction", func(s *testServer) { s.doubleStart.Store(true) }, Doubled, []ocpp.Version{ocpp.V16}},
		{"altered meter value", func(s *testServer) { s.alterValues.Store(true) }, Altered, []ocpp.Version{ocpp.V16, ocpp.V201}},
		{"lost transaction", func(s *testServer) {
			s.look("CS-0", func(st *testStation) { st.record = st.record[1:] })
		}, Missing, []ocpp.Version{ocpp.V16, ocpp.V201}},
		{"doubled meter value", func(s *testServer) {
			s.look("CS-0", func(st *testStation) { r := st.record[0]; r.Values = append(r.Values, r.Values[0]) })
		}, Doubled, []ocpp.Version{ocpp.V16, ocpp.V201}},
		{"doubled event", func(s *testServer) {
			s.look("CS-0", func(st *testStation) { r := st.record[0]; r.SeqNos = append(r.SeqNos, 1) })
		}, Doubled, []ocpp.Version{ocpp.V201}},
		{"invented transaction", func(s *testServer) {
			s.look("CS-0", func(st *testStation) { st.record = append(st.record, &RecordedTransaction{ID: "999999"}) })
		}, Unknown, []ocpp.Version{ocpp.V16, ocpp.V201}},
	} {
		for _, version := range tt.v {
			t.Run(tt.name+"/"+string(version), func(t *testing.T) {
				s := newTestServer(t, ocpp.ProfilePlain, nil)
				early := tt.kind == Altered || tt.name == "dropped end" || tt.name == "doubled transaction"
				if early {
					tt.wrong(s)
				}
				f, stop := testFleet(t, s, nil, ocpp.ProfilePlain, version, 1, nil)
				eventually(t, "two sessions", func() bool {
					n := 0
					for tx := range f.Ledger().Transactions() {
						if tx.Stopped && len(tx.Values) > 2 {
							n++
						}
					}
					return n >= 2
				})
				settle(t, f)
				stop()
				if !early {
					if r := mustVerify(t, f, s); !r.OK() {
						t.Fatalf("before: %+v", r)
					}
					tt.wrong(s)
				}
				r := mustVerify(t, f, s)
				if r.OK() || r.Counts[tt.kind] == 0 || len(r.Problems) == 0 || r.Problems[0].String() == "" {
					t.Errorf("%+v", r)
				}
				for kind := range r.Counts {
					if kind != tt.kind {
						t.Errorf("also %s: %v", kind, r.Problems)
					}
				}
			})
		}
	}
}

// TestNotAcceptedDriver: a blocked driver does not charge; one that is refused by
// the answer to the start is stopped.
func TestNotAcceptedDriver(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
		c.Behaviour.IDTags = []string{"BLOCKED", "LATE"}
	})
	eventually(t, "deauthorized", func() bool { return s.saw("CS-0", "StopTransaction") > 2 && s.saw("CS-0", "Authorize") > 8 })
	s.look("CS-0", func(st *testStation) {
		for _, r := range st.record {
			if r.IDTag != "LATE" || r.Reason != "DeAuthorized" && !r.Stop.IsZero() {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestBootStates: Pending and Rejected are honoured, also by what the station
// answers meanwhile.
func TestBootStates(t *testing.T) {
	for _, tt := range []struct {
		version ocpp.Version
		status  string
		answer  string // to RemoteStart; empty: none
	}{
		{ocpp.V16, "Pending", "Rejected"},
		{ocpp.V16, "Rejected", ""},
		{ocpp.V201, "Pending", "Rejected"},
		{ocpp.V201, "Rejected", "SecurityError"},
	} {
		t.Run(tt.status+"/"+string(tt.version), func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			var open bool // guarded by s.mu: boot runs under it
			s.boot.Store(func(string, int) (string, int) {
				if open {
					return "Accepted", 300
				}
				return tt.status, 1
			})
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, tt.version, 1, nil)
			eventually(t, "second boot", func() bool { return s.saw("CS-0", "BootNotification") == 2 })
			action, payload := "RemoteStartTransaction", object{"idTag": "X"}
			if tt.version.Is2x() {
				action, payload = "RequestStartTransaction", object{"idToken": object{"idToken": "X", "type": "Central"}, "remoteStartId": 1}
			}
			if tt.answer == "" { // it boots on, and says nothing
				answers := make(chan ocpp.Frame, 10)
				s.look("CS-0", func(st *testStation) {
					st.always = answers
					st.c.write(opText, ocpp.AppendCall(nil, "ignored", action, encode(payload), false))
				})
				eventually(t, "third boot", func() bool { return s.saw("CS-0", "BootNotification") == 3 })
				if len(answers) > 0 {
					t.Errorf("%s while %s: %+v", action, tt.status, <-answers)
				}
			} else if got := s.status("CS-0", action, payload); got != tt.answer {
				t.Errorf("%s while %s: %s", action, tt.status, got)
			}
			s.look("CS-0", func(st *testStation) {
				if slices.ContainsFunc(st.seen, func(a string) bool { return a != "BootNotification" }) {
					t.Errorf("sent while %s: %v", tt.status, st.seen)
				}
				open = true
			})
			eventually(t, "transactions", func() bool { return f.Stats().Transactions > 0 })
		})
	}
}

// TestHeartbeats: they come in the interval that the answer to the boot gives, and
// in the one that the server sets later.
func TestHeartbeats(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			s.boot.Store(func(station string, _ int) (string, int) {
				return "Accepted", map[string]int{"CS-0": 1, "CS-1": 3600}[station]
			})
			testFleet(t, s, nil, ocpp.ProfilePlain, version, 2, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "heartbeats", func() bool { return s.saw("CS-0", "Heartbeat") >= 2 })
			if n := s.saw("CS-1", "Heartbeat"); n > 0 {
				t.Errorf("%d heartbeats within the hour", n)
			}
			action, payload := "ChangeConfiguration", any(object{"key": "HeartbeatInterval", "value": "1"})
			if version.Is2x() {
				action, payload = "SetVariables", object{"setVariableData": []object{{"attributeValue": "1",
					"component": object{"name": "OCPPCommCtrlr"}, "variable": object{"name": "HeartbeatInterval"}}}}
			}
			s.call("CS-1", action, payload)
			eventually(t, "heartbeats in the new interval", func() bool { return s.saw("CS-1", "Heartbeat") >= 2 })
		})
	}
}

// TestOffline: what happens while the server is away is kept and told in order,
// with the offline flag, after a reconnect without BootNotification.
func TestOffline(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, version, 1, func(c *Config) {
				c.BackOff = BackOff{Minimum: 150 * time.Millisecond, Random: -1, Repeat: -1}
			})
			const cs = "CS-0"
			for range 4 {
				eventually(t, "charging", func() bool { return f.Stats().Transactions > 0 })
				if err := f.Provoke(cs, Cut); err != nil {
					t.Fatal(err)
				}
				eventually(t, "offline with a backlog", func() bool { return f.Stats().Connected[1] == 0 && f.Stats().Queued > 3 })
				eventually(t, "back", func() bool { return f.Stats().Connected[1] == 1 })
			}
			settle(t, f)
			if r := mustVerify(t, f, s); !r.OK() || r.Unacknowledged > 0 {
				t.Errorf("%+v", r)
			}
			s.look(cs, func(st *testStation) {
				if st.boots != 1 || st.connects != 5 {
					t.Errorf("%d boots, %d connections", st.boots, st.connects)
				}
				if version.Is2x() && st.offline == 0 {
					t.Error("no event with the offline flag")
				}
			})
		})
	}
}

// TestQueueLimit: a full backlog loses meter values, never starts or stops.
func TestQueueLimit(t *testing.T) {
	f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1:1"}, QueueLimit: 10,
		Stations: []Identity{{ID: "A", Profile: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	s := f.stations[0]
	for i := range 100 {
		kind := partUpdate
		if i%30 == 0 {
			kind = partStart
		}
		s.callTransaction(&message{tx: &txPart{kind: kind, seq: i}})
	}
	var starts, seqs []int
	for _, m := range s.backlog {
		seqs = append(seqs, m.tx.seq)
		if m.tx.kind == partStart {
			starts = append(starts, m.tx.seq)
		}
	}
	if len(s.backlog) > 10 || !slices.Equal(starts, []int{0, 30, 60, 90}) || !slices.IsSorted(seqs) {
		t.Errorf("backlog %v, starts %v", seqs, starts)
	}
	if st := f.Stats(); st.Queued != len(s.backlog) || int(st.Errors["queue_full"])+len(s.backlog) != 100 {
		t.Errorf("%+v", st)
	}
}

// TestNothingLeft: files and goroutines are back to the start after Run.
func TestNothingLeft(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	f, stop := testFleet(t, s, ca, ocpp.ProfileMTLS, ocpp.V201, 20, nil)
	eventually(t, "transactions", func() bool { return f.Stats().Transactions > 10 })
	stop()
	eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "no file left", func() bool { return openFiles(t) <= files })
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd"))
	if err != nil {
		t.Skip("no /proc")
	}
	return len(entries)
}
