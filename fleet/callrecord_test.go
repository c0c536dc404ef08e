package fleet

import (
	"sync"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestLatencyFromDue: a message that had to wait for another one's answer counts
// from when it was to be sent. Measured from its sending, a server that stalls
// for a while would look as if it had answered all but one at once.
func TestLatencyFromDue(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	var mu sync.Mutex
	var calls []CallRecord
	var connects []ConnectRecord
	const stall = 200 * time.Millisecond
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
		c.CallTimeout = stall
		c.Behaviour.SessionLength = 2 * time.Second
		c.OnCall = func(r CallRecord) { mu.Lock(); calls = append(calls, r); mu.Unlock() }
		c.OnConnect = func(r ConnectRecord) { mu.Lock(); connects = append(connects, r); mu.Unlock() }
	})
	eventually(t, "charging", func() bool { return s.saw("CS-0", "MeterValues") > 2 })
	s.loseAnswers.Store(1)
	has := func(ok func(CallRecord) bool) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range calls {
			if r.Due > r.Sent || r.Sent > r.Done || r.Station != "CS-0" || r.ID == "" || r.Action == "" {
				t.Fatalf("%+v", r)
			}
			if ok(r) {
				return true
			}
		}
		return false
	}
	eventually(t, "the one without an answer", func() bool {
		return has(func(r CallRecord) bool { return r.Outcome == TimedOut && r.Done-r.Sent >= stall })
	})
	eventually(t, "those that waited for it", func() bool {
		return has(func(r CallRecord) bool {
			return r.Outcome == Answered && r.Latency() > stall*3/4 && r.Done-r.Sent < stall
		})
	})
	if err := f.Provoke("CS-0", Cut); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second connection", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(connects) == 2 && connects[1].Failure == "" && connects[1].Due > 0 && connects[1].Done > connects[1].Due
	})
	s.http.Listener.Close()
	f.Provoke("CS-0", Cut)
	eventually(t, "a failed one", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return connects[len(connects)-1].Failure == "dial"
	})
}
