package life_test

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/api"
	"holdfast/e2e"
	"holdfast/store"
)

// TestOnboard has new stations come: one with a password for its first
// connection, which ends on security profile 3, one with a certificate that
// somebody else had the key of, which gets one of its own.
func TestOnboard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token, made := t.TempDir(), t.TempDir()
	var added struct{ Password string }
	s.must(&added, "station", "add", "NEW-1", "--profile", "1")
	if err := os.WriteFile(filepath.Join(token, "NEW-1.password"), []byte(added.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must(nil, "station", "add", "NEW-2", "--profile", "3", "--out", made)
	var first, second api.OperationView
	s.must(&first, "station", "onboard", "NEW-1", "--profile", "3")
	s.must(&second, "station", "onboard", "NEW-2")
	if first.Status.Ended() || second.Status.Ended() {
		t.Fatalf("%+v, %+v before the stations came", first, second)
	}
	for i, dir := range []string{token, made} {
		e2e.Start(t, e2e.Build(t, "holdfast/cmd/holdfast"), "fleet", "run", "--idle", "--for", "10m", "--identities", dir, "--stations", "1",
			"--versions", []string{"2.0.1", "1.6"}[i], "--profiles", []string{"1", "3"}[i], "--ca", filepath.Join(s.Data, "ca.crt"),
			"--targets", "1="+s.Plain+";2="+s.TLS+";3="+s.MTLS)
	}
	for _, o := range []*api.OperationView{&first, &second} {
		if err := s.run(o, "operation", "show", o.ID, "--wait"); err != nil {
			t.Fatalf("%s of %s: %s: %s\n%s", o.Kind, o.Station, o.Status, o.Cause, steps(*o))
		}
	}
	for _, st := range s.stations() {
		if st.Profile != 3 || !st.Connected {
			t.Errorf("station %+v", st)
		}
	}
	if certs := s.certificates("NEW-2"); len(certs) != 2 || certs[0].FirstUsed.IsZero() || certs[1].Status != store.StatusSuperseded {
		t.Errorf("certificates of NEW-2: %+v", certs)
	}
	s.await("both are accepted", func() bool {
		var list []struct{ State *store.StationState }
		s.must(&list, "station", "list")
		for _, l := range list {
			if l.State == nil || l.State.Registration != store.Accepted {
				return false
			}
		}
		return len(list) == 2
	})
}
