package store_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/store"
	"holdfast/store/storetest"
)

func TestVerdicts(t *testing.T) {
	for name, where := range map[string]string{"sqlite": t.TempDir(), "postgres": storetest.NewServer(t).Database(t)} {
		t.Run(name, func(t *testing.T) {
			c, err := store.OpenCSMS(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			v := store.LeakVerdict{ID: "a1", Process: "gateway/g1", Class: "heap_live", State: "leak", Time: at, Changed: at, Onset: at.Add(-9 * time.Hour),
				Kept: 12.5e6, WindowHours: 24, Growth: 1e7, P: 1e-6, Summary: "it leaks",
				Forecast: store.LeakForecast{PerDay: store.LeakEstimate{Value: 3, Low: 2, High: 4}}}
			save := func(v store.LeakVerdict) {
				t.Helper()
				if err := c.SaveLeakVerdict(t.Context(), v); err != nil {
					t.Fatal(err)
				}
			}
			all := func(f store.LeakVerdictFilter, p store.Page) store.List[store.LeakVerdict] {
				t.Helper()
				l, err := c.LeakVerdicts(t.Context(), f, p)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			save(v)
			if got := all(store.LeakVerdictFilter{}, store.Page{}).Items; len(got) != 1 || got[0] != v {
				t.Fatalf("got %+v, want %+v", got, v)
			}
			later := v
			later.Changed, later.Cohort, later.Kept = at.Add(time.Hour), "mtls", 2e7
			save(later)
			unknown := v
			unknown.Changed, unknown.State, unknown.Ended = at.Add(2*time.Hour), "ok", at.Add(2*time.Hour)
			save(unknown)
			save(v) // late
			got := all(store.LeakVerdictFilter{}, store.Page{}).Items[0]
			if got.Cohort != "mtls" || got.State != "ok" || got.Ended.IsZero() {
				t.Errorf("after a cohort, an end and a late repetition: %+v", got)
			}
			if l := all(store.LeakVerdictFilter{Open: true}, store.Page{}); len(l.Items) != 0 {
				t.Errorf("open: %+v", l.Items)
			}
			for i := range 5 {
				w := v
				w.ID, w.Process, w.Class = fmt.Sprintf("b%d", i), "gateway/g2", "off_heap"
				save(w)
			}
			seen := map[string]bool{}
			p := store.Page{Limit: 2}
			for {
				l := all(store.LeakVerdictFilter{Process: "gateway/g2", Class: "off_heap"}, p)
				for _, v := range l.Items {
					seen[v.ID] = true
				}
				if p.After = l.Next; p.After == "" {
					break
				}
			}
			if len(seen) != 5 {
				t.Errorf("pages show %v", seen)
			}
		})
	}
}
