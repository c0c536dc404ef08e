package life_test

import (
	"testing"

	"holdfast/api"
	"holdfast/store"
)

// TestCrash kills the whole server, authority included, between two steps of a
// renewal; it goes on after the restart, with the same request: one certificate.
func TestCrash(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fleet(1, "--stations", "1", "--profiles", "3")
	const id = "FLEET-00001"
	var o api.OperationView
	s.must(&o, "station", "renew", id)
	s.await("the request is signed", func() bool {
		s.must(&o, "operation", "show", o.ID)
		return len(s.certificates(id)) == 2
	})
	if o.Status.Ended() {
		t.Fatalf("the renewal was over before the crash: %s", steps(o))
	}
	s.Kill()
	s.Restart()
	s.AwaitReady()
	if err := s.run(&o, "operation", "show", o.ID, "--wait"); err != nil {
		t.Fatalf("%s: %s\n%s", o.Status, o.Cause, steps(o))
	}
	if certs := s.certificates(id); len(certs) != 2 || certs[0].FirstUsed.IsZero() || certs[1].Status != store.StatusSuperseded {
		t.Errorf("certificates: %+v", certs)
	}
}
