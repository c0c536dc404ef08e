package gateway

import (
	"context"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestEnforce: the trust says which stations must not be connected, for a gateway
// that was not told when it happened: their connections end, in whatever spelling,
// and what was remembered of them does not let them in again.
func TestEnforce(t *testing.T) {
	blocked := false
	s := newSite(t, echoCalls, func(c *Config) {
		c.Admit = func(ctx context.Context, cr ocpp.Credentials) (ocpp.Decision, error) {
			d, err := admitAll(ctx, cr)
			if blocked && d.Station == "CS1" {
				return ocpp.Decision{Reason: ocpp.ReasonBlocked}, nil
			}
			d.TTL = time.Hour
			return d, err
		}
	})
	connect := func(id string) *station { return dial(t, s.address, "/ocpp/"+id, "Sec-WebSocket-Protocol", v16) }
	one, two := connect("CS1"), connect("CS2")
	eventually(t, "registered", func() bool { return s.gw.lookup("CS1") != nil && s.gw.lookup("CS2") != nil })
	blocked = true
	if st := connect("CS1"); st.http.StatusCode != 101 {
		t.Fatalf("before it knows: %d", st.http.StatusCode) // the test would show nothing otherwise
	} else {
		one.expect("close 4001")
		one = st
	}
	eventually(t, "registered again", func() bool { return s.gw.lookup("CS1") != nil })
	s.gw.SetTLS(TLS{Trust: Trust{Barred: []ocpp.StationID{"cs1", "CS-GONE"}}})
	s.gw.Enforce()
	one.expect("close 1008")
	if st := connect("CS1"); st.http.StatusCode != 403 {
		t.Errorf("after it knows: %d, want 403", st.http.StatusCode)
	}
	two.send(`[2,"1","Heartbeat",{}]`)
	two.expect(`[3,"1",{"a":"Heartbeat","s":"CS2"}]`)
	blocked = false // and again admitted, before the gateway learns that it is not barred
	s.gw.Forget("CS1")
	if st := connect("CS1"); st.http.StatusCode != 101 {
		t.Errorf("unblocked: %d", st.http.StatusCode)
	} else {
		st.send(`[2,"1","Heartbeat",{}]`)
		st.expect(`[3,"1",{"a":"Heartbeat","s":"CS1"}]`)
	}
}

// TestDropOnItsWay: a station that is blocked between the authority's answer and
// its registration is not connected, and the answer is not remembered.
func TestDropOnItsWay(t *testing.T) {
	answered, goOn := make(chan struct{}), make(chan struct{})
	asked := 0
	s := newSite(t, echoCalls, func(c *Config) {
		c.Admit = func(ctx context.Context, cr ocpp.Credentials) (ocpp.Decision, error) {
			if asked++; asked > 1 {
				return ocpp.Decision{Reason: ocpp.ReasonBlocked}, nil
			}
			close(answered)
			<-goOn
			d, err := admitAll(ctx, cr)
			d.TTL = time.Hour
			return d, err
		}
	})
	go func() {
		<-answered
		s.gw.Drop("cs1", "", CloseRevoked)
		close(goOn)
	}()
	st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
	st.expect("close 1008")
	if st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16); st.http.StatusCode != 403 {
		t.Errorf("again: %d, want 403", st.http.StatusCode)
	}
}

// TestDroppedIsBounded: past the bound, what is old makes room, and nothing else.
func TestDroppedIsBounded(t *testing.T) {
	a := newAdmission(nil)
	now := time.Now().UnixMicro()
	for i := range stationKey(maxDropped) {
		a.dropped[i] = now
	}
	a.drop("CS1")
	if len(a.dropped) != maxDropped || a.isDropped("CS1", now) {
		t.Errorf("%d are remembered, want %d", len(a.dropped), maxDropped)
	}
	for i := range stationKey(maxDropped / 2) {
		a.dropped[i] = now - 2*dropLasts.Microseconds()
	}
	a.drop("CS1")
	if want := maxDropped/2 + 1; len(a.dropped) != want || !a.isDropped("cs1", now) {
		t.Errorf("%d are remembered, want %d", len(a.dropped), want)
	}
	if a.isDropped("CS1", time.Now().UnixMicro()+1) {
		t.Error("an admission after it does not count")
	}
}
