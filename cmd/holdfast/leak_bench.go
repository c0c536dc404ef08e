package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"holdfast/leak"
)

// leakBench measures the leak detector on simulated gateways.
type leakBench struct {
	Synthetic bool      `help:"Simulated series, of gateways of some 10,000 stations. The only kind there is." default:"true" negatable:""`
	Seeds     int       `help:"Series per case." default:"20"`
	First     uint64    `help:"First seed: others give series that nobody has seen." default:"1000"`
	Hours     int       `help:"Length of a series." default:"96"`
	Noise     float64   `help:"Times the usual noise." default:"1"`
	Rates     []float64 `help:"Percent of the resident set that leak in an hour." default:"0.05,0.1,0.2,0.5,1,2,5"`
	Fleets    int       `help:"Fleets of 10 gateways per placement and leak; about 5 s of CPU each." default:"0"`
}

func (c *leakBench) Run(e *env) error {
	if !c.Synthetic || c.Seeds < 1 || c.Hours < 1 || c.Noise <= 0 || c.Fleets < 0 {
		return &usageError{"holdfast leak bench: --seeds, --hours and --noise must be positive, and --synthetic is the only kind"}
	}
	rep, err := leak.RunSynthetic(e.ctx, leak.SyntheticConfig{Seeds: c.Seeds, First: c.First, Hours: c.Hours, Noise: c.Noise, Rates: c.Rates, Fleets: c.Fleets})
	if err != nil {
		return err
	}
	return e.print(rep, func(w io.Writer) { printSynthetic(w, rep) })
}

func printSynthetic(w io.Writer, rep leak.SyntheticReport) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "HEALTHY\tSERIES\tALARMS\tRAW MANN-KENDALL\tOLS ON RSS\tBLOCK MANN-KENDALL")
	for _, h := range rep.Healthy {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", h.Scenario, h.Runs, h.Alarms, h.RawMK, h.OLS, h.BlockMK)
	}
	fmt.Fprintln(tw, "\nLEAK\t%/H\tSERIES\tFOUND\tCLASS RIGHT\tDELAY H, MEDIAN / P90")
	for _, l := range rep.Leaking {
		name := string(l.Class)
		if l.Bursty {
			name += ", in bursts"
		}
		fmt.Fprintf(tw, "%s\t%g\t%d\t%d\t%d\t%.0f / %.0f\n", name, l.Rate, l.Runs, l.Found, l.Right, leak.Median(l.Delays), leak.Quantile(l.Delays, 0.9))
	}
	fmt.Fprintln(tw, "\nDETECTOR\tPRECISION\tRECALL\tF1")
	for _, d := range []struct {
		name string
		c    leak.Confusion
	}{{"holdfast", rep.Detector}, {"raw Mann-Kendall", rep.RawMK}, {"OLS on RSS", rep.OLS}, {"block Mann-Kendall", rep.BlockMK}} {
		fmt.Fprintf(tw, "%s\t%.3f\t%.3f\t%.3f\n", d.name, d.c.Precision(), d.c.Recall(), d.c.F1())
	}
	for i, f := range rep.Fleets {
		if i == 0 {
			fmt.Fprintln(tw, "\nFLEET OF 10\tBYTES PER MUTUAL-TLS CONNECTION\tRUNS\tFOUND BY A GATEWAY\tBY COMPARISON\tHOURS\tCOHORT RIGHT\tUNDETERMINED\tWRONG")
		}
		fmt.Fprintf(tw, "%s\t%g\t%d\t%d\t%d\t%.0f\t%d\t%d\t%d\n", f.Placement, f.PerMTLS, f.Runs, f.Single, f.Fleet, leak.Median(f.FleetHours), f.Right, f.Undetermined, f.Wrong)
	}
	tw.Flush()
	fmt.Fprintf(w, "\n%d false alarms in %.0f pod-days: %.4f a day; class right in %d of %d\n", rep.Alarms, rep.PodDays,
		float64(rep.Alarms)/rep.PodDays, rep.ClassHit, rep.Detector.TruePositive)
}
