package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// print writes the figures for people, ratios first.
func (f *figures) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d CPUs, loopback; client and servers share the machine, whose load average was %s before\n", f.Go, f.CPUs, f.Load)
	if f.Memory != nil {
		f.Memory.print(w)
	}
	if f.Speed != nil {
		f.Speed.print(w)
	}
	if f.Storm != nil {
		f.Storm.print(w)
	}
	if f.Scale != nil {
		f.Scale.print(w)
	}
	if f.Table != nil {
		f.Table.print(w)
	}
}

func (m *memoryPart) print(w io.Writer) {
	c := m.Config
	fmt.Fprintf(w, "\nMutual TLS (ECDSA P-256, leaf and one intermediate, a certificate each), %d stations idle.\n"+
		"Resident set of the server process less that of itself warmed up, per connection; each read after %v of rest.\n\n", c.Stations, c.Rest)
	// The rows are compared with the last one: Holdfast, whole if it is there.
	last := m.Rows[len(m.Rows)-1]
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	heads := fmt.Sprintf("idle\tafter %d waves\t%d heartbeats\t%d KB messages\tall gone\tbase\t", c.Waves, c.Heartbeats, c.Message>>10)
	row := func(s *sizes) string {
		n := c.Stations
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t", kb(s.each(s.Idle, n)), kb(s.each(s.Waves, n)), kb(s.each(s.Beats, n)), kb(s.each(s.Messages, n)), mbytes(s.Left), mbytes(s.Base))
	}
	fmt.Fprintf(tw, "\tmemory ×\tCPU ×\t%sCPU first\tCPU again\t\n", heads)
	for _, r := range m.Rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s%s\t%s\t\n", r.Server,
			ratio(float64(r.RSS.Idle-r.RSS.Base), float64(last.RSS.Idle-last.RSS.Base)), ratio(float64(r.CPUFirst), float64(last.CPUFirst)),
			row(&r.RSS), ms(r.CPUFirst), ms(r.CPUAgain))
	}
	tw.Flush()
	if last.Pod.Base > 0 {
		fmt.Fprint(w, "\nWorking set of a cgroup with that process alone, kernel memory included, in the same way; what it used before it got its cgroup is not in it.\n\n")
		fmt.Fprintf(tw, "\tmemory ×\t%s\n", heads)
		for _, r := range m.Rows {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", r.Server, ratio(float64(r.Pod.Idle-r.Pod.Base), float64(last.Pod.Idle-last.Pod.Base)), row(&r.Pod))
		}
		tw.Flush()
	}
	for _, r := range m.Rows {
		if r.Classes == nil {
			continue
		}
		fmt.Fprintf(w, "\n%s, idle, per connection by class:", r.Server)
		for _, class := range slices.Sorted(maps.Keys(r.Classes)) {
			fmt.Fprintf(w, " %s %s;", class, kb(r.Classes[class]))
		}
		fmt.Fprint(w, "\nall gone, more than base:")
		for _, class := range slices.Sorted(maps.Keys(r.LeftClasses)) {
			fmt.Fprintf(w, " %s %s;", class, kb(r.LeftClasses[class]))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\n× is against %q. CPU is the server process's per connection, accept to upgraded.\n", last.Server)
}

func (s *speedPart) print(w io.Writer) {
	fmt.Fprintf(w, "\nholdfast all, %d mutual-TLS stations, OCPP 1.6; CALLs at %d per second, latency from the intended send time.\n\n", s.Config.Stations, s.Config.Rate)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tStartTransaction/s\tp50\tp99\tCPU each\tHeartbeat p50\tp99\tmax\tDataTransfer p50\tp99\tmax\tfailed\t")
	for _, r := range s.Rows {
		if r.Skipped != "" {
			fmt.Fprintf(tw, "%s\t%s\t\n", r.Database, r.Skipped)
			continue
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", r.Database, r.Starts.Rate, ms(r.Starts.P50), ms(r.Starts.P99), ms(r.CPUStart),
			ms(r.Heartbeat.P50), ms(r.Heartbeat.P99), ms(r.Heartbeat.Max), ms(r.Data.P50), ms(r.Data.P99), ms(r.Data.Max),
			r.Starts.Failed+r.Heartbeat.Failed+r.Data.Failed)
	}
	tw.Flush()
	for _, r := range s.Rows {
		if r.Skipped != "" {
			continue
		}
		if r.Starts.Distinct != r.Starts.Answered {
			fmt.Fprintf(w, "%s: %d transactions answered, but only %d distinct ids\n", r.Database, r.Starts.Answered, r.Starts.Distinct)
		}
		for _, fail := range []string{r.Heartbeat.FirstFail, r.Data.FirstFail, r.Starts.FirstFail} {
			if fail != "" {
				fmt.Fprintf(w, "%s: %s\n", r.Database, fail)
			}
		}
	}
}

func ratio(v, base float64) string {
	if base <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v/base)
}

func kb(n int64) string { return fmt.Sprintf("%.1f KB", float64(n)/1024) }

func mbytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
