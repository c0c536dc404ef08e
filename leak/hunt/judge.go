package hunt

import (
	"cmp"
	"math"
	"slices"
)

// suspectP is the one-sided probability below which an effect is suspect. An
// experiment tests some fifty; what is suspect by chance does not survive the
// confirmation.
const suspectP = 0.005

// hintP is the same of what is only a hint: on a busy machine the trial has few
// events, and a leak of kilobytes hides in the noise. Some two of fifty tests are
// below it by chance. The confirmation has to be so much clearer: hintedP.
const hintP = 0.05

// leakP is the probability that a suspect has to fall below once what an
// activity leaves until the next one is taken out, see alone. There are few
// suspects, and most of them leak. hintedP is that of what was only a hint.
const (
	leakP   = 0.01
	hintedP = 0.0005
)

// leastKnown is how many rounds an experiment that ended early has to have for any
// effect to be told.
const leastKnown = 3

// vague is how many bytes per event are too much for a clean bill, as long as there
// is time to find out more.
const vague = 1 << 10

// mostHinted is how many activities are confirmed for hints alone.
const mostHinted = 2

const (
	// countFloor is how many things per event count as a leak: one in 200 events.
	countFloor = 0.005
	// slowing is the share of its rate that a leak keeps in the second half of a
	// trial, and in the confirmation; retention falls below it.
	slowing = 0.5
	// spill is the share of the largest effect in a quantity that other activities
	// have to exceed: an attempt that the client counts differently than the
	// server moves so much from one activity to another.
	spill = 0.03
	// leastGrowth is how many bytes a leak has to gather in the trial, and
	// leastShare of the resident set in addition: below it caches that fill slowly
	// look the same. More events tell them apart.
	leastGrowth = 256 << 10
	leastShare  = 0.002
)

// judge finds the suspects of the trial: what grows significantly and by more than
// the floor.
func (r *Report) judge(floor float64) {
	for _, q := range tested {
		if _, read := r.Blocks[len(r.Blocks)-1].growth[q]; !read {
			continue
		}
		whole := r.fit(q, inTrial)
		least := leastEffect(q, floor, whole)
		for a, e := range whole {
			if e.P < hintP && r.matters(q, a, e, least, inTrial) {
				r.accuse(q, a, e, e.P >= suspectP)
			}
		}
	}
}

func inTrial(b *Block) bool { return b.Phase == PhaseTrial }
func counted(b *Block) bool { return b.Phase == PhaseTrial || b.Phase == PhaseConfirm }

// leastEffect is what an effect on a quantity has to be.
func leastEffect(q Quantity, floor float64, effects []Effect) float64 {
	least := floor
	if q.IsCount() {
		least = countFloor
	}
	for _, e := range effects {
		least = max(least, spill*e.Value)
	}
	return least
}

// matters reports whether an effect is large enough, per event and in all blocks
// that ok accepts.
func (r *Report) matters(q Quantity, a int, e Effect, least float64, ok func(*Block) bool) bool {
	return e.Value >= least && (q.IsCount() || e.Value*r.events(a, ok) >= leastGrowth+leastShare*r.Blocks[0].Readings[Resident])
}

// accuse adds a finding that is to be confirmed.
func (r *Report) accuse(q Quantity, a int, e Effect, hint bool) {
	middle := (r.Rounds + 1) / 2
	early := r.fit(q, func(b *Block) bool { return inTrial(b) && b.Round <= middle })
	late := r.fit(q, func(b *Block) bool { return inTrial(b) && b.Round > middle })
	r.Activities[a].Findings = append(r.Activities[a].Findings, Finding{Quantity: q, Verdict: VerdictLeak, Effect: e, Early: early[a].Value, Late: late[a].Value, hint: hint})
}

// events are those of an activity in the blocks that ok accepts, storms included.
func (r *Report) events(a int, ok func(*Block) bool) float64 {
	n := 0.0
	for i := range r.Blocks {
		if b := &r.Blocks[i]; b.Activity >= 0 && ok(b) {
			n += r.row(b)[a]
		}
	}
	return n
}

// suspects are the activities to confirm: the worst first, then those of which
// there is only a hint, the clearest first.
func (r *Report) suspects() []int {
	var hinted []int
	for a := range r.Activities {
		if fs := r.Activities[a].Findings; len(fs) > 0 && !slices.ContainsFunc(fs, Finding.certain) {
			hinted = append(hinted, a)
		}
	}
	clearest := func(a int) float64 {
		p := 1.0
		for _, f := range r.Activities[a].Findings {
			p = min(p, f.Effect.P)
		}
		return p
	}
	slices.SortStableFunc(hinted, func(a, b int) int { return cmp.Compare(clearest(a), clearest(b)) })
	return append(r.leaking(), hinted[:min(len(hinted), mostHinted)]...)
}

// toConfirm are the suspects. If there are few of them, the one activity of which
// least is known comes last: that which could keep most per event, if it is more
// than vague. On a busy machine an activity may have had too few events in the
// trial for a suspicion, and for a clean bill.
func (r *Report) toConfirm() []int {
	list := r.suspects()
	if len(list) >= mostHinted {
		return list
	}
	vaguest, most := -1, float64(vague)
	for a, e := range r.fit(Kept, inTrial) {
		if r.Activities[a].Event != IdleEvent && e.Blocks > 1 && e.Upper() > most && !slices.Contains(list, a) {
			vaguest, most = a, e.Upper()
		}
	}
	if vaguest >= 0 {
		list = append(list, vaguest)
	}
	return list
}

// leaking are the activities that leak, the worst first.
func (r *Report) leaking() []int {
	var list []int
	for a := range r.Activities {
		if slices.ContainsFunc(r.Activities[a].Findings, Finding.certain) {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int {
		return cmp.Compare(r.Activities[b].rate(), r.Activities[a].rate())
	})
	return list
}

// certain reports whether the finding is a leak, or before the confirmation
// suspect of one, and more than a hint.
func (f Finding) certain() bool { return f.Verdict == VerdictLeak && !f.hint }

// rate is bytes per event of the largest finding.
func (a *ActivityReport) rate() float64 {
	worst := 0.0
	for _, f := range a.Findings {
		if !f.Quantity.IsCount() {
			worst = max(worst, f.Effect.Value)
		}
	}
	return worst
}

// conclude takes the confirmation in and says what was found.
func (r *Report) conclude(floor float64) {
	r.revise(floor)
	for a := range r.Activities {
		for i := range r.Activities[a].Findings {
			r.confirmed(a, &r.Activities[a].Findings[i], floor)
		}
	}
	r.measure()
	r.summarize()
}

// revise looks again at the activities that were confirmed, for whatever reason:
// the confirmation may show clearly what the trial had not enough events for.
func (r *Report) revise(floor float64) {
	for _, q := range tested {
		if _, read := r.Blocks[len(r.Blocks)-1].growth[q]; !read {
			continue
		}
		least := leastEffect(q, floor, r.fit(q, counted))
		for a := range r.Activities {
			confirmed := slices.ContainsFunc(r.Blocks, func(b Block) bool { return b.Phase == PhaseConfirm && b.Activity == a })
			if !confirmed || r.Activities[a].has(q) {
				continue
			}
			if e := r.alone(q, a); e.P < hintedP && r.matters(q, a, e, least, counted) {
				r.accuse(q, a, e, true)
			}
		}
	}
}

// end concludes an experiment that ended early: what was suspect is not
// confirmed. An experiment that had concluded has its verdict.
func (r *Report) end(why string, floor float64) {
	r.Ended = why
	if len(r.Summary) > 0 {
		r.Warnings = append(r.Warnings, why)
		return
	}
	if len(r.suspects()) == 0 {
		r.judge(floor)
	}
	for a := range r.Activities {
		for i := range r.Activities[a].Findings {
			f := &r.Activities[a].Findings[i]
			f.Verdict = VerdictNone
			if !f.hint {
				f.Verdict = VerdictSuspect
			}
		}
	}
	r.measure()
	r.summarize()
}

// measure fits the final effects and says of each activity what it keeps.
func (r *Report) measure() {
	for a := range r.Activities {
		r.Activities[a].Effects = make(map[Quantity]Effect)
	}
	quantities := r.quantities()
	if r.Ended != "" && r.Rounds < leastKnown {
		quantities = nil
	}
	for _, q := range quantities {
		for a, e := range r.fit(q, counted) {
			if e.Blocks > 1 && !math.IsInf(e.High, 1) {
				r.Activities[a].Effects[q] = e
			}
		}
	}
	for i := range r.Blocks {
		if b := &r.Blocks[i]; b.Phase == PhaseWarmUp {
			r.Retained = b.Readings[Resident] - r.Blocks[0].Readings[Resident]
		}
	}
	for a := range r.Activities {
		r.Activities[a].conclude(r.Ended != "")
	}
}

// confirmed decides over a suspect by the blocks of its activity alone, and by
// what is left of its effect beside its state.
func (r *Report) confirmed(a int, f *Finding, floor float64) {
	if f.Verdict != VerdictLeak {
		return
	}
	var gained, events []float64
	for i := 1; i < len(r.Blocks); i++ {
		// The first block brings the process into the activity's state.
		if b := &r.Blocks[i]; b.Phase == PhaseConfirm && b.Activity == a && r.Blocks[i-1].Activity == a && b.Events > 0 {
			n := b.Events
			if b.Stirred != nil {
				n += b.Stirred[a]
			}
			gained, events = append(gained, b.growth[f.Quantity]), append(events, n)
		}
	}
	half := len(gained) / 2
	per := func(from, to int) float64 {
		g, n := 0.0, 0.0
		for i := from; i < to; i++ {
			g, n = g+gained[i], n+events[i]
		}
		if n == 0 {
			return 0
		}
		return g / n
	}
	if f.Quantity.IsCount() {
		floor = countFloor
	}
	f.Confirmed = per(0, len(gained))
	e := r.alone(f.Quantity, a)
	limit := leakP
	if f.hint {
		limit = hintedP
	}
	saturates := f.Late < slowing*f.Early && !f.hint
	switch {
	case e.P >= limit || e.Value < floor || f.Confirmed < slowing*slowing*e.Value:
		f.Verdict = VerdictNone // chance, a single step, or a state
		if saturates {
			f.Verdict = VerdictRetention
		}
	case f.Confirmed < slowing*e.Value, per(half, len(gained)) < slowing*slowing*e.Value,
		saturates && f.Confirmed < slowing*f.Early:
		f.Verdict = VerdictRetention
	}
	f.Effect, f.hint = e, false
}

// alone is the effect of an activity on a quantity in trial and confirmation
// beside its state: what is there as long as it was the last one to run, and goes
// with the next. V8 compiles what runs and throws away what does not: after a
// block of its own an activity has some 100 KB more of machine code, and more after
// a block of many events than after one of few: the state has a fixed part and one
// that goes with the events of the block. In blocks
// that alternate such a state looks like an effect of one activity, and like the
// opposite of the others; in blocks that follow one of the same kind it does not
// show at all.
func (r *Report) alone(q Quantity, a int) Effect {
	var events [][]float64
	var gained []float64
	for i := 1; i < len(r.Blocks); i++ {
		b := &r.Blocks[i]
		n, known := b.growth[q]
		if !known || b.Events == 0 || !counted(b) {
			continue
		}
		row := r.row(b)
		state, share := 0.0, 0.0
		if b.Activity == a {
			state, share = state+1, share+b.Events
		}
		if before := &r.Blocks[i-1]; before.Activity == a {
			state, share = state-1, share-before.Events
		}
		events, gained = append(events, append(row, state, share)), append(gained, n)
	}
	if len(events) == 0 {
		return Effect{P: 1}
	}
	return FitEffects(events, gained)[a]
}
