package authority

import (
	"crypto/x509/pkix"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestPrune(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		ctx := t.Context()
		f.add(t, NewStation{ID: "CS1", Profile: 3})
		if _, err := f.ServerCertificate(ctx, "gw", csrOf(t, newKey(t, pki.ECDSA), pkix.Name{}), []string{"localhost"}); err != nil {
			t.Fatal(err)
		}
		f.admit(t, withBasic("nobody", "x"))
		f.admit(t, withChain("CS1", nil))
		if _, err := f.Attempts(ctx, ""); err != nil { // flushes
			t.Fatal(err)
		}
		counts := func() [4]int {
			t.Helper()
			audit, err1 := f.Audit(ctx, store.AuditFilter{}, store.Page{})
			stations, err2 := f.Certificates(ctx, store.CertificateFilter{Kind: store.KindStation}, store.Page{})
			servers, err3 := f.Certificates(ctx, store.CertificateFilter{Kind: store.KindServer}, store.Page{})
			attempts, err4 := f.Attempts(ctx, "")
			if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
				t.Fatal(err1, err2, err3, err4)
			}
			return [4]int{min(len(audit.Items), 1), len(stations.Items), len(servers.Items), len(attempts)}
		}
		past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		for _, tt := range []struct {
			r    store.Retention
			want [4]int
		}{
			{store.Retention{Audit: past, Certificates: future, Servers: past, Unregistered: past}, [4]int{1, 1, 1, 1}},
			{store.Retention{Audit: past, Certificates: past, Servers: future.Add(f.cfg.ServerLifetime), Unregistered: past}, [4]int{1, 1, 0, 1}},
			{store.Retention{Audit: past, Certificates: past, Servers: past, Unregistered: future}, [4]int{1, 1, 0, 0}},
			{store.Retention{Audit: future, Certificates: future.Add(f.cfg.StationLifetime), Servers: past, Unregistered: past}, [4]int{0, 0, 0, 0}},
		} {
			if err := f.store.Prune(ctx, tt.r); err != nil {
				t.Fatal(err)
			}
			if got := counts(); got != tt.want {
				t.Errorf("after %+v: audit, certificates, servers, attempts %v, want %v", tt.r, got, tt.want)
			}
		}
		if got, err := f.Attempts(ctx, "CS1"); err != nil || len(got) != 1 {
			t.Errorf("attempts of a registered station: %d, %v", len(got), err)
		}
		// What is written late of a removed station goes, too.
		late := store.Attempt{ID: store.NewAttemptID(), Station: "gone", Reason: ocpp.ReasonBlocked, Times: 1, First: past, At: past, Registered: true}
		if err := f.store.RecordAttempts(ctx, []store.Attempt{late}); err != nil {
			t.Fatal(err)
		}
		if err := f.store.Prune(ctx, store.Retention{}); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Attempts(ctx, "gone"); err != nil || len(got) != 0 {
			t.Errorf("attempts of a removed station: %d, %v", len(got), err)
		}
	})
}

// Two replicas change and record the same stations at once; nothing is lost or fails.
func TestReplicasWriteAtOnce(t *testing.T) {
	where, dir := storetest.Postgres(t), caDir(t)
	replicas := [2]*fixture{start(t, where, dir), start(t, where, dir)}
	const n, rounds = 8, 5
	var stations [n]Added
	for i := range n {
		stations[i] = replicas[i%2].add(t, NewStation{ID: ocpp.StationID(fmt.Sprintf("CS%d", i))})
	}
	var wg sync.WaitGroup
	for r, f := range replicas {
		for i, s := range stations {
			wg.Go(func() {
				for round := range rounds {
					labels := map[string]string{"round": fmt.Sprint(round)}
					if _, err := f.UpdateStation(t.Context(), fmt.Sprint("replica ", r), s.Station.ID, StationPatch{Labels: &labels}); err != nil {
						t.Errorf("station %d: %v", i, err)
					}
					if d := f.admit(t, withBasic(s.Station.ID, s.Password)); !d.Allowed {
						t.Errorf("station %d: %+v", i, d)
					}
				}
			})
		}
		wg.Go(func() {
			for range rounds {
				f.flushAttempts(t.Context())
			}
		})
	}
	wg.Wait()
	for r, f := range replicas {
		if err := f.attempts.flush(t.Context(), f.store, true); err != nil {
			t.Error(err)
		}
		l, err := f.Audit(t.Context(), store.AuditFilter{By: fmt.Sprint("replica ", r)}, store.Page{Limit: maxList})
		if err != nil || len(l.Items) != n*rounds {
			t.Errorf("replica %d: %d audit lines, want %d, %v", r, len(l.Items), n*rounds, err)
		}
	}
	for _, s := range stations {
		attempts, err := replicas[0].Attempts(t.Context(), s.Station.ID)
		total := int64(0)
		for _, a := range attempts {
			total += a.Times
		}
		if err != nil || total != 2*rounds {
			t.Errorf("%s: %d attempts, want %d, %v", s.Station.ID, total, 2*rounds, err)
		}
	}
}
