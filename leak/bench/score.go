package bench

import (
	"fmt"
	"slices"

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

	// Delays are hours from the onset to the verdict by the run's full rate, of
	// gateways that leak 0.2 % an hour or more.
	Delays map[float64][]float64 `json:"-"`

	// CPUPercent is that of a sample every 30 s, of one processor. Every sixth sample
	// of a run is followed by the hourly check, in production every 120th.
	CPUPercent float64 `json:"overhead_cpu_percent"`
	// BytesPerConnection is what a detector holds after the longest run, divided by
	// 10,000 connections; 0 if no series is known.
	BytesPerConnection float64 `json:"overhead_bytes_per_connection"`

	Targets []Target `json:"targets"`
	Runs    []Run    `json:"runs"`
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

// sureRate is from which rate on, in percent an hour, a leak must be found.
const sureRate = 0.2

// Score adds up the runs of a plan, of which so many were planned.
func Score(p Plan, version string, planned int, runs []Run) *Report {
	rep := newReport(p)
	rep.Version, rep.Planned, rep.Runs = version, planned, runs
	alone := make([]*Report, len(runs)) // each run's, to draw from
	var cpu, samples int64
	for i := range runs {
		rep.add(&runs[i])
		alone[i] = newReport(p)
		alone[i].add(&runs[i])
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
	rep.BytesPerConnection = bytesPerConnection(runs)
	rep.targets(alone)
	return rep
}

func newReport(p Plan) *Report {
	return &Report{First: p.First, Seeds: p.Seeds, Hours: p.Hours, Cohorts: make(map[Placement]*CohortRow),
		Faults: []*Row{}, Rates: []*Row{}, Healthy: []*HealthyRow{}, Delays: make(map[float64][]float64)}
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
		if first != nil {
			rep.Delays[r.Rate] = append(rep.Delays[r.Rate], first.Hour-onset)
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
