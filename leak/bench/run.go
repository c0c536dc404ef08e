package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/leak"
)

// Run is a case and what became of it.
type Run struct {
	Case
	Gateways []Gateway `json:"gateways"`
	// Fleet are the verdicts of the comparison.
	Fleet []*Verdict `json:"comparison_verdicts,omitempty"`
	// Named is the cohort that was named last, Ever each that ever was.
	Named   leak.Cohort   `json:"cohort_named,omitempty"`
	Ever    []leak.Cohort `json:"cohorts_ever_named,omitempty"`
	Seconds float64       `json:"seconds"`

	Start time.Time `json:"-"` // of the simulated time
	hours int       // that were replayed
}

// Hours is how long a run was that was replayed.
func (r *Run) Hours() int { return r.hours }

// Forget drops the series, which are some megabytes. Score measures a detector's
// memory with those of one run.
func (r *Run) Forget() {
	for i := range r.Gateways {
		r.Gateways[i].series = nil
	}
}

// Gateway is one gateway of a run.
type Gateway struct {
	Share    float64    `json:"mtls_share"`
	Rate     float64    `json:"percent_per_hour"` // of its own leak; 0: none
	Verdicts []*Verdict `json:"verdicts,omitempty"`
	RawMK    []float64  `json:"raw_mann_kendall_hours,omitempty"` // of the first alarm before the onset, and after
	OLS      []float64  `json:"ols_hours,omitempty"`
	BlockMK  []float64  `json:"block_mann_kendall_hours,omitempty"`
	FirstRSS float64    `json:"rss_at_first_bytes"`
	LastRSS  float64    `json:"rss_at_last_bytes"`
	Leaked   float64    `json:"leaked_bytes"`
	Opened   int        `json:"connections_opened"`
	Failed   int        `json:"connections_failed"`
	Samples  int        `json:"samples"`
	CPU      int64      `json:"samples_cpu_ns"`

	series []leak.Report // of all blocks
	naive  Naive
}

// Verdict is a verdict.
type Verdict struct {
	Hour   float64     `json:"hour"`
	Class  leak.Class  `json:"class"`
	Cohort leak.Cohort `json:"cohort,omitempty"` // the last one
	Text   string      `json:"summary"`
}

// warmHours are not shown to the other detectors either.
const warmHours = 0.5

// Step adds a step to its end in the hour: the block that it ended, if it did, the
// bytes leaked so far, and the CPU time of the sample in nanoseconds.
func (g *Gateway) Step(block *leak.Report, leaked float64, cpu int64, hour, onset float64) {
	g.Samples++
	g.CPU += cpu
	g.Leaked = leaked
	if block != nil {
		g.series = append(g.series, *block)
		g.block(*block, hour, onset)
	}
}

// block shows a block to the other detectors.
func (g *Gateway) block(b leak.Report, hour, onset float64) {
	if hour < warmHours {
		return
	}
	g.LastRSS = b.RSS
	g.FirstRSS = cmp.Or(g.FirstRSS, b.RSS)
	raw, ols, block := g.naive.Add(b.Block)
	for _, a := range []struct {
		alarm bool
		list  *[]float64
	}{{raw, &g.RawMK}, {ols, &g.OLS}, {block, &g.BlockMK}} {
		// One alarm before the onset and one after are kept.
		if n := len(*a.list); a.alarm && (n == 0 || (*a.list)[n-1] < onset && hour >= onset) {
			*a.list = append(*a.list, hour)
		}
	}
}

// Verdicts follows the record of verdicts as it changes.
type Verdicts struct {
	start time.Time
	at    map[string]*Verdict // by ID
	ever  map[leak.Cohort]bool
}

// NewVerdicts follows those of a run that started then.
func NewVerdicts(start time.Time) *Verdicts {
	return &Verdicts{start: start, at: make(map[string]*Verdict), ever: make(map[leak.Cohort]bool)}
}

// Take follows verdicts as they stand, those that changed last first.
func (b *Verdicts) Take(list []leak.Verdict, out *Run) error {
	// What the comparison says of the cohort counts before what a gateway does.
	named := leak.CohortUnknown
	for _, v := range list {
		hour := v.Time.Sub(b.start).Hours()
		if named == leak.CohortUnknown || v.Process == leak.Fleet && v.Cohort != leak.CohortUnknown {
			named = cmp.Or(v.Cohort, named)
		}
		if v.Cohort != leak.CohortUnknown && !b.ever[v.Cohort] {
			b.ever[v.Cohort] = true
			out.Ever = append(out.Ever, v.Cohort)
		}
		if known := b.at[v.ID]; known != nil {
			known.Cohort = v.Cohort
			continue
		}
		list := &out.Fleet
		if v.Process != leak.Fleet {
			var i int
			if _, err := fmt.Sscanf(v.Process, "gateway/gw-%d", &i); err != nil || i >= len(out.Gateways) {
				return fmt.Errorf("a verdict of process %s, which is none of the run's", v.Process)
			}
			list = &out.Gateways[i].Verdicts
		}
		known := &Verdict{hour, v.Class, v.Cohort, v.String()}
		*list, b.at[v.ID] = append(*list, known), known
	}
	for i := range out.Gateways {
		slices.SortStableFunc(out.Gateways[i].Verdicts, earlier)
	}
	slices.SortStableFunc(out.Fleet, earlier)
	out.Named = named
	return nil
}

func earlier(a, b *Verdict) int { return cmp.Compare(a.Hour, b.Hour) }

// Outcome is a run in a line.
func (r *Run) Outcome() string {
	var parts []string
	for i, g := range r.Gateways {
		if len(g.Verdicts) > 0 {
			v := g.Verdicts[0]
			parts = append(parts, fmt.Sprintf("gw-%d %s at hour %.0f", i, v.Class, v.Hour))
		}
	}
	if len(r.Fleet) > 0 {
		parts = append(parts, fmt.Sprintf("comparison %s at hour %.0f", r.Fleet[0].Class, r.Fleet[0].Hour))
	}
	if len(parts) == 0 {
		parts = append(parts, "silence")
	}
	if r.Named != leak.CohortUnknown {
		parts = append(parts, "cohort "+string(r.Named))
	}
	if r.Leaks {
		parts = append(parts, fmt.Sprintf("onset hour %.0f", r.Onset))
	}
	return strings.Join(parts, ", ")
}
