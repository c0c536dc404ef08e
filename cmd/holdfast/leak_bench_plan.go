package main

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/leak"
)

// benchFault is a fault of the benchmark's build, as that describes it.
type benchFault struct {
	Name    string       `json:"name"`
	Leaks   bool         `json:"leaks"`
	Classes []leak.Class `json:"classes,omitempty"`
	Help    string       `json:"help"`
}

func (f *benchFault) in() string {
	if !f.Leaks {
		return "-"
	}
	var list []string
	for _, c := range f.Classes {
		list = append(list, string(c))
	}
	return strings.Join(list, ", ")
}

// benchLoad is what stations do beside their daily life.
type benchLoad string

const (
	loadDaily  benchLoad = "daily"  // day and night, reconnects, a storm now and then
	loadRamp   benchLoad = "ramp"   // their number grows by 60 % in 60 hours
	loadStorms benchLoad = "storms" // a storm every few hours
)

// benchCase is one run: gateways with the same fault, or none.
type benchCase struct {
	Fault     string         `json:"fault"`
	Leaks     bool           `json:"leaks"`
	Classes   []leak.Class   `json:"classes,omitempty"`
	Load      benchLoad      `json:"load"`
	Rate      float64        `json:"percent_per_hour,omitempty"`
	Placement leak.Placement `json:"placement"`
	Cohort    leak.Cohort    `json:"cohort,omitempty"` // whose connections leak
	Onset     float64        `json:"onset_hours"`
	Seed      uint64         `json:"seed"`
}

func (c benchCase) String() string {
	if !c.Leaks {
		return fmt.Sprintf("%s, %s load, %s placement, seed %d", c.Fault, c.Load, c.Placement, c.Seed)
	}
	return fmt.Sprintf("%s %g %%/h of %s connections, %s placement, seed %d", c.Fault, c.Rate, c.Cohort, c.Placement, c.Seed)
}

// leastOnset and mostOnset bound the hour in which a fault begins.
const leastOnset, mostOnset = 2, 16

// plan makes the cases. Placements, and whose connections leak, take turns.
func (c *leakBench) plan(faults []benchFault) ([]benchCase, error) {
	chosen := faults
	if !slices.Contains(c.Faults, "all") {
		chosen = nil
		for _, name := range c.Faults {
			i := slices.IndexFunc(faults, func(f benchFault) bool { return f.Name == name })
			if i < 0 {
				return nil, &usageError{fmt.Sprintf("--faults %q: --list shows what there is", name)}
			}
			chosen = append(chosen, faults[i])
		}
	}
	cohorts := []leak.Cohort{leak.CohortMTLS, leak.CohortTLS, leak.CohortMTLS, leak.CohortBoth}
	var list []benchCase
	turn := 0
	add := func(k benchCase) {
		for i, p := range c.Placements {
			if !c.Each && i != turn%len(c.Placements) {
				continue
			}
			k.Placement = leak.Placement(p)
			// The same numbers for the same case, whatever else is run.
			r := caseRandom(k)
			k.Onset = leastOnset + (mostOnset-leastOnset)*r.Float64()
			if k.Leaks {
				k.Cohort = cohorts[r.IntN(len(cohorts))]
			}
			list = append(list, k)
		}
		turn++
	}
	for seed := c.First; seed < c.First+uint64(c.Seeds); seed++ {
		turn = int(seed-c.First) * 2 // other placements than with the seed before
		for _, f := range chosen {
			k := benchCase{Fault: f.Name, Leaks: f.Leaks, Classes: f.Classes, Load: loadDaily, Seed: seed}
			if f.Leaks {
				for _, k.Rate = range c.Rates {
					add(k)
				}
				continue
			}
			add(k)
			if f.Name == faultNone {
				for _, k.Load = range []benchLoad{loadRamp, loadStorms} {
					add(k)
				}
			}
		}
	}
	return list, nil
}

// faultNone is the fault that does nothing.
const faultNone = "none"
