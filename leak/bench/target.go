package bench

import (
	"fmt"

	"holdfast/leak"
)

// Target is a figure beside what it should be.
type Target struct {
	Name   string   `json:"name"`
	Target string   `json:"target"`
	Value  float64  `json:"value"`
	Within Interval `json:"interval_95,omitzero"` // of the value; none for what is not a matter of chance
	Met    bool     `json:"met"`
	// Certain: the whole interval says the same.
	Certain bool   `json:"certain"`
	Of      string `json:"of"`
}

// delayTargets are the most hours of the median delay, by the full rate of a run in
// percent an hour.
var delayTargets = []struct {
	from, to float64
	hours    float64
	name     string
}{
	{sureRate, 1, 26, "median delay in hours, 0.2 to 1 %/h"},
	{2, 2, 12, "median delay in hours, 2 %/h"},
	{5, 5, 8, "median delay in hours, 5 %/h"},
}

// targets compares with what was promised. alone are the reports of single runs.
func (rep *Report) targets(alone []*Report) {
	add := func(name, sign string, limit, value float64, in Interval, of string) {
		good := func(v float64) bool { return sign == "≥" && v >= limit || sign == "≤" && v <= limit }
		t := Target{Name: name, Target: fmt.Sprintf("%s %g", sign, limit), Value: value, Within: in, Met: good(value), Of: of}
		t.Certain = in == Interval{} || good(in.Low) == t.Met && good(in.High) == t.Met
		rep.Targets = append(rep.Targets, t)
	}
	// A share of things that runs have: none of them, no row.
	ofRuns := func(name, sign string, limit float64, of string, hits func(*Report) part) {
		var sum part
		var list []part
		for _, r := range alone {
			p := hits(r)
			sum.hits, sum.of = sum.hits+p.hits, sum.of+p.of
			list = append(list, p)
		}
		if sum.of > 0 {
			add(name, sign, limit, share(sum.hits, sum.of), shareInterval(list), fmt.Sprintf("%d of %d %s", sum.hits, sum.of, of))
		}
	}
	found := func(r *Report) int { return r.Detector.SureFound + r.Detector.SlowFound }
	ofRuns("precision", "≥", 0.97, "verdicts", func(r *Report) part { return part{found(r), found(r) + r.Detector.Alarmed} })
	ofRuns("recall at 0.2 %/h or more", "≥", 0.95, "gateways", func(r *Report) part { return part{r.Detector.SureFound, r.Detector.Sure} })
	if d := &rep.Detector; d.PodDays > 0 {
		in := poissonInterval(d.Alarmed)
		add("false alarms a pod-day", "≤", 0.005, d.PerPodDay, Interval{in.Low / d.PodDays, in.High / d.PodDays}, fmt.Sprintf("%d in %.0f pod-days", d.Alarmed, d.PodDays))
	}
	ofRuns("class right", "≥", 0.95, "gateways", func(r *Report) part { return part{r.ClassRight, found(r)} })
	sum := func(r *Report, uniform bool) (c CohortRow) {
		for p, of := range r.Cohorts {
			if (p == Uniform) == uniform {
				c.Runs, c.Right, c.Wrong, c.WrongEver = c.Runs+of.Runs, c.Right+of.Right, c.Wrong+of.Wrong, c.WrongEver+of.WrongEver
			}
		}
		return c
	}
	for _, row := range []struct {
		name, sign string
		limit      float64
		uniform    bool
		hits       func(CohortRow) int
	}{
		{"cohort right at the end, pure and skewed", "≥", 0.95, false, func(c CohortRow) int { return c.Right }},
		{"cohort wrong at any time, pure and skewed", "≤", 0.05, false, func(c CohortRow) int { return c.WrongEver }},
		{"cohort wrong at the end, uniform", "≤", 0.03, true, func(c CohortRow) int { return c.Wrong }},
		{"cohort wrong at any time, uniform", "≤", 0.03, true, func(c CohortRow) int { return c.WrongEver }},
	} {
		ofRuns(row.name, row.sign, row.limit, "runs", func(r *Report) part {
			c := sum(r, row.uniform)
			return part{row.hits(c), c.Runs}
		})
	}
	for _, d := range delayTargets {
		var all []float64
		var runs [][]float64
		for _, r := range alone {
			for rate, hours := range r.Delays {
				if rate >= d.from && rate <= d.to {
					all, runs = append(all, hours...), append(runs, hours)
				}
			}
		}
		if len(all) > 0 {
			add(d.name, "≤", d.hours, leak.Median(all), medianInterval(runs), fmt.Sprintf("%d gateways", len(all)))
		}
	}
	add("CPU, percent of a processor", "≤", 0.5, rep.CPUPercent, Interval{}, fmt.Sprintf("a sample every %s, every sixth with the hourly check", leak.SampleInterval))
	if rep.BytesPerConnection > 0 {
		add("memory, bytes a connection", "≤", 200, rep.BytesPerConnection, Interval{}, fmt.Sprintf("a detector after %d hours, %d connections", rep.Hours, sizeConnections))
	}
}
