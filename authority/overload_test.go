package authority

import (
	"context"
	"testing"

	"holdfast/ocpp"
)

// TestOverload: who does not get a turn to have its password checked is refused
// for that and not counted as a guesser; whose password is remembered needs none.
func TestOverload(t *testing.T) {
	f := sqlite(t)
	passwords := map[ocpp.StationID]string{}
	for _, id := range []ocpp.StationID{"KNOWN", "NEW"} {
		passwords[id] = f.add(t, NewStation{ID: id}).Password
	}
	if d := f.admit(t, withBasic("KNOWN", passwords["KNOWN"])); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range cap(f.passwords.gate) {
		f.passwords.gate <- struct{}{}
	}
	check := func(id ocpp.StationID) ocpp.Reason {
		t.Helper()
		r, _, err := f.store.Admission(t.Context(), id, "")
		if err != nil {
			t.Fatal(err)
		}
		c := withBasic(id, passwords[id])
		c.Remote = remote
		v, err := f.checkBasic(gone, r, c, f.now())
		if err != nil {
			t.Fatal(err)
		}
		return v.reason
	}
	if got := check("KNOWN"); got != ocpp.ReasonAdmitted {
		t.Errorf("a password that is remembered: %s", got)
	}
	for range 2 * f.cfg.FreeFailures { // more often than one may guess
		if got := check("NEW"); got != ocpp.ReasonOverload {
			t.Errorf("no turn: %s", got)
		}
	}
	for range cap(f.passwords.gate) {
		<-f.passwords.gate
	}
	if d := f.admit(t, withBasic("NEW", passwords["NEW"])); !d.Allowed {
		t.Errorf("afterwards: %+v", d)
	}
}
