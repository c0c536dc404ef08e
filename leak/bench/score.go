package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"holdfast/leak"
)

// Report is what the detector made of all runs.
type Report struct {
	Version string `json:"version"`
	First   uint64 `json:"first_seed"`
	Seeds   int    `json:"seeds"`
	Hours   int    `json:"hours"`
	Planned int    `json:"runs_planned"` // all, or more than there was time for
	Broken  int    `json:"runs_failed"`  // which do not count

	Detector Tally `json:"detector"`
	RawMK    Tally `json:"raw_mann_kendall"`
	OLS      Tally `json:"ols"`
	BlockMK  Tally `json:"block_mann_kendall"`

	ClassRight int `json:"class_right"` // of the gateways that were found
	// RunsLeaking with a fault at the full rate of 0.2 %/h or more, RunsFound by a
	// gateway or by the comparison.
	RunsLeaking int `json:"runs_leaking"`
	RunsFound   int `json:"runs_found"`

	Faults  []*Row                   `json:"faults"`
	Rates   []*Row                   `json:"rates"`
	Healthy []*HealthyRow            `json:"healthy"`
	Cohorts map[Placement]*CohortRow `json:"cohorts"`

	CPUPercent float64  `json:"overhead_cpu_percent"` // of one processor, a sample every 30 s
	Targets    []Target `json:"targets"`
	Runs       []Run    `json:"runs"`
}

// Tally counts gateways.
type Tally struct {
	// Sure leak 0.2 % an hour or more, Slow ones less.
	Sure      int     `json:"leaking"`
	SureFound int     `json:"leaking_found"`
	Slow      int     `json:"leaking_slowly"`
	SlowFound int     `json:"leaking_slowly_found"`
	Alarmed   int     `json:"false_alarms"` // gateways, and runs in the comparison, with an alarm and no leak yet
	Healthy   int     `json:"healthy"`      // gateways that never leak
	PodDays   float64 `json:"healthy_pod_days"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"` // of those that leak 0.2 % an hour or more
	F1        float64 `json:"f1"`
	PerPodDay float64 `json:"false_alarms_per_pod_day"`
}

func (s *Tally) finish() {
	found := s.SureFound + s.SlowFound
	s.Precision = share(found, found+s.Alarmed)
	s.Recall = share(s.SureFound, s.Sure)
	if s.Precision+s.Recall > 0 {
		s.F1 = 2 * s.Precision * s.Recall / (s.Precision + s.Recall)
	}
	if s.PodDays > 0 {
		s.PerPodDay = float64(s.Alarmed) / s.PodDays
	}
}

func share(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Row is the gateways that leak 0.2 % an hour or more of one fault, or at
// one rate.
type Row struct {
	Name       string    `json:"name"`
	Gateways   int       `json:"gateways"`
	Found      int       `json:"found"`
	ClassRight int       `json:"class_right"`
	Delays     []float64 `json:"delay_hours"`
}

// HealthyRow is the runs without a leak of one kind.
type HealthyRow struct {
	Name     string `json:"name"`
	Gateways int    `json:"gateways"`
	Alarms   int    `json:"alarms"`
	RawMK    int    `json:"raw_mann_kendall"`
	OLS      int    `json:"ols"`
	BlockMK  int    `json:"block_mann_kendall"`
}

// CohortRow is the runs with a leak that was found, of one placement.
type CohortRow struct {
	Runs         int `json:"runs"`
	Right        int `json:"right"`
	Undetermined int `json:"undetermined"`
	Wrong        int `json:"wrong"`
	WrongEver    int `json:"wrong_at_any_time"`
}

// Target is a figure beside what it should be.
type Target struct {
	Name   string  `json:"name"`
	Target string  `json:"target"`
	Value  float64 `json:"value"`
	Met    bool    `json:"met"`
	Of     string  `json:"of"`
}

// sureRate is from which rate on, in percent an hour, a leak must be found.
const sureRate = 0.2

// Score adds up the runs of a plan, of which so many more were planned.
func Score(p Plan, version string, planned int, runs []Run) *Report {
	rep := &Report{Version: version, First: p.First, Seeds: p.Seeds, Hours: p.Hours, Planned: planned, Runs: runs, Cohorts: make(map[Placement]*CohortRow),
		Faults: []*Row{}, Rates: []*Row{}, Healthy: []*HealthyRow{}}
	var cpu, samples int64
	for i := range runs {
		rep.add(&runs[i])
		for _, g := range runs[i].Gateways {
			cpu, samples = cpu+g.CPU, samples+int64(g.Samples)
		}
	}
	for _, s := range []*Tally{&rep.Detector, &rep.RawMK, &rep.OLS, &rep.BlockMK} {
		s.finish()
	}
	if samples > 0 {
		rep.CPUPercent = 100 * float64(cpu) / float64(samples) / float64(leak.SampleInterval)
	}
	rep.targets()
	return rep
}

func (rep *Report) add(r *Run) {
	onset := r.Onset
	if !r.Leaks {
		onset = float64(rep.Hours)
	}
	found := slices.ContainsFunc(r.Fleet, func(v *Verdict) bool { return v.Hour >= onset && r.Leaks })
	rep.Detector.Alarmed += btoi(slices.ContainsFunc(r.Fleet, func(v *Verdict) bool { return v.Hour < onset || !r.Leaks }))
	var healthy *HealthyRow
	if !r.Leaks {
		name := r.Fault
		if name == NoFault {
			name = string(r.Load) + " load"
		}
		healthy = rowOf(&rep.Healthy, func(h *HealthyRow) bool { return h.Name == name }, &HealthyRow{Name: name})
	}
	for i := range r.Gateways {
		g := &r.Gateways[i]
		until := onset
		if g.Rate == 0 {
			until = float64(rep.Hours)
		}
		var first *Verdict
		hours := make([]float64, 0, len(g.Verdicts))
		for _, v := range g.Verdicts {
			hours = append(hours, v.Hour)
			if v.Hour >= until && (first == nil || v.Hour < first.Hour) {
				first = v
			}
		}
		for _, d := range []struct {
			score *Tally
			hours []float64
		}{{&rep.Detector, hours}, {&rep.RawMK, g.RawMK}, {&rep.OLS, g.OLS}, {&rep.BlockMK, g.BlockMK}} {
			d.score.add(g.Rate, until, d.hours)
		}
		if healthy != nil {
			healthy.Gateways++
			healthy.Alarms += btoi(len(g.Verdicts) > 0)
			healthy.RawMK += btoi(len(g.RawMK) > 0)
			healthy.OLS += btoi(len(g.OLS) > 0)
			healthy.BlockMK += btoi(len(g.BlockMK) > 0)
		}
		if g.Rate == 0 {
			continue
		}
		right := first != nil && slices.Contains(r.Classes, first.Class)
		rep.ClassRight += btoi(right)
		found = found || first != nil
		if g.Rate < sureRate {
			continue
		}
		rate := fmt.Sprintf("%g %%/h", r.Rate)
		for _, row := range []*Row{
			rowOf(&rep.Faults, func(w *Row) bool { return w.Name == r.Fault }, &Row{Name: r.Fault}),
			rowOf(&rep.Rates, func(w *Row) bool { return w.Name == rate }, &Row{Name: rate}),
		} {
			row.Gateways++
			if first != nil {
				row.Found++
				row.ClassRight += btoi(right)
				row.Delays = append(row.Delays, first.Hour-onset)
			}
		}
	}
	if !r.Leaks {
		return
	}
	if r.Rate >= sureRate {
		rep.RunsLeaking++
		rep.RunsFound += btoi(found)
	}
	if !found {
		return
	}
	c := rep.Cohorts[r.Placement]
	if c == nil {
		c = &CohortRow{}
		rep.Cohorts[r.Placement] = c
	}
	wrong := func(named leak.Cohort) bool {
		return named != r.Cohort && named != leak.CohortUndetermined && named != leak.CohortUnknown
	}
	c.Runs++
	c.Right += btoi(r.Named == r.Cohort)
	c.Wrong += btoi(wrong(r.Named))
	c.Undetermined += btoi(r.Named != r.Cohort && !wrong(r.Named))
	c.WrongEver += btoi(slices.ContainsFunc(r.Ever, wrong))
}

// rowOf finds a row, or adds it.
func rowOf[T any](list *[]*T, is func(*T) bool, fresh *T) *T {
	if i := slices.IndexFunc(*list, is); i >= 0 {
		return (*list)[i]
	}
	*list = append(*list, fresh)
	return fresh
}

// add counts a gateway that leaks rate percent an hour from the hour until on.
func (s *Tally) add(rate, until float64, alarms []float64) {
	s.PodDays += until / 24
	s.Alarmed += btoi(slices.ContainsFunc(alarms, func(h float64) bool { return h < until || rate == 0 }))
	found := rate > 0 && slices.ContainsFunc(alarms, func(h float64) bool { return h >= until })
	switch {
	case rate == 0:
		s.Healthy++
	case rate >= sureRate:
		s.Sure++
		s.SureFound += btoi(found)
	default:
		s.Slow++
		s.SlowFound += btoi(found)
	}
}

// targets compares with what was promised.
func (rep *Report) targets() {
	add := func(name string, atLeast bool, limit, value float64, of string) {
		t := Target{Name: name, Target: fmt.Sprintf("≤ %g", limit), Value: value, Met: value <= limit, Of: of}
		if atLeast {
			t.Target, t.Met = fmt.Sprintf("≥ %g", limit), value >= limit
		}
		rep.Targets = append(rep.Targets, t)
	}
	d := &rep.Detector
	found := d.SureFound + d.SlowFound
	add("precision", true, 0.97, d.Precision, fmt.Sprintf("%d right, %d false", found, d.Alarmed))
	add("recall at 0.2 %/h or more", true, 0.95, d.Recall, fmt.Sprintf("%d of %d gateways", d.SureFound, d.Sure))
	add("false alarms a pod-day", false, 0.005, d.PerPodDay, fmt.Sprintf("%d in %.0f pod-days", d.Alarmed, d.PodDays))
	add("class right", true, 0.95, share(rep.ClassRight, found), fmt.Sprintf("%d of %d", rep.ClassRight, found))
	var told, uniform CohortRow
	for p, c := range rep.Cohorts {
		sum := &told
		if p == Uniform {
			sum = &uniform
		}
		sum.Runs, sum.Right, sum.WrongEver = sum.Runs+c.Runs, sum.Right+c.Right, sum.WrongEver+c.WrongEver
	}
	if told.Runs > 0 {
		add("cohort right, pure and skewed", true, 0.95, share(told.Right, told.Runs), fmt.Sprintf("%d of %d runs", told.Right, told.Runs))
	}
	if uniform.Runs > 0 {
		add("cohort wrong, uniform", false, 0.03, share(uniform.WrongEver, uniform.Runs), fmt.Sprintf("%d of %d runs, at any time", uniform.WrongEver, uniform.Runs))
	}
	add("overhead, percent of a processor", false, 0.5, rep.CPUPercent, fmt.Sprintf("a sample every %s", leak.SampleInterval))
}

// Print writes it for people.
func (rep *Report) Print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table := func(head string) { fmt.Fprintf(tw, "\n%s\n", head) }
	fmt.Fprintf(w, "%d of %d runs of %d hours, seeds %d to %d\n", len(rep.Runs), rep.Planned, rep.Hours, rep.First, rep.First+uint64(rep.Seeds)-1)
	if rep.Broken > 0 {
		fmt.Fprintf(w, "%d runs failed and do not count\n", rep.Broken)
	}
	table("WITHOUT A LEAK\tGATEWAYS\tALARMS\tRAW MANN-KENDALL\tOLS ON RSS\tBLOCK MANN-KENDALL")
	for _, h := range rep.Healthy {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", h.Name, h.Gateways, h.Alarms, h.RawMK, h.OLS, h.BlockMK)
	}
	for _, list := range []struct {
		head string
		rows []*Row
	}{{"FAULT", rep.Faults}, {"FULL RATE", rep.Rates}} {
		table(list.head + "\tGATEWAYS\tFOUND\tCLASS RIGHT\tDELAY H, MEDIAN / P90")
		for _, r := range list.rows {
			delay := "-"
			if len(r.Delays) > 0 {
				delay = fmt.Sprintf("%.0f / %.0f", leak.Median(r.Delays), leak.Quantile(r.Delays, 0.9))
			}
			fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%s\n", r.Name, r.Gateways, r.Found, r.ClassRight, delay)
		}
	}
	table("PLACEMENT\tRUNS FOUND\tCOHORT RIGHT\tUNDETERMINED\tWRONG\tWRONG AT ANY TIME")
	for _, p := range slices.Sorted(maps.Keys(rep.Cohorts)) {
		c := rep.Cohorts[p]
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", p, c.Runs, c.Right, c.Undetermined, c.Wrong, c.WrongEver)
	}
	table("DETECTOR\tPRECISION\tRECALL\tF1\tFALSE ALARMS A POD-DAY\tBELOW 0.2 %/H FOUND")
	for _, d := range []struct {
		name string
		s    *Tally
	}{{"holdfast", &rep.Detector}, {"raw Mann-Kendall", &rep.RawMK}, {"OLS on RSS", &rep.OLS}, {"block Mann-Kendall", &rep.BlockMK}} {
		fmt.Fprintf(tw, "%s\t%.3f\t%.3f\t%.3f\t%.4f\t%d of %d\n", d.name, d.s.Precision, d.s.Recall, d.s.F1, d.s.PerPodDay, d.s.SlowFound, d.s.Slow)
	}
	table("TARGET\t\tMEASURED\t\t")
	for _, t := range rep.Targets {
		fmt.Fprintf(tw, "%s\t%s\t%.4g\t%s\t%s\n", t.Name, t.Target, t.Value, map[bool]string{true: "met", false: "MISSED"}[t.Met], t.Of)
	}
	tw.Flush()
	fmt.Fprintf(w, "\n%d of %d runs at 0.2 %%/h or more were found, by a gateway or by the comparison\n", rep.RunsFound, rep.RunsLeaking)
	var missed []string
	for i := range rep.Runs {
		if r := &rep.Runs[i]; r.missed() != "" {
			missed = append(missed, fmt.Sprintf("%s: %s (%s)", r.Case, r.missed(), r.Outcome()))
		}
	}
	if len(missed) > 0 {
		fmt.Fprintln(w, "\nmissed or wrong:")
		for _, m := range missed {
			fmt.Fprintln(w, " ", m)
		}
	}
}

// missed says what the detector got wrong in a run.
func (r *Run) missed() string {
	var why []string
	for i, g := range r.Gateways {
		found := false
		for _, v := range g.Verdicts {
			if g.Rate == 0 || v.Hour < r.Onset {
				why = append(why, fmt.Sprintf("gw-%d: false alarm of %s", i, v.Class))
				continue
			}
			if !found && !slices.Contains(r.Classes, v.Class) {
				why = append(why, fmt.Sprintf("gw-%d: class %s", i, v.Class))
			}
			found = true
		}
		if g.Rate >= sureRate && !found {
			why = append(why, fmt.Sprintf("gw-%d: not found", i))
		}
	}
	for _, v := range r.Fleet {
		if !r.Leaks || v.Hour < r.Onset {
			why = append(why, fmt.Sprintf("comparison: false alarm of %s at hour %.0f", v.Class, v.Hour))
		}
	}
	for _, c := range r.Ever {
		if r.Leaks && c != r.Cohort && c != leak.CohortUndetermined {
			why = append(why, "cohort "+string(c)+" was named")
		}
	}
	return strings.Join(why, "; ")
}
