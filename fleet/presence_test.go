package fleet

import (
	"testing"

	"holdfast/ocpp"
)

// TestPresence: stations stay away, join, leave and come back, when they are told.
func TestPresence(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V201, 3, func(c *Config) { c.Away = true })
	here := func() int { return f.Stats().Connected[ocpp.ProfilePlain] }
	order := func(o func(ocpp.StationID) error, ids ...ocpp.StationID) {
		t.Helper()
		for _, id := range ids {
			if err := o(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	order(f.Join, "CS-0", "CS-1")
	eventually(t, "two joined", func() bool { return here() == 2 && f.Stats().Transactions > 0 })
	order(f.Join, "CS-0") // is here already
	order(f.Leave, "CS-1")
	eventually(t, "one left", func() bool { return here() == 1 })
	eventually(t, "its messages wait", func() bool { return f.Stats().Queued > 5 })
	s.look("CS-1", func(st *testStation) {
		if st.connects != 1 {
			t.Errorf("%d connections of a station that is away", st.connects)
		}
	})
	order(f.Leave, "CS-0")
	order(f.Join, "CS-0", "CS-1", "CS-2")
	eventually(t, "three joined", func() bool { return here() == 3 })
	settle(t, f)
	if r := mustVerify(t, f, s); !r.OK() || r.Unacknowledged > 0 {
		t.Errorf("%+v", r)
	}
	if f.Join("nobody") == nil {
		t.Error("a station that is not there joined")
	}
}
