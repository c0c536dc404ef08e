package hunt

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/memory"
)

// Quantity is something that an experiment reads: a class of memory in bytes, or
// a count.
type Quantity string

// Resident and Kept are of the process as a whole. Kept is all that a process
// cannot give back by itself: its classes without garbage, without free memory
// that its runtime keeps, and without unused room in its heap.
const (
	Resident Quantity = "rss"
	Kept     Quantity = "kept"
)

// tested are the quantities in which there can be a leak, the telling ones
// first. Garbage and free memory are no leak, the resident set is their sum.
var tested = []Quantity{
	Quantity(memory.HeapLive), Quantity(memory.HeapUsed), Quantity(memory.External), Quantity(memory.OffHeap), Quantity(memory.Anonymous),
	Quantity(memory.Stacks), Quantity(memory.HeapUnused), Quantity(memory.Metadata), Quantity(memory.File), Quantity(memory.Shared),
	Quantity(memory.SocketBuffers), countOf(memory.Goroutines), countOf(memory.Files), countOf(memory.SocketFiles), countOf(memory.Threads), countOf(memory.Handles),
}

// countOf keeps the name of a count apart from the class of the same name.
func countOf(c memory.Count) Quantity { return Quantity("count:" + c) }

// IsCount reports whether the quantity is a number of things rather than bytes.
func (q Quantity) IsCount() bool { return strings.HasPrefix(string(q), "count:") }

// Name is the quantity without what keeps counts apart: "off_heap", "goroutines".
func (q Quantity) Name() string { return strings.TrimPrefix(string(q), "count:") }

// Names are the quantities in which there can be a leak.
func Names() []string {
	var names []string
	for _, q := range tested {
		names = append(names, q.Name())
	}
	return names
}

// Known reports whether there can be a leak in a quantity of that name.
func Known(name Quantity) bool { return slices.Contains(Names(), string(name)) }

// inWords are the names of quantities in sentences.
var inWords = map[Quantity]string{
	Resident: "resident", Kept: "kept",
	Quantity(memory.HeapLive): "live heap", Quantity(memory.HeapUsed): "heap", Quantity(memory.External): "external",
	Quantity(memory.OffHeap): "off-heap", Quantity(memory.Anonymous): "anonymous memory", Quantity(memory.Stacks): "stacks",
	Quantity(memory.HeapUnused): "unused room in the heap", Quantity(memory.Metadata): "runtime metadata", Quantity(memory.File): "mapped files",
	Quantity(memory.Shared): "shared memory", Quantity(memory.SocketBuffers): "socket buffers in the kernel", Quantity(memory.HeapGarbage): "garbage",
	Quantity(memory.HeapFree): "free heap", countOf(memory.Goroutines): "goroutine", countOf(memory.Files): "open file",
	countOf(memory.SocketFiles): "socket", countOf(memory.Threads): "thread", countOf(memory.Handles): "libuv handle",
}

// Words is the quantity's name in a sentence.
func (q Quantity) Words() string { return cmp.Or(inWords[q], strings.TrimPrefix(string(q), "count:")) }

// readings are a sample's quantities.
func readings(s memory.Sample) map[Quantity]float64 {
	all := map[Quantity]float64{Resident: float64(s.RSS)}
	kept := 0.0
	for class, n := range s.Classes {
		all[Quantity(class)] = float64(n)
		switch class {
		case memory.HeapGarbage, memory.HeapFree, memory.HeapUnused:
		default:
			kept += float64(n)
		}
	}
	if n, ok := s.Kernel[memory.SocketBuffers]; ok {
		all[Quantity(memory.SocketBuffers)] = float64(n)
	}
	for count, n := range s.Counts {
		all[countOf(count)] = float64(n)
	}
	if len(s.Classes) == 0 {
		kept = float64(s.RSS)
	}
	all[Kept] = kept
	return all
}

// growth is what each quantity that both samples know has gained.
func growth(before, after memory.Sample) map[Quantity]float64 {
	was, is := readings(before), readings(after)
	gained := make(map[Quantity]float64, len(is))
	for q, n := range is {
		if old, ok := was[q]; ok {
			gained[q] = n - old
		}
	}
	return gained
}

// Verdict is what an experiment found.
type Verdict string

const (
	// VerdictLeak: memory or things grow with events and do not stop.
	VerdictLeak Verdict = "leak"
	// VerdictRetention: memory was kept that grew no further, or ever more slowly.
	VerdictRetention Verdict = "retention"
	// VerdictNone: nothing of the sort.
	VerdictNone Verdict = "none"
)

// Report is what an experiment did and found.
type Report struct {
	Started time.Time `json:"started"`
	Took    float64   `json:"seconds"`
	Seed    uint64    `json:"seed"`
	PID     int       `json:"pid,omitempty"`
	WarmUps int       `json:"warm_up_rounds"`
	Rounds  int       `json:"rounds"`

	Verdict Verdict `json:"verdict"`
	// Summary says it in sentences, the verdict first.
	Summary    []string         `json:"summary"`
	Activities []ActivityReport `json:"activities"`
	// Retained is by how much the resident set grew in the warm-up, in bytes.
	Retained float64 `json:"retained_bytes"`
	// Blocks are all readings in order, the first one before any event.
	Blocks   []Block  `json:"blocks"`
	Warnings []string `json:"warnings,omitempty"`
}

// ActivityReport is what one activity did to the process.
type ActivityReport struct {
	Cohort string `json:"cohort,omitempty"`
	Event  string `json:"event"`
	// Events of the trial and the confirmation.
	Events  float64 `json:"events"`
	Failed  int     `json:"failed"`
	Verdict Verdict `json:"verdict"`
	Summary string  `json:"summary"`
	// Effects are per event, of every quantity that was read.
	Effects map[Quantity]Effect `json:"effects"`
	// Findings are the quantities that grow, the largest first, bytes before
	// counts.
	Findings []Finding `json:"findings,omitempty"`
}

// Name is cohort and event.
func (a *ActivityReport) Name() string {
	activity := Activity{Cohort: a.Cohort, Event: a.Event}
	return activity.Name()
}

// Finding is a quantity that an activity makes grow.
type Finding struct {
	Quantity Quantity `json:"quantity"`
	Verdict  Verdict  `json:"verdict"`
	Effect   Effect   `json:"effect"`
	// Early and Late are the effects in the halves of the trial, Confirmed the
	// growth per event in the confirmation.
	Early     float64 `json:"early"`
	Late      float64 `json:"late"`
	Confirmed float64 `json:"confirmed"`
}

// suspectP is the one-sided probability below which an effect is suspect. An
// experiment tests some fifty; what is suspect by chance does not survive the
// confirmation.
const suspectP = 0.005

// leakP is the probability that a suspect has to fall below once what an
// activity leaves until the next one is taken out, see alone. There are few
// suspects, and most of them leak.
const leakP = 0.01

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

func newReport(e *Experiment, began time.Time) *Report {
	r := &Report{Started: began.UTC().Truncate(time.Second), Seed: e.Seed, Verdict: VerdictNone}
	for _, a := range e.Activities {
		r.Activities = append(r.Activities, ActivityReport{Cohort: a.Cohort, Event: a.Event, Verdict: VerdictNone})
	}
	return r
}

// begin takes the reading before any event.
func (r *Report) begin(s memory.Sample) {
	r.PID = s.PID
	r.Blocks = []Block{{Phase: PhaseWarmUp, Activity: -1, Readings: readings(s)}}
}

func (r *Report) add(b Block, reason string) {
	r.Blocks = append(r.Blocks, b)
	a := &r.Activities[b.Activity]
	if b.Phase == PhaseTrial || b.Phase == PhaseConfirm {
		a.Events += b.Events
	}
	a.Failed += b.Failed
	if b.Failed > 0 && reason != "" && len(r.Warnings) < 20 && float64(b.Failed) > 0.02*b.Events {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s: %d attempts did not go as intended in one block of %.0f events: %s", a.Name(), b.Failed, b.Events, reason))
	}
}

// fit returns the effects of all activities on a quantity in the blocks that ok
// accepts.
func (r *Report) fit(q Quantity, ok func(*Block) bool) []Effect {
	var events [][]float64
	var gained []float64
	for i := range r.Blocks {
		b := &r.Blocks[i]
		n, known := b.growth[q]
		if !known || b.Events == 0 || !ok(b) {
			continue
		}
		events, gained = append(events, r.row(b)), append(gained, n)
	}
	if len(events) == 0 {
		return make([]Effect, len(r.Activities))
	}
	return FitEffects(events, gained)
}

// row is the events of a block by activity, its storm included.
func (r *Report) row(b *Block) []float64 {
	row := make([]float64, len(r.Activities), len(r.Activities)+1)
	copy(row, b.Stirred)
	row[b.Activity] += b.Events
	return row
}

// quantities that were read.
func (r *Report) quantities() []Quantity {
	return slices.Sorted(func(yield func(Quantity) bool) {
		for q := range r.Blocks[len(r.Blocks)-1].growth {
			if !yield(q) {
				return
			}
		}
	})
}

// judge finds the suspects of the trial: what grows significantly, by more than
// the floor, and does not come to an end within the trial.
func (r *Report) judge(floor float64) {
	middle := (r.Rounds + 1) / 2
	inTrial := func(b *Block) bool { return b.Phase == PhaseTrial }
	for _, q := range tested {
		if _, read := r.Blocks[len(r.Blocks)-1].growth[q]; !read {
			continue
		}
		least := floor
		if q.IsCount() {
			least = countFloor
		}
		whole := r.fit(q, inTrial)
		for _, e := range whole {
			least = max(least, spill*e.Value)
		}
		early := r.fit(q, func(b *Block) bool { return inTrial(b) && b.Round <= middle })
		late := r.fit(q, func(b *Block) bool { return inTrial(b) && b.Round > middle })
		for a, e := range whole {
			if e.P >= suspectP || e.Value < least || !q.IsCount() && e.Value*r.events(a) < leastGrowth+leastShare*r.Blocks[0].Readings[Resident] {
				continue
			}
			f := Finding{Quantity: q, Verdict: VerdictLeak, Effect: e, Early: early[a].Value, Late: late[a].Value}
			if f.Late < slowing*f.Early {
				f.Verdict = VerdictRetention
			}
			r.Activities[a].Findings = append(r.Activities[a].Findings, f)
		}
	}
}

// events are those of an activity so far in the trial, storms included.
func (r *Report) events(a int) float64 {
	n := 0.0
	for i := range r.Blocks {
		b := &r.Blocks[i]
		if b.Phase != PhaseTrial {
			continue
		}
		if b.Activity == a {
			n += b.Events
		}
		if b.Stirred != nil {
			n += b.Stirred[a]
		}
	}
	return n
}

// suspects are the activities to confirm.
func (r *Report) suspects() []int {
	return r.having(func(f *Finding) bool { return f.Verdict == VerdictLeak })
}

// leaking are the activities that leak, the worst first.
func (r *Report) leaking() []int { return r.suspects() }

func (r *Report) having(ok func(*Finding) bool) []int {
	var list []int
	for a := range r.Activities {
		if slices.ContainsFunc(r.Activities[a].Findings, func(f Finding) bool { return ok(&f) }) {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b int) int {
		return cmp.Compare(r.Activities[b].rate(), r.Activities[a].rate())
	})
	return list
}

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
	for a := range r.Activities {
		for i := range r.Activities[a].Findings {
			r.confirmed(a, &r.Activities[a].Findings[i], floor)
		}
	}
	counted := func(b *Block) bool { return b.Phase == PhaseTrial || b.Phase == PhaseConfirm }
	for a := range r.Activities {
		r.Activities[a].Effects = make(map[Quantity]Effect)
	}
	for _, q := range r.quantities() {
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
		r.Activities[a].conclude(floor)
	}
	r.summarize()
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
	switch {
	case e.P >= leakP || e.Value < floor:
		f.Verdict = VerdictNone // chance, a single step, or a state
	case f.Confirmed < slowing*slowing*e.Value:
		f.Verdict = VerdictNone
	case f.Confirmed < slowing*e.Value, per(half, len(gained)) < slowing*slowing*e.Value:
		f.Verdict = VerdictRetention
	}
	f.Effect = e
}

// alone is the effect of an activity on a quantity in trial and confirmation
// beside its state: what is there as long as it was the last one to run, and goes
// with the next. V8 compiles what runs and throws away what does not: after a
// block of its own an activity has some 100 KB more of machine code. In blocks
// that alternate such a state looks like an effect of one activity, and like the
// opposite of the others; in blocks that follow one of the same kind it does not
// show at all.
func (r *Report) alone(q Quantity, a int) Effect {
	var events [][]float64
	var gained []float64
	for i := 1; i < len(r.Blocks); i++ {
		b := &r.Blocks[i]
		n, known := b.growth[q]
		if !known || b.Events == 0 || b.Phase != PhaseTrial && b.Phase != PhaseConfirm {
			continue
		}
		row := r.row(b)
		switch is, was := b.Activity == a, r.Blocks[i-1].Activity == a; {
		case is && !was:
			row = append(row, 1)
		case was && !is:
			row = append(row, -1)
		default:
			row = append(row, 0)
		}
		events, gained = append(events, row), append(gained, n)
	}
	if len(events) == 0 {
		return Effect{P: 1}
	}
	return FitEffects(events, gained)[a]
}

// conclude orders the findings, with their final effects, and says what they are.
func (a *ActivityReport) conclude(floor float64) {
	a.Findings = slices.DeleteFunc(a.Findings, func(f Finding) bool { return f.Verdict == VerdictNone })
	for i := range a.Findings {
		switch f := &a.Findings[i]; f.Verdict {
		case VerdictLeak:
			a.Effects[f.Quantity] = f.Effect
		default:
			if e, ok := a.Effects[f.Quantity]; ok {
				f.Effect = e
			}
		}
	}
	slices.SortStableFunc(a.Findings, func(x, y Finding) int {
		if x.Quantity.IsCount() != y.Quantity.IsCount() {
			if x.Quantity.IsCount() {
				return 1
			}
			return -1
		}
		return cmp.Compare(y.Effect.Value, x.Effect.Value)
	})
	leak := func(f Finding) bool { return f.Verdict == VerdictLeak }
	switch {
	case slices.ContainsFunc(a.Findings, leak):
		a.Verdict = VerdictLeak
	case len(a.Findings) > 0:
		a.Verdict = VerdictRetention
	}
	name := "each " + a.Name()
	if a.Event == IdleEvent {
		name = "each idle second"
	}
	var parts []string
	for _, f := range a.Findings {
		if f.Verdict == a.Verdict {
			parts = append(parts, f.words())
		}
	}
	switch a.Verdict {
	case VerdictLeak:
		a.Summary = name + " keeps " + strings.Join(parts, " and ")
	case VerdictRetention:
		a.Summary = name + " kept " + strings.Join(parts, " and ") + ", but ever less: retention that saturates"
	default:
		a.Summary = name + " keeps nothing"
		if kept, ok := a.Effects[Kept]; ok {
			a.Summary += fmt.Sprintf(" (< %s)", Bytes(max(1, kept.High)))
		}
	}
}

// IdleEvent is the event of an activity that does nothing: a second.
const IdleEvent = "idle second"

// words is "3.4 KB (3.1–3.7) off-heap" or "1.00 goroutines (0.99–1.01)".
func (f *Finding) words() string {
	e := f.Effect
	if f.Quantity.IsCount() {
		return fmt.Sprintf("%.2f %ss (%.2f–%.2f)", e.Value, f.Quantity.Words(), max(0, e.Low), e.High)
	}
	return fmt.Sprintf("%s (%s) %s", Bytes(e.Value), byteRange(e.Value, e.Low, e.High), f.Quantity.Words())
}

// summarize says what was found, the verdict first.
func (r *Report) summarize() {
	var leaks, retained, clean []string
	for _, a := range r.Activities {
		switch a.Verdict {
		case VerdictLeak:
			leaks = append(leaks, a.Summary)
		case VerdictRetention:
			retained = append(retained, a.Summary)
		default:
			clean = append(clean, a.Summary)
		}
	}
	kept := ""
	if first := r.Blocks[0].Readings[Resident]; r.Retained > max(4<<20, first/20) {
		kept = fmt.Sprintf("the warm-up left %s more resident (%d rounds)", Bytes(r.Retained), r.WarmUps)
	}
	switch {
	case len(leaks) > 0:
		r.Verdict = VerdictLeak
		r.Summary = append([]string{"leak"}, leaks...)
		r.Summary = append(r.Summary, retained...)
	case len(retained) > 0 || kept != "":
		r.Verdict = VerdictRetention
		r.Summary = append([]string{"no leak, retention"}, retained...)
		if kept != "" {
			r.Summary = append(r.Summary, kept+", after it nothing more was kept")
		}
	default:
		r.Summary = []string{"no leak"}
	}
	r.Summary = append(r.Summary, clean...)
}

// Bytes writes a size with two significant digits or more: "20 B", "3.4 KB".
// A KB is 1,024 bytes.
func Bytes(n float64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	switch {
	case math.IsInf(n, 0) || math.IsNaN(n):
		return "unknown"
	case n < 999.5:
		return fmt.Sprintf("%s%.0f B", sign, n)
	case n < 99.95*1024:
		return fmt.Sprintf("%s%.1f KB", sign, n/1024)
	case n < 999.5*1024:
		return fmt.Sprintf("%s%.0f KB", sign, n/1024)
	case n < 1024*1024*1024:
		return fmt.Sprintf("%s%.1f MB", sign, n/1024/1024)
	}
	return fmt.Sprintf("%s%.2f GB", sign, n/1024/1024/1024)
}

// byteRange is "3.1–3.7" where both have the unit of value, else each with its
// own.
func byteRange(value, low, high float64) string {
	_, unit, _ := strings.Cut(Bytes(value), " ")
	a, b := Bytes(max(0, low)), Bytes(high)
	if a == "0 B" {
		a = "0 " + unit
	}
	return strings.TrimSuffix(strings.TrimSuffix(a, " "+unit)+"–"+strings.TrimSuffix(b, " "+unit), " ")
}
