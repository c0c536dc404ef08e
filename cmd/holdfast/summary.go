package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/term"

	"holdfast/memory"
)

// summary shows on a terminal what the process is doing, from its own metrics:
// what it shows is what a dashboard would.
type summary struct {
	registry *prometheus.Registry
	w        io.Writer
	redraw   bool // w is a terminal: the lines replace the last ones
	head     string
	start    time.Time
}

// summaryInterval is the time between two summaries: short on a terminal, where
// they replace each other.
func (s *summary) interval() time.Duration {
	if s.redraw {
		return time.Second
	}
	return 5 * time.Second
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s *summary) run(ctx context.Context) error {
	tick := time.NewTicker(s.interval())
	defer tick.Stop()
	last, at, drawn := 0.0, time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		families, err := s.registry.Gather()
		if err != nil {
			return fmt.Errorf("gather metrics: %w", err)
		}
		m := make(map[string]*dto.MetricFamily, len(families))
		for _, f := range families {
			m[f.GetName()] = f
		}
		messages := total(m["holdfast_ws_frames_in_total"], nil) + total(m["holdfast_ws_frames_out_total"], nil)
		now := time.Now()
		lines := s.lines(m, (messages-last)/now.Sub(at).Seconds())
		last, at = messages, now
		if s.redraw && drawn > 0 {
			fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", drawn)
		}
		fmt.Fprintln(s.w, strings.Join(lines, "\n"))
		drawn = len(lines)
	}
}

func (s *summary) lines(m map[string]*dto.MetricFamily, rate float64) []string {
	conns := m["holdfast_connections"]
	by := func(label, value string) float64 { return total(conns, map[string]string{label: value}) }
	rss := total(m["process_resident_memory_bytes"], nil)
	lines := []string{
		fmt.Sprintf("holdfast  up %s   %s", time.Since(s.start).Round(time.Second), s.head),
		fmt.Sprintf("  stations      %5.0f   plain %.0f · TLS %.0f · mutual TLS %.0f   (OCPP 1.6 %.0f · 2.0.1 %.0f · 2.1 %.0f)",
			total(conns, nil), by("profile", "1"), by("profile", "2"), by("profile", "3"), by("version", "1.6"), by("version", "2.0.1"), by("version", "2.1")),
		fmt.Sprintf("  messages/s    %5.1f   transactions open %.0f   refused %.0f", rate,
			total(m["holdfast_transactions_open"], nil), total(m["holdfast_rejections_total"], nil)),
	}
	per := total(m["holdfast_memory_per_connection_bytes"], map[string]string{"profile": memory.AllProfiles})
	return append(lines, fmt.Sprintf("  memory       %6s   %s per connection, everything in this process included", size(rss), size(per)))
}

// total adds up the metrics of a family whose labels match.
func total(f *dto.MetricFamily, labels map[string]string) float64 {
	sum := 0.0
metrics:
	for _, m := range f.GetMetric() {
		found := 0
		for _, l := range m.GetLabel() {
			if want, ok := labels[l.GetName()]; ok {
				if want != l.GetValue() {
					continue metrics
				}
				found++
			}
		}
		if found == len(labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func size(bytes float64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.0f MB", bytes/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KB", bytes/(1<<10))
	}
	return fmt.Sprintf("%.0f B", bytes)
}
