package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"holdfast/leak"
)

// leakDiff compares profiles by hand.
type leakDiff struct {
	Profiles    []string `arg:"" help:"Two or three profiles of one Go program (heap, goroutine, …; not as text), or V8 heap snapshots, oldest first." type:"existingfile"`
	Connections int64    `help:"Connections that were open: growth is shown for each."`
	Reconnects  int64    `help:"Connections that were opened between the first and the last: growth is shown for each."`
	Rows        int      `help:"Rows at most, 200 at most." default:"10"`
	Frames      int      `help:"Frames of each stack." default:"8"`
}

func (c *leakDiff) Run(e *env) error {
	if len(c.Profiles) < 2 || len(c.Profiles) > 3 {
		return &usageError{"holdfast leak diff: give two or three profiles of one process, oldest first"}
	}
	readers := make([]io.Reader, len(c.Profiles))
	for i, name := range c.Profiles {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		readers[i] = f
	}
	d, err := leak.Diff(leak.DiffConfig{Connections: c.Connections, Reconnects: c.Reconnects}, readers...)
	if err != nil {
		return fmt.Errorf("compare %s: %w", strings.Join(c.Profiles, ", "), err)
	}
	d.Rows = d.Rows[:min(len(d.Rows), max(0, c.Rows))]
	return e.print(d, func(w io.Writer) { printDifference(w, d, c.Frames) })
}

// printDifference shows what grew.
func printDifference(w io.Writer, d leak.Difference, frames int) {
	show := func(v float64) string {
		if d.Unit == "bytes" {
			return leak.Bytes(v)
		}
		return fmt.Sprintf("%.4g", v)
	}
	totals := make([]string, len(d.Totals))
	for i, v := range d.Totals {
		totals[i] = show(float64(v))
	}
	fmt.Fprintf(w, "%s: %s\n", plain(d.Kind), strings.Join(totals, " → "))
	if len(d.Rows) == 0 {
		fmt.Fprintln(w, "nothing grew")
		return
	}
	for _, r := range d.Rows {
		fmt.Fprintf(w, "\n%12s  %s", "+"+show(float64(r.Growth)), plain(r.Name))
		if r.Kept > 0 {
			fmt.Fprintf(w, "  (%s came between the first two and is still there)", show(float64(r.Kept)))
		}
		if r.PerConnection != 0 {
			fmt.Fprintf(w, "  %s per connection", show(r.PerConnection))
		}
		if r.PerReconnect != 0 {
			fmt.Fprintf(w, "  %s per reconnect", show(r.PerReconnect))
		}
		fmt.Fprintln(w)
		if r.Labels != "" {
			fmt.Fprintf(w, "%12s  labels %s\n", "", plain(r.Labels))
		}
		for _, f := range r.Stack[:min(len(r.Stack), max(0, frames))] {
			fmt.Fprintf(w, "%14s  %s\n", "", plain(f))
		}
	}
}
