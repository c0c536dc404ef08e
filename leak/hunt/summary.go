package hunt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// conclude orders the findings, with their final effects, and says what they are,
// or were when the experiment ended early.
func (a *ActivityReport) conclude(ended bool) {
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
	a.Verdict = VerdictNone
	for _, f := range a.Findings { // the gravest: there are no leaks beside suspects
		if a.Verdict != VerdictLeak && a.Verdict != VerdictSuspect {
			a.Verdict = f.Verdict
		}
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
	case VerdictSuspect:
		a.Summary = name + " kept " + strings.Join(parts, " and ") + ", which nothing has confirmed"
	default:
		kept, known := a.Effects[Kept]
		if !known {
			a.Verdict, a.Summary = VerdictUnknown, "what "+name+" keeps is not known: too few blocks"
			break
		}
		keeps := "keeps nothing"
		if ended {
			keeps = "kept nothing so far"
		}
		a.Summary = fmt.Sprintf("%s %s (< %s)", name, keeps, Bytes(max(1, kept.Upper())))
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
		case VerdictLeak, VerdictSuspect:
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
	case r.Ended != "":
		r.Verdict = VerdictUnfinished
		r.Summary = slices.Concat([]string{"unfinished"}, leaks, retained)
		if kept != "" {
			r.Summary = append(r.Summary, kept)
		}
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
