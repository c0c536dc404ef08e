package leak

import (
	"fmt"
	"math"
	"testing"
	"time"
)

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
		{"one", []growth{g(1e6, 1, 0, 1000)}, CohortUnknown, 0},
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
	c := NewContrast(nil)
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

// A verdict does not outlive its process: it ends when another one of that name
// reports, or when there was none for six hours. A comparison that starts anew
// goes on with the verdicts that stand.
func TestVerdictsOfEndedProcesses(t *testing.T) {
	at := epoch.Add(40 * time.Hour)
	verdict := func(process string) Verdict {
		return Verdict{ID: "of " + process, Process: process, Class: OffHeap, Cohort: CohortMTLS, State: Leaking, Time: at, Changed: at, Kept: 5 << 20}
	}
	block := at.UnixNano() / int64(BlockTime)
	whole := verdict(Fleet)
	for name, open := range map[string][]Verdict{"heard": nil, "from the record": {verdict("gateway/a"), verdict("gateway/b"), verdict("gateway/c"), whole}} {
		t.Run(name, func(t *testing.T) {
			c := NewContrast(open)
			if open == nil {
				for _, p := range []string{"gateway/a", "gateway/b", "gateway/c"} {
					c.Hear(verdict(p))
				}
			} else if got := c.Standing(); len(got) != 1 || got[0] != whole {
				t.Fatalf("verdicts over the fleet %+v", got)
			}
			var told []Verdict
			report := func(p string, started time.Time, from, to int64) {
				for n := from; n < to; n++ {
					told = append(told, c.Add(Report{Process: p, Started: started, Block: Block{Number: block + n}})...)
				}
			}
			report("gateway/a", epoch, 0, 3)
			if len(told) > 0 {
				t.Fatalf("the process that leaks still runs: %+v", told)
			}
			report("gateway/b", at.Add(10*time.Minute), 3, 4)
			if len(told) != 1 || told[0].ID != "of gateway/b" || told[0].State != OK || !told[0].Gone || told[0].Ended.Before(at) {
				t.Fatalf("another process: %+v", told)
			}
			if s := told[0].String(); s != "gateway/b: off_heap leaked 5 MB until the process ended" {
				t.Error(s)
			}
			report("gateway/a", epoch, 4, 7*6)
			if len(told) != 1 {
				t.Fatalf("six hours of silence are not over: %+v", told)
			}
			report("gateway/a", epoch, 7*6, 9*6)
			if len(told) != 2 || told[1].ID != "of gateway/c" || !told[1].Gone {
				t.Fatalf("a process that is silent: %+v", told)
			}
			if len(c.standing) != 1 {
				t.Errorf("%d verdicts stand", len(c.standing))
			}
		})
	}
}
