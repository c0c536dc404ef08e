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
	table("TARGET\t\tMEASURED\t95 % INTERVAL\t\t")
	for _, t := range rep.Targets {
		within, met := "-", map[bool]string{true: "met", false: "MISSED"}[t.Met]
		if t.Within != (Interval{}) {
			within = fmt.Sprintf("%.3g to %.3g", t.Within.Low, t.Within.High)
			if !t.Certain {
				met += ", not certain"
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%.4g\t%s\t%s\t%s\n", t.Name, t.Target, t.Value, within, met, t.Of)
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
