package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/fleet"
)

// Live is what a terminal shows while a run goes.
type Live struct {
	Scenario, Phase string
	At, Length      time.Duration
	Wanted          int
	Stats           fleet.Stats
	Last            Sample // the newest
	Calls, Connects Latency
}

// barWidth is the length of a bar, in characters.
const barWidth = 30

// Lines are the view: each redraw replaces the last one.
func (l Live) Lines() []string {
	here := connected(l.Stats)
	out := []string{
		fmt.Sprintf("%s  %s of %s  phase %s", l.Scenario, l.At.Round(time.Second), l.Length.Round(time.Second), l.Phase),
		fmt.Sprintf("  time      %s", bar(l.At.Seconds(), l.Length.Seconds())),
		fmt.Sprintf("  stations  %s  %d of %d, %d to be here", bar(float64(here), float64(l.Stats.Stations)), here, l.Stats.Stations, l.Wanted),
		fmt.Sprintf("  rates     connects %.0f/s · messages %.0f/s up %.0f/s down · transactions %d · queued %d", l.Last.Connects, l.Last.Sent, l.Last.Received, l.Stats.Transactions, l.Stats.Queued),
		"  calls     " + l.Calls.line(),
		"  connects  " + l.Connects.line(),
	}
	return append(out, "  errors    "+errorLine(l.Stats.Errors))
}

// Line is the view for what is not a terminal.
func (l Live) Line() string {
	latency := "no calls"
	if l.Last.Calls > 0 {
		latency = fmt.Sprintf("p50=%.1fms p99=%.1fms", l.Last.P50, l.Last.P99)
	}
	return fmt.Sprintf("%s %s phase=%s connected=%d wanted=%d connects/s=%.0f sent/s=%.0f %s transactions=%d queued=%d errors: %s", l.Scenario,
		l.At.Round(time.Second), l.Phase, connected(l.Stats), l.Wanted, l.Last.Connects, l.Last.Sent, latency, l.Stats.Transactions, l.Stats.Queued, errorLine(l.Stats.Errors))
}

func (l Latency) line() string {
	if l.Count == 0 {
		return "none yet"
	}
	return fmt.Sprintf("p50 %.1f ms · p90 %.1f · p99 %.1f · p99.9 %.1f · max %.0f   (%d)", l.P50, l.P90, l.P99, l.P999, l.Max, l.Count)
}

func errorLine(errors map[string]uint64) string {
	if len(errors) == 0 {
		return "none"
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, errors[kind]))
	}
	return strings.Join(parts, " · ")
}

func bar(value, whole float64) string {
	n := 0
	if whole > 0 {
		n = int(barWidth * min(1, value/whole))
	}
	return strings.Repeat("█", n) + strings.Repeat("░", barWidth-n)
}

// Lines are the result as text.
func (res *Result) Lines() []string {
	out := []string{
		fmt.Sprintf("%s: %d stations, seed %d, %.0f s", res.Scenario, res.Stations, res.Seed, res.Seconds),
		fmt.Sprintf("  connected %d of %d · connects %d · refused %d", res.Connected, res.Wanted, res.Connects, res.Refused),
		"  calls     " + res.Calls.line(),
		"  connects  " + res.Connect.line(),
		"  errors    " + errorLine(res.Errors),
	}
	if did := res.did(); len(did) > 0 {
		out = append(out, "  scenario  "+strings.Join(did, " · "))
	}
	if res.Compared {
		ledger := fmt.Sprintf("  ledger    %d transactions, %d meter values compared with the record: ", res.Transactions, res.MeterValues)
		if res.Incomplete {
			ledger += "not all of them, "
		}
		if len(res.Problems) == 0 {
			ledger += "nothing missing, doubled or altered"
		} else {
			ledger += fmt.Sprint(res.Problems)
		}
		out = append(out, ledger)
	} else {
		out = append(out, fmt.Sprintf("  ledger    %d transactions, not compared with a record", res.Transactions))
	}
	for _, e := range res.Examples {
		out = append(out, "    "+e)
	}
	for _, n := range res.Notes {
		out = append(out, "  note: "+n)
	}
	for _, v := range res.Verdicts {
		word := "FAIL"
		switch {
		case v.Skipped:
			word = "skip"
		case v.Pass:
			word = "pass"
		}
		out = append(out, fmt.Sprintf("  %s  %s (%s)", word, v.Text, v.Figure()))
	}
	return out
}

// did says what the scenario did beside letting stations connect and charge.
func (res *Result) did() []string {
	var out []string
	add := func(happened bool, format string, args ...any) {
		if happened {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	c := res.Counts
	add(c.Faults+c.Missed > 0, "%d faults of connected stations", c.Faults)
	add(c.Missed > 0, "%d more found their station offline", c.Missed)
	add(c.Probes > 0, "%d attempts to connect with a fault, %d admitted that should not be", c.Probes, c.Admitted)
	add(c.Commands+c.CommandErrors+c.Offline > 0, "%d commands answered, %d failed, %d found their station offline", c.Commands, c.CommandErrors, c.Offline)
	add(c.LeftOut > 0, "%d commands or attempts left out", c.LeftOut)
	return out
}
