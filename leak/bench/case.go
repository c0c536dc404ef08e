package bench

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"holdfast/leak"
)

// Fault is a fault of the benchmark's build, as that describes it.
type Fault struct {
	Name    string       `json:"name"`
	Leaks   bool         `json:"leaks"`
	Classes []leak.Class `json:"classes,omitempty"`
	Load    Load         `json:"load"`
	Help    string       `json:"help"`
}

// In is the classes that it leaks in, for people.
func (f *Fault) In() string {
	if !f.Leaks {
		return "-"
	}
	var list []string
	for _, c := range f.Classes {
		list = append(list, string(c))
	}
	return strings.Join(list, ", ")
}

// Load is what stations do beside their daily life.
type Load string

const (
	LoadDaily  Load = "daily"  // day and night, reconnects, a storm now and then
	LoadRamp   Load = "ramp"   // their number grows by 60 % in 60 hours
	LoadStorms Load = "storms" // a storm every few hours
	LoadScale  Load = "scale"  // a third of them are with another pod, for a day
)

// Case is one run: gateways with the same fault, or none.
type Case struct {
	Fault     string       `json:"fault"`
	Leaks     bool         `json:"leaks"`
	Classes   []leak.Class `json:"classes,omitempty"`
	Load      Load         `json:"load"`
	Rate      float64      `json:"percent_per_hour,omitempty"`
	Placement Placement    `json:"placement"`
	Cohort    leak.Cohort  `json:"cohort,omitempty"` // whose connections leak
	Onset     float64      `json:"onset_hours"`
	Seed      uint64       `json:"seed"`
}

func (c Case) String() string {
	if !c.Leaks {
		return fmt.Sprintf("%s, %s load, %s placement, seed %d", c.Fault, c.Load, c.Placement, c.Seed)
	}
	return fmt.Sprintf("%s %g %%/h of %s connections, %s placement, seed %d", c.Fault, c.Rate, c.Cohort, c.Placement, c.Seed)
}

// leastOnset and mostOnset bound the hour in which a fault begins.
const leastOnset, mostOnset = 2, 16

// Plan is which runs there are.
type Plan struct {
	Faults     []string // or all
	Rates      []float64
	Placements []Placement
	Each       bool // every case with every placement, instead of in turn
	First      uint64
	Seeds      int
	Hours      int
}

// Cases makes the runs of the faults that there are. Placements, and whose
// connections leak, take turns.
func (p Plan) Cases(faults []Fault) ([]Case, error) {
	chosen := faults
	if !slices.Contains(p.Faults, "all") {
		chosen = nil
		for _, name := range p.Faults {
			i := slices.IndexFunc(faults, func(f Fault) bool { return f.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("no fault %q", name)
			}
			chosen = append(chosen, faults[i])
		}
	}
	cohorts := []leak.Cohort{leak.CohortMTLS, leak.CohortTLS, leak.CohortMTLS, leak.CohortBoth}
	var list []Case
	turn := 0
	add := func(k Case) {
		for i, place := range p.Placements {
			if !p.Each && i != turn%len(p.Placements) {
				continue
			}
			k.Placement = place
			// The same numbers for the same case, whatever else is run.
			r := k.Random()
			k.Onset = leastOnset + (mostOnset-leastOnset)*r.Float64()
			if k.Leaks {
				k.Cohort = cohorts[r.IntN(len(cohorts))]
			}
			list = append(list, k)
		}
		turn++
	}
	for seed := p.First; seed < p.First+uint64(p.Seeds); seed++ {
		turn = int(seed-p.First) * 2 // other placements than with the seed before
		for _, f := range chosen {
			k := Case{Fault: f.Name, Leaks: f.Leaks, Classes: f.Classes, Load: f.Load, Seed: seed}
			if f.Leaks {
				for _, k.Rate = range p.Rates {
					add(k)
				}
				continue
			}
			add(k)
			if f.Name == NoFault {
				for _, k.Load = range []Load{LoadRamp, LoadStorms} {
					add(k)
				}
			}
		}
	}
	return list, nil
}

// NoFault is the fault that does nothing.
const NoFault = "none"

// Random gives each case its own numbers.
func (c Case) Random() *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, c.Fault, c.Rate, c.Load)
	return rand.New(rand.NewPCG(c.Seed, h.Sum64()))
}
