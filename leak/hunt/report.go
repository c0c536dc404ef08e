package hunt

import (
	"fmt"
	"slices"
	"time"

	"holdfast/memory"
)

// Verdict is what an experiment found.
type Verdict string

const (
	// VerdictLeak: memory or things grow with events and do not stop.
	VerdictLeak Verdict = "leak"
	// VerdictRetention: memory was kept that grew no further, or ever more slowly.
	VerdictRetention Verdict = "retention"
	// VerdictNone: nothing of the sort.
	VerdictNone Verdict = "none"
	// VerdictSuspect is of activities and quantities when the experiment ended
	// early: it looked like a leak, and nothing has confirmed it.
	VerdictSuspect Verdict = "suspect"
	// VerdictUnknown is of activities of which there were too few blocks.
	VerdictUnknown Verdict = "unknown"
	// VerdictUnfinished is of a report: the experiment ended before it could tell.
	VerdictUnfinished Verdict = "unfinished"
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
	// Ended says where and why the experiment ended early. Empty if it did not.
	Ended string `json:"ended,omitempty"`
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

	hint bool // less than a suspicion
}

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
