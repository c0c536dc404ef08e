package bench

import (
	"math"
	"testing"

	"holdfast/leak"
)

// 1 % of the reconnects with a client certificate keep 11 KB, or 40 KB.
func TestContrast(t *testing.T) {
	if raceEnabled {
		t.Skip("arithmetic without goroutines")
	}
	const pods, hours = 8, 96
	small := &SyntheticLeak{Class: leak.HeapLive, Onset: 10, PerMTLS: 110}
	large := &SyntheticLeak{Class: leak.HeapLive, Onset: 10, PerMTLS: 400}
	for _, tt := range []struct {
		name    string
		place   Placement
		leaking *SyntheticLeak
		want    leak.Cohort
	}{
		{"pure, healthy", Pure, nil, leak.CohortUnknown},
		{"skewed, healthy", Skewed, nil, leak.CohortUnknown},
		{"pure, small leak", Pure, small, leak.CohortMTLS},
		{"pure, large leak", Pure, large, leak.CohortMTLS},
		{"skewed, large leak", Skewed, large, leak.CohortMTLS},
		{"uniform, large leak", Uniform, large, leak.CohortUndetermined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := SyntheticFleet{Pods: pods, Hours: hours, Seed: 7, Placement: tt.place, Leak: tt.leaking}.Run()
			t.Logf("first process at %.0f h, fleet at %.0f h, cohorts %v", r.Single, r.Fleet, r.Cohorts)
			if tt.leaking == nil {
				if !math.IsNaN(r.Fleet) {
					t.Errorf("a healthy fleet alarmed at %.0f h", r.Fleet)
				}
				return
			}
			if r.Last != tt.want {
				t.Errorf("cohort %q, want %q", r.Last, tt.want)
			}
			if tt.want == leak.CohortMTLS && (math.IsNaN(r.Fleet) || r.Cohorts[leak.CohortTLS] || r.Cohorts[leak.CohortBoth]) {
				t.Errorf("found at %.0f h with cohorts %v", r.Fleet, r.Cohorts)
			}
		})
	}
}
