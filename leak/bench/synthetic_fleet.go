package bench

import (
	"fmt"
	"iter"
	"math"

	"holdfast/leak"
)

// Placement is how the share of mutual TLS is spread over gateways. The list is
// closed.
type Placement string

const (
	Pure    Placement = "pure"    // each gateway has one kind of connections
	Skewed  Placement = "skewed"  // shares from 10 to 90 %
	Uniform Placement = "uniform" // half of each, everywhere
)

// Placements lists them.
func Placements() []Placement { return []Placement{Pure, Skewed, Uniform} }

// Share is the share of mutual TLS of gateway i of n.
func (p Placement) Share(i, n int) float64 {
	switch {
	case p == Pure:
		return float64(i % 2)
	case p == Skewed && n > 1:
		return 0.1 + 0.8*float64(i)/float64(n-1)
	}
	return 0.5
}

// SyntheticFleet is simulated pods that are compared with each other.
type SyntheticFleet struct {
	Pods, Hours int
	Seed        uint64
	Placement   Placement
	Leak        *SyntheticLeak // the same in all pods
}

// FleetOutcome is how a simulated fleet fared. Hours without a verdict are NaN.
type FleetOutcome struct {
	Single  float64              // until the first verdict of any process on its own
	Fleet   float64              // until the first verdict over the fleet
	Flagged int                  // processes with a verdict of their own
	Cohorts map[leak.Cohort]bool // that were named at any time
	Last    leak.Cohort          // that was named last
}

// Run simulates the pods side by side and compares them as a csms does.
func (f SyntheticFleet) Run() FleetOutcome {
	type pod struct {
		next     func() (leak.Sample, bool)
		detector *leak.Detector
	}
	contrast := leak.NewContrast(nil)
	out := FleetOutcome{Single: math.NaN(), Fleet: math.NaN(), Cohorts: make(map[leak.Cohort]bool)}
	flagged := make(map[string]bool)
	hear := func(v leak.Verdict) {
		if !v.State.Leak() {
			return
		}
		at := &out.Single
		if v.Process == leak.Fleet {
			at = &out.Fleet
		} else {
			flagged[v.Process] = true
		}
		if math.IsNaN(*at) {
			*at = v.Time.Sub(syntheticStart).Hours()
		}
		if v.Cohort != leak.CohortUnknown {
			out.Cohorts[v.Cohort], out.Last = true, v.Cohort
		}
	}
	pods := make([]pod, f.Pods)
	for i := range pods {
		share := f.Placement.Share(i, f.Pods)
		if share == 0 {
			share = -1
		}
		c := Synthetic{Seed: f.Seed*1000 + uint64(i), Scenario: Diurnal, MTLSShare: share, Leak: f.Leak}
		next, stop := iter.Pull(func(yield func(leak.Sample) bool) { c.Run(f.Hours, yield) })
		defer stop()
		pods[i] = pod{next, leak.NewDetector(leak.DetectorConfig{Process: fmt.Sprint("gateway/", i)})}
	}
	for {
		for _, p := range pods {
			s, ok := p.next()
			if !ok {
				out.Flagged = len(flagged)
				return out
			}
			verdicts, block := p.detector.Add(s)
			for _, v := range verdicts {
				hear(contrast.Hear(v))
			}
			if block == nil {
				continue
			}
			for _, v := range contrast.Add(p.detector.Report(*block)) {
				hear(v)
			}
		}
	}
}
