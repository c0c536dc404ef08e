package hunt

import (
	"math/rand/v2"
	"testing"
	"time"
)

// process is a server as an experiment sees it: what is in its heap.
type process struct {
	random  *rand.Rand
	keeps   [2]float64 // bytes per event of each activity
	states  [2]float64 // bytes that are there while the activity is the last one
	shares  [2]float64 // the same for each event of its block
	noise   float64    // standard deviation of a reading
	confirm float64    // events of a confirming block by those of one of the trial
	kept    float64
	before  float64
}

// block is n events of an activity and a reading.
func (p *process) block(r *Report, phase Phase, round, a int, n float64) {
	p.kept += p.keeps[a] * n
	reading := p.kept + p.states[a] + p.shares[a]*n + p.noise*p.random.NormFloat64()
	r.add(Block{Phase: phase, Round: round, Activity: a, Events: n, Readings: map[Quantity]float64{Resident: 60e6 + reading, Kept: 60e6 + reading, "heap_used": reading},
		growth: map[Quantity]float64{Resident: reading - p.before, Kept: reading - p.before, "heap_used": reading - p.before}}, "")
	p.before = reading
}

// experiment of six rounds.
func (p *process) experiment() *Report {
	const events = 500
	e := &Experiment{Activities: []Activity{{Cohort: "TLS", Event: "reconnect"}, {Cohort: "mutual-TLS", Event: "reconnect"}}}
	r := newReport(e, time.Now())
	r.Blocks = []Block{{Phase: PhaseWarmUp, Activity: -1, Readings: map[Quantity]float64{Resident: 60e6}}}
	r.Rounds = leastRounds
	for round := 1; round <= r.Rounds; round++ {
		for _, a := range p.random.Perm(2) {
			p.block(r, PhaseTrial, round, a, events*(0.1+1.8*p.random.Float64()))
		}
	}
	r.judge(defaultFloor)
	for _, a := range r.toConfirm() {
		for n := range confirmBlocks {
			p.block(r, PhaseConfirm, n+1, a, events*p.confirm*(0.2+0.4*float64(n)))
		}
	}
	r.conclude(defaultFloor)
	return r
}

// TestState has an activity that leaves something until the other one runs, as
// V8 has machine code for what it did last: no leak, whatever else is measured,
// and no reason to miss one.
func TestState(t *testing.T) {
	const runs = 300
	for _, tt := range []struct {
		name           string
		keeps, states  [2]float64
		shares         [2]float64
		noise, confirm float64
		leaks          [2]float64 // least and most share of the runs, of the second activity
	}{
		{"nothing", [2]float64{}, [2]float64{}, [2]float64{}, 50e3, 1. / 3, [2]float64{0, 0.01}},
		{"state", [2]float64{}, [2]float64{0, 120e3}, [2]float64{}, 50e3, 1. / 3, [2]float64{0, 0.02}},
		{"large state", [2]float64{}, [2]float64{0, 2e6}, [2]float64{}, 50e3, 1. / 3, [2]float64{0, 0.02}},
		{"state of the other activity", [2]float64{}, [2]float64{120e3, 0}, [2]float64{}, 50e3, 1. / 3, [2]float64{0, 0.01}},
		{"leak", [2]float64{0, 3400}, [2]float64{}, [2]float64{}, 50e3, 1. / 3, [2]float64{0.99, 1}},
		{"leak and state", [2]float64{0, 3400}, [2]float64{0, 120e3}, [2]float64{}, 50e3, 1. / 3, [2]float64{0.98, 1}},
		{"leak and state of the other activity", [2]float64{0, 3400}, [2]float64{120e3, 0}, [2]float64{}, 50e3, 1. / 3, [2]float64{0.98, 1}},
		{"state by events", [2]float64{}, [2]float64{}, [2]float64{200, 400}, 20e3, 1, [2]float64{0, 0.01}},
		{"leak and state by events", [2]float64{0, 800}, [2]float64{}, [2]float64{0, 400}, 20e3, 1, [2]float64{0.98, 1}},
		// A busy machine: the trial is suspicious of three quarters of these leaks only.
		{"noise", [2]float64{}, [2]float64{}, [2]float64{}, 600e3, 1, [2]float64{0, 0.01}},
		{"leak in noise", [2]float64{0, 3400}, [2]float64{}, [2]float64{}, 600e3, 1, [2]float64{0.85, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var leaks [2]float64
			for seed := range runs {
				p := &process{random: rand.New(rand.NewPCG(uint64(seed), 5)), keeps: tt.keeps, states: tt.states, shares: tt.shares, noise: tt.noise, confirm: tt.confirm}
				for a, activity := range p.experiment().Activities {
					if activity.Verdict == VerdictLeak {
						leaks[a] += 1. / runs
					}
				}
			}
			t.Logf("leaks in %.3f of %d experiments", leaks, runs)
			if leaks[0] > 0.01 {
				t.Errorf("the first activity was found to leak in %.3f", leaks[0])
			}
			if leaks[1] < tt.leaks[0] || leaks[1] > tt.leaks[1] {
				t.Errorf("the second activity was found to leak in %.3f, want %.2f to %.2f", leaks[1], tt.leaks[0], tt.leaks[1])
			}
		})
	}
}

// TestRevise: a busy machine leaves the trial too few events for a suspicion. The
// time of the confirmation goes to what is known least of, one of two here, and
// that is judged by all of its blocks.
func TestRevise(t *testing.T) {
	const runs = 300
	for _, tt := range []struct {
		name        string
		keeps       float64
		least, most float64 // share of the runs in which it is found to leak
	}{{"leak", 3400, 0.6, 1}, {"nothing", 0, 0, 0.01}} {
		t.Run(tt.name, func(t *testing.T) {
			leaks, suspected := 0., 0.
			for seed := range runs {
				p := &process{random: rand.New(rand.NewPCG(uint64(seed), 6)), keeps: [2]float64{0, tt.keeps}, noise: 300e3}
				r := newReport(&Experiment{Activities: []Activity{{Cohort: "TLS", Event: "reconnect"}, {Cohort: "mutual-TLS", Event: "reconnect"}}}, time.Now())
				r.Blocks = []Block{{Phase: PhaseWarmUp, Activity: -1, Readings: map[Quantity]float64{Resident: 60e6}}}
				r.Rounds = leastRounds
				for round := 1; round <= r.Rounds; round++ {
					for _, a := range p.random.Perm(2) {
						p.block(r, PhaseTrial, round, a, 40)
					}
				}
				r.judge(defaultFloor)
				if len(r.leaking()) > 0 {
					suspected += 1. / runs
				}
				for _, a := range r.toConfirm() {
					for n := range confirmBlocks {
						p.block(r, PhaseConfirm, n+1, a, 600)
					}
				}
				r.conclude(defaultFloor)
				if r.Activities[1].Verdict == VerdictLeak {
					leaks += 1. / runs
				}
			}
			t.Logf("suspected after %.3f of %d trials, a leak in %.3f of the reports", suspected, runs, leaks)
			if leaks < tt.least || leaks > tt.most {
				t.Errorf("a leak in %.3f, want %.2f to %.2f", leaks, tt.least, tt.most)
			}
		})
	}
}
