package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"holdfast/leak"
	"holdfast/leak/bench"
)

// leakBench measures the leak detector: on real gateways with faults, or on
// simulated series.
type leakBench struct {
	Binary     string        `help:"Holdfast built with the tag leakfaults (make bench-leak builds it). Default: holdfast-leakfaults beside this program." type:"path" placeholder:"FILE"`
	Faults     []string      `help:"Only these faults, or all: see --list." default:"all"`
	List       bool          `help:"Show the faults, and what would be run."`
	Rates      []float64     `help:"Percent of the resident set that leak in an hour, at a gateway all of whose connections leak. Default: 0.2,1; with --synthetic 0.05,0.1,0.2,0.5,1,2,5."`
	Placements []string      `help:"How mutual TLS is spread over the gateways: pure, skewed, uniform. The cases take turns." default:"pure,skewed,uniform" enum:"pure,skewed,uniform"`
	Each       bool          `help:"Every case with every placement, instead of in turn."`
	Seeds      int           `help:"Runs of each case. Default: 1; with --synthetic 20."`
	First      uint64        `help:"First seed: others give runs that nobody has seen." default:"1000"`
	Hours      int           `help:"Simulated length of a run. Default: 72; with --synthetic 96."`
	Gateways   int           `help:"Gateways of a run." default:"4"`
	Stations   int           `help:"Stations of a gateway, on average." default:"60"`
	Churn      float64       `help:"Percent of the stations that reconnect in an hour." default:"15"`
	Parallel   int           `help:"Runs at a time. Default: one per processor."`
	For        time.Duration `help:"Begin no more runs after this time, and report those that ended; 0: all."`
	Keep       string        `help:"Directory that keeps the processes' data and logs, and each run's outcome and series." type:"path" placeholder:"DIR"`
	Replay     string        `help:"Judge the series of runs that were kept in this directory, instead of running gateways." type:"path" placeholder:"DIR"`

	Synthetic bool    `help:"Simulated series of gateways of some 10,000 stations instead of processes: more cases in less time."`
	Noise     float64 `help:"With --synthetic: times the usual noise." default:"1"`
	Fleets    int     `help:"With --synthetic: fleets of 10 gateways per placement and leak; 1.5 s of CPU each." default:"0"`
}

func (c *leakBench) Run(e *env) error {
	if c.Seeds == 0 {
		c.Seeds = map[bool]int{true: 20, false: 1}[c.Synthetic]
	}
	if c.Hours == 0 {
		c.Hours = map[bool]int{true: 96, false: 72}[c.Synthetic]
	}
	if c.Seeds < 1 || c.Hours < 1 || c.Noise <= 0 || c.Fleets < 0 {
		return &usageError{"holdfast leak bench: --seeds, --hours and --noise must be positive"}
	}
	if slices.ContainsFunc(c.Rates, func(r float64) bool { return !(r > 0 && r <= 100) }) {
		return &usageError{"holdfast leak bench: --rates are percent of the resident set an hour, more than 0 and at most 100"}
	}
	if c.Replay != "" {
		return c.replay(e)
	}
	if !c.Synthetic {
		return c.processes(e)
	}
	rep, err := bench.RunSynthetic(e.ctx, bench.SyntheticConfig{Seeds: c.Seeds, First: c.First, Hours: c.Hours, Noise: c.Noise, Rates: c.Rates, Fleets: c.Fleets})
	if err != nil {
		return err
	}
	return e.print(rep, func(w io.Writer) { printSynthetic(w, rep) })
}

// processes runs real gateways.
func (c *leakBench) processes(e *env) error {
	switch {
	case c.Gateways < 1 || c.Gateways > maxBenchGateways:
		return &usageError{fmt.Sprintf("--gateways %d: 1 to %d", c.Gateways, maxBenchGateways)}
	case c.Stations < 10 || c.Stations > 1000:
		return &usageError{fmt.Sprintf("--stations %d: 10 to 1000 at each gateway", c.Stations)}
	case !(c.Churn > 0 && c.Churn <= 1000):
		return &usageError{fmt.Sprintf("--churn %g: percent an hour, more than 0 and at most 1000", c.Churn)}
	case c.Parallel < 0 || c.Parallel > 64:
		return &usageError{fmt.Sprintf("--parallel %d: 1 to 64", c.Parallel)}
	}
	if len(c.Rates) == 0 {
		c.Rates = []float64{0.2, 1}
	}
	if c.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("where this program is: %w (give --binary)", err)
		}
		c.Binary = filepath.Join(filepath.Dir(self), "holdfast-leakfaults")
	}
	if _, err := os.Stat(c.Binary); err != nil {
		return &usageError{fmt.Sprintf("the benchmark's build of Holdfast: %v (go build -tags leakfaults -o bin/holdfast-leakfaults ./cmd/holdfast, or --binary, or --synthetic)", err)}
	}
	site, err := openBenchSite(e.ctx, c)
	if err != nil {
		return err
	}
	defer site.close()
	cases, err := c.plan().Cases(site.faults)
	if err != nil {
		return &usageError{fmt.Sprintf("--faults: %v; --list shows what there is", err)}
	}
	if c.List {
		return e.print(map[string]any{"faults": site.faults, "cases": cases}, func(w io.Writer) { printPlan(w, site.faults, cases) })
	}
	runs, broken, err := c.runAll(e, site, cases)
	if err != nil {
		return err
	}
	rep := bench.Score(c.plan(), version, len(cases), runs)
	rep.Broken = broken
	return e.print(rep, rep.Print)
}

// plan is the runs that the flags ask for.
func (c *leakBench) plan() bench.Plan {
	p := bench.Plan{Faults: c.Faults, Rates: c.Rates, Each: c.Each, First: c.First, Seeds: c.Seeds, Hours: c.Hours}
	for _, place := range c.Placements {
		p.Placements = append(p.Placements, bench.Placement(place))
	}
	return p
}

func printPlan(w io.Writer, faults []bench.Fault, cases []bench.Case) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FAULT\tLEAKS IN\t")
	for _, f := range faults {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, f.In(), f.Help)
	}
	tw.Flush()
	fmt.Fprintf(w, "\n%d runs:\n", len(cases))
	for _, c := range cases {
		fmt.Fprintln(w, c)
	}
}

func printSynthetic(w io.Writer, rep bench.SyntheticReport) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "HEALTHY\tSERIES\tALARMS\tRAW MANN-KENDALL\tOLS ON RSS\tBLOCK MANN-KENDALL")
	for _, h := range rep.Healthy {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\n", h.Scenario, h.Runs, h.Alarms, h.RawMK, h.OLS, h.BlockMK)
	}
	fmt.Fprintln(tw, "\nLEAK\t%/H\tSERIES\tFOUND\tCLASS RIGHT\tFORECAST RIGHT\tDELAY H, MEDIAN / P90")
	for _, l := range rep.Leaking {
		name := string(l.Class)
		if l.Bursty {
			name += ", in bursts"
		}
		fmt.Fprintf(tw, "%s\t%g\t%d\t%d\t%d\t%d\t%.0f / %.0f\n", name, l.Rate, l.Runs, l.Found, l.Right, l.Covered, leak.Median(l.Delays), leak.Quantile(l.Delays, 0.9))
	}
	fmt.Fprintln(tw, "\nDETECTOR\tPRECISION\tRECALL\tF1")
	for _, d := range []struct {
		name string
		c    bench.Confusion
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
