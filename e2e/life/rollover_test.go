package life_test

import (
	"os"
	"strconv"
	"testing"

	"holdfast/csms"
	"holdfast/store"
)

// TestRollover replaces the root under a fleet that stays connected: a new root
// beside the old one, on every station by a campaign, then new servers'
// certificates, then new stations' certificates by a campaign, then the old root
// goes. HOLDFAST_ROLLOVER=1000 for that many stations.
func TestRollover(t *testing.T) {
	t.Parallel()
	n := 12
	if text := os.Getenv("HOLDFAST_ROLLOVER"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 3 || n > 5000 {
			t.Fatalf("HOLDFAST_ROLLOVER=%q: want a number of stations from 3 to 5000", text)
		}
	}
	s := newSite(t)
	s.fleet(n, "--stations", strconv.Itoa(n), "--profiles", "3")
	root := func() string {
		var list []store.CA
		s.must(&list, "cert", "ca", "list")
		for _, ca := range list {
			if ca.Kind == "root-ecdsa" && ca.State == store.CAIssuing {
				return ca.Fingerprint
			}
		}
		t.Fatalf("no root among %+v", list)
		return ""
	}
	campaign := func(kind string) {
		t.Helper()
		var k csms.CampaignState
		if err := s.run(&k, "campaign", "start", kind, "--per-minute", "6000", "--max-failures", "0", "--wait"); err != nil || k.Stations != n || k.Progress["done"] != n {
			t.Fatalf("%s: %+v (%v)", kind, k, err)
		}
	}
	old := root()
	var successor struct{ Root store.CA }
	s.must(&successor, "cert", "ca", "new-root", "--algorithm", "ecdsa")
	campaign(csms.InstallRoot)
	s.must(nil, "cert", "ca", "activate", successor.Root.Fingerprint)
	if err := s.run(nil, "cert", "ca", "retire", old); err == nil {
		t.Error("the old root went while stations' certificates rested on it")
	}
	campaign(csms.RenewCertificate)
	s.must(nil, "cert", "ca", "retire", old)
	if now := root(); now != successor.Root.Fingerprint {
		t.Errorf("root %s issues, want %s", now, successor.Root.Fingerprint)
	}
	for _, st := range s.stations() {
		s.must(nil, "station", "disconnect", st.ID)
	}
	s.await("every station is back", func() bool {
		back := 0
		for _, st := range s.stations() {
			if st.Connected {
				back++
			}
		}
		return back == n
	})
}
