package leak

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// 1 % of the reconnects with a client certificate keep 11 KB, or 40 KB.
func TestContrast(t *testing.T) {
	if raceEnabled {
		t.Skip("arithmetic without goroutines")
	}
	const pods, hours = 8, 96
	small := &SyntheticLeak{Class: HeapLive, Onset: 10, PerMTLS: 110}
	large := &SyntheticLeak{Class: HeapLive, Onset: 10, PerMTLS: 400}
	for _, tt := range []struct {
		name  string
		place Placement
		leak  *SyntheticLeak
		want  Cohort
	}{
		{"pure, healthy", Pure, nil, CohortUnknown},
		{"skewed, healthy", Skewed, nil, CohortUnknown},
		{"pure, small leak", Pure, small, CohortMTLS},
		{"pure, large leak", Pure, large, CohortMTLS},
		{"skewed, large leak", Skewed, large, CohortMTLS},
		{"uniform, large leak", Uniform, large, CohortUndetermined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := SyntheticFleet{Pods: pods, Hours: hours, Seed: 7, Placement: tt.place, Leak: tt.leak}.Run()
			t.Logf("first process at %.0f h, fleet at %.0f h, cohorts %v", r.Single, r.Fleet, r.Cohorts)
			if tt.leak == nil {
				if !math.IsNaN(r.Fleet) {
					t.Errorf("a healthy fleet alarmed at %.0f h", r.Fleet)
				}
				return
			}
			if r.Last != tt.want {
				t.Errorf("cohort %q, want %q", r.Last, tt.want)
			}
			if tt.want == CohortMTLS && (math.IsNaN(r.Fleet) || r.Cohorts[CohortTLS] || r.Cohorts[CohortBoth]) {
				t.Errorf("found at %.0f h with cohorts %v", r.Fleet, r.Cohorts)
			}
		})
	}
}

func TestAttribute(t *testing.T) {
	g := func(amount, se float64, tls, mtls int64) growth { return growth{Ratio{amount, se}, Opened{tls, mtls}} }
	for _, tt := range []struct {
		name string
		list []growth
		want Cohort
		mtls float64
	}{
		{"two pure processes", []growth{g(0, 50e3, 1000, 0), g(3.4e6, 50e3, 0, 1000)}, CohortMTLS, 3400},
		{"the other one", []growth{g(3.4e6, 50e3, 1000, 0), g(0, 50e3, 0, 1000)}, CohortTLS, 0},
		{"both", []growth{g(3e6, 50e3, 1000, 0), g(3.4e6, 50e3, 0, 1000)}, CohortBoth, 3400},
		{"alike", []growth{g(1e6, 50e3, 500, 500), g(1.1e6, 50e3, 500, 500), g(1e6, 50e3, 500, 500)}, CohortUndetermined, 0},
		{"nearly alike", []growth{g(1e6, 50e3, 480, 520), g(1.1e6, 50e3, 510, 490), g(1e6, 50e3, 500, 500)}, CohortUndetermined, math.NaN()},
		{"noise", []growth{g(1e6, 2e6, 1000, 0), g(2e6, 2e6, 0, 1000)}, CohortUndetermined, math.NaN()},
		{"one", []growth{g(1e6, 1, 0, 1000)}, CohortUndetermined, 0},
		{"skewed", []growth{g(0.34e6, 50e3, 900, 100), g(1.7e6, 50e3, 500, 500), g(3.06e6, 50e3, 100, 900)}, CohortMTLS, 3400},
	} {
		at := attribute(tt.list)
		if at.Cohort != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, at, tt.want)
		}
		if !math.IsNaN(tt.mtls) && math.Abs(at.MTLS.Value-tt.mtls) > 100 {
			t.Errorf("%s: %.0f bytes per mutual-TLS connection, want %.0f", tt.name, at.MTLS.Value, tt.mtls)
		}
	}
}

// Gaps, restarts and too many processes are borne.
func TestContrastHostile(t *testing.T) {
	c := NewContrast()
	for i := range maxMembers + 50 {
		c.Add(Report{Process: fmt.Sprint(i), Started: epoch, Block: Block{Number: 100}})
	}
	if c.Dropped() != 50 || len(c.members) != maxMembers {
		t.Errorf("%d dropped, %d kept", c.Dropped(), len(c.members))
	}
	for _, number := range []int64{101, 99, 5000, 5001, 1 << 60, 0, -5} {
		c.Add(Report{Process: "1", Started: epoch, Block: Block{Number: number}})
		c.Add(Report{Process: "1", Started: epoch.Add(time.Hour), Block: Block{Number: number}})
	}
	for i := range maxStanding + 10 {
		c.Hear(Verdict{ID: fmt.Sprint(i), Class: HeapLive, State: Leaking})
	}
	if len(c.standing) != maxStanding {
		t.Errorf("%d verdicts remembered", len(c.standing))
	}
	c.Hear(Verdict{ID: "0", Class: HeapLive, State: OK})
	if len(c.standing) != maxStanding-1 {
		t.Errorf("%d after one ended", len(c.standing))
	}
	if v := c.Hear(Verdict{ID: "x", Class: "nonsense", State: Leaking}); v.Cohort != CohortUnknown {
		t.Errorf("%+v", v)
	}
}
