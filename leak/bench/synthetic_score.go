package bench

import (
	"context"
	"math"
	"runtime"
	"sync"

	"holdfast/leak"
)

// Confusion counts what a detector said of runs whose truth is known.
type Confusion struct {
	TruePositive  int `json:"true_positive"`
	FalsePositive int `json:"false_positive"`
	TrueNegative  int `json:"true_negative"`
	FalseNegative int `json:"false_negative"`
}

// Add counts one run.
func (c *Confusion) Add(leaks, alarmed bool) {
	switch {
	case leaks && alarmed:
		c.TruePositive++
	case leaks:
		c.FalseNegative++
	case alarmed:
		c.FalsePositive++
	default:
		c.TrueNegative++
	}
}

// Precision is the share of alarms that are right; 0 without alarms.
func (c Confusion) Precision() float64 { return ratio(c.TruePositive, c.TruePositive+c.FalsePositive) }

// Recall is the share of leaks that are found; 0 without leaks.
func (c Confusion) Recall() float64 { return ratio(c.TruePositive, c.TruePositive+c.FalseNegative) }

// F1 is the harmonic mean of precision and recall.
func (c Confusion) F1() float64 {
	return ratio(2*c.TruePositive, 2*c.TruePositive+c.FalsePositive+c.FalseNegative)
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// SyntheticConfig says how much RunSynthetic simulates.
type SyntheticConfig struct {
	Seeds int     // series per case
	First uint64  // first seed: others give series that nobody has seen
	Hours int     // length of a series; zero means 96
	Noise float64 // times the usual; zero means 1
	Rates []float64
	// Fleets is how many fleets of 10 pods are simulated per placement and leak.
	// They take 1.5 s of CPU each.
	Fleets int
}

// SyntheticReport is what the detector and others made of simulated series.
type SyntheticReport struct {
	Hours    int           `json:"hours"`
	Healthy  []HealthyCase `json:"healthy"`
	Leaking  []LeakingCase `json:"leaking"`
	Detector Confusion     `json:"detector"`
	RawMK    Confusion     `json:"raw_mann_kendall"`
	OLS      Confusion     `json:"ols"`
	BlockMK  Confusion     `json:"block_mann_kendall"`
	PodDays  float64       `json:"pod_days"` // of healthy series
	Alarms   int           `json:"false_alarms"`
	ClassHit int           `json:"class_right"` // of the leaks that were found
	Fleets   []FleetCase   `json:"fleets,omitempty"`
}

// FleetCase is one placement with one leak: PerMTLS bytes for each new
// mutual-TLS connection; 0 is a healthy fleet.
type FleetCase struct {
	Placement    Placement `json:"placement"`
	PerMTLS      float64   `json:"bytes_per_mtls_connection"`
	Runs         int       `json:"runs"`
	Single       int       `json:"found_by_a_process"`
	Flagged      int       `json:"processes_flagged"` // of 10 per run
	Fleet        int       `json:"found_by_comparison"`
	FleetHours   []float64 `json:"comparison_hours"` // after the onset
	Right        int       `json:"cohort_right"`
	Wrong        int       `json:"cohort_wrong"` // a wrong one was named at any time
	Undetermined int       `json:"cohort_undetermined"`
}

// HealthyCase is one scenario without a leak.
type HealthyCase struct {
	Scenario Scenario `json:"scenario"`
	Runs     int      `json:"runs"`
	Alarms   int      `json:"alarms"`
	RawMK    int      `json:"raw_mann_kendall"`
	OLS      int      `json:"ols"`
	BlockMK  int      `json:"block_mann_kendall"`
}

// LeakingCase is one class at one rate.
type LeakingCase struct {
	Class  leak.Class `json:"class"`
	Bursty bool       `json:"bursty,omitempty"`
	Rate   float64    `json:"percent_per_hour"`
	Runs   int        `json:"runs"`
	Found  int        `json:"found"`
	Right  int        `json:"class_right"`
	Delays []float64  `json:"delays_h"` // after the onset, of those found
	// Covered is of how many the true growth was in the interval of the first
	// forecast, which should hold 90 %.
	Covered int `json:"forecast_covered"`
}

// outcome of one series.
type outcome struct {
	verdict            *leak.Verdict
	raw, ols, block    bool
	hoursAfter, actual float64 // delay; true growth of the class in a day
}

// skipBlocks at the start are not shown to the other detectors either.
const skipBlocks = 3

// simulate runs one series through all detectors.
func simulate(c Synthetic, hours int) outcome {
	var o outcome
	var naive Naive
	d := leak.NewDetector(leak.DetectorConfig{Process: "synthetic", Start: syntheticStart})
	skip := skipBlocks
	rss := c.Run(hours, func(s leak.Sample) bool {
		verdicts, block := d.Add(s)
		for _, v := range verdicts {
			if v.State.Leak() && o.verdict == nil {
				o.verdict = &v
				o.hoursAfter = v.Time.Sub(syntheticStart).Hours()
				if c.Leak != nil {
					o.hoursAfter -= c.Leak.Onset
				}
			}
		}
		if block != nil {
			if skip > 0 {
				skip--
				return true
			}
			raw, ols, blocks := naive.Add(*block)
			o.raw, o.ols, o.block = o.raw || raw, o.ols || ols, o.block || blocks
		}
		return true
	})
	if c.Leak != nil {
		o.actual = c.Leak.PerDay(rss)
	}
	return o
}

// RunSynthetic simulates healthy and leaking pods and returns how the detector
// and three others did. It takes all processors, about 0.1 s per series, until
// done or ctx ends.
func RunSynthetic(ctx context.Context, cfg SyntheticConfig) (SyntheticReport, error) {
	if cfg.Hours == 0 {
		cfg.Hours = 96
	}
	if len(cfg.Rates) == 0 {
		cfg.Rates = []float64{0.05, 0.1, 0.2, 0.5, 1, 2, 5}
	}
	type run struct {
		healthy, leaking int // index of the case, or -1
		c                Synthetic
		fleet            int // index of the case, or -1
		f                SyntheticFleet
	}
	rep := SyntheticReport{Hours: cfg.Hours}
	var runs []run
	for i, s := range Scenarios() {
		rep.Healthy = append(rep.Healthy, HealthyCase{Scenario: s, Runs: cfg.Seeds})
		for k := range cfg.Seeds {
			runs = append(runs, run{healthy: i, leaking: -1, fleet: -1, c: Synthetic{Seed: cfg.First + uint64(k), Scenario: s, Noise: cfg.Noise}})
		}
	}
	type leakCase struct {
		class    leak.Class
		bursty   bool
		scenario Scenario
	}
	for _, l := range []leakCase{{leak.HeapLive, false, Diurnal}, {leak.HeapLive, true, Diurnal}, {leak.HeapLive, false, Ramp}, {leak.OffHeap, false, Diurnal},
		{leak.Goroutines, false, Diurnal}, {leak.SocketBuffers, false, Diurnal}, {leak.Metadata, false, Diurnal}, {leak.Files, false, Diurnal}, {leak.Threads, false, Diurnal}, {leak.HeapUnused, false, Diurnal}} {
		for _, rate := range cfg.Rates {
			rep.Leaking = append(rep.Leaking, LeakingCase{Class: l.class, Bursty: l.bursty, Rate: rate, Runs: cfg.Seeds})
			for k := range cfg.Seeds {
				seed := cfg.First + uint64(k)
				onset := 1 + 29*float64(seed%31)/31
				runs = append(runs, run{healthy: -1, leaking: len(rep.Leaking) - 1, fleet: -1, c: Synthetic{Seed: seed, Scenario: l.scenario, Noise: cfg.Noise,
					Leak: &SyntheticLeak{Class: l.class, Rate: rate, Onset: onset, Bursty: l.bursty}}})
			}
		}
	}
	const pods = 10
	for _, place := range Placements() {
		for _, bytes := range []float64{0, 110, 400} { // 1 % of them keep 11 KB, or 40 KB
			if cfg.Fleets == 0 {
				continue
			}
			rep.Fleets = append(rep.Fleets, FleetCase{Placement: place, PerMTLS: bytes, Runs: cfg.Fleets})
			for k := range cfg.Fleets {
				f := SyntheticFleet{Pods: pods, Hours: cfg.Hours, Seed: cfg.First + uint64(k), Placement: place}
				if bytes > 0 {
					f.Leak = &SyntheticLeak{Class: leak.HeapLive, Onset: 1 + 29*float64(k%31)/31, PerMTLS: bytes}
				}
				runs = append(runs, run{healthy: -1, leaking: -1, fleet: len(rep.Fleets) - 1, f: f})
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := 0
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				if next == len(runs) || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				r := runs[next]
				next++
				mu.Unlock()
				if r.fleet >= 0 {
					o := r.f.Run()
					mu.Lock()
					rep.Fleets[r.fleet].count(o, r.f.Leak)
					mu.Unlock()
					continue
				}
				o := simulate(r.c, cfg.Hours)
				mu.Lock()
				rep.count(r.healthy, r.leaking, o)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return rep, ctx.Err()
}

// count adds one outcome.
func (rep *SyntheticReport) count(healthy, leaking int, o outcome) {
	leaks := leaking >= 0
	rep.Detector.Add(leaks, o.verdict != nil)
	rep.RawMK.Add(leaks, o.raw)
	rep.OLS.Add(leaks, o.ols)
	rep.BlockMK.Add(leaks, o.block)
	if !leaks {
		h := &rep.Healthy[healthy]
		rep.PodDays += float64(rep.Hours) / 24
		if o.verdict != nil {
			h.Alarms++
			rep.Alarms++
		}
		h.RawMK += btoi(o.raw)
		h.OLS += btoi(o.ols)
		h.BlockMK += btoi(o.block)
		return
	}
	l := &rep.Leaking[leaking]
	if o.verdict == nil {
		return
	}
	l.Found++
	l.Delays = append(l.Delays, o.hoursAfter)
	if o.verdict.Class == l.Class {
		l.Right++
		rep.ClassHit++
		f := o.verdict.Forecast.PerDay
		l.Covered += btoi(f.Low <= o.actual && o.actual <= f.High)
	}
}

func (f *FleetCase) count(o FleetOutcome, l *SyntheticLeak) {
	f.Single += btoi(!math.IsNaN(o.Single))
	f.Flagged += o.Flagged
	if !math.IsNaN(o.Fleet) {
		f.Fleet++
		if l != nil {
			f.FleetHours = append(f.FleetHours, o.Fleet-l.Onset)
		}
	}
	f.Right += btoi(o.Last == leak.CohortMTLS && l != nil)
	f.Undetermined += btoi(o.Last == leak.CohortUndetermined)
	f.Wrong += btoi(o.Cohorts[leak.CohortTLS] || o.Cohorts[leak.CohortBoth] || l == nil && o.Cohorts[leak.CohortMTLS])
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
