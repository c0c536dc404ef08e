package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
)

//go:embed page.html
var pageText string

// WriteHTML writes the report as one page that needs nothing else: no script, no
// network.
func (res *Result) WriteHTML(w io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{"ms": ms}).Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(w, struct {
		*Result
		Charts []template.HTML
		Kinds  []string // of errors
		Did    []string // beside letting stations connect and charge
	}{res, res.charts(), slices.Sorted(maps.Keys(res.Errors)), res.did()})
}

func ms(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// charts are the plots over time.
func (res *Result) charts() []template.HTML {
	column := func(f func(Sample) float64) []float64 {
		out := make([]float64, len(res.Samples))
		for i, s := range res.Samples {
			out[i] = f(s)
		}
		return out
	}
	// figure is a column with gaps where nothing happened that could be measured.
	figure := func(f func(Sample) float64, there func(Sample) bool) []float64 {
		return column(func(s Sample) float64 {
			if !there(s) {
				return math.NaN()
			}
			return f(s)
		})
	}
	called := func(s Sample) bool { return s.Calls > 0 }
	kinds := make(map[string]bool)
	for _, s := range res.Samples {
		for k := range s.Errors {
			kinds[k] = true
		}
	}
	var errors []line
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		errors = append(errors, line{k, column(func(s Sample) float64 { return float64(s.Errors[k]) / max(s.length, 1e-3) })})
	}
	x := column(func(s Sample) float64 { return s.At })
	var marks []mark
	for i, s := range res.Samples {
		if i == 0 || s.Phase != res.Samples[i-1].Phase {
			at := 0.0
			if i > 0 {
				at = res.Samples[i-1].At
			}
			marks = append(marks, mark{at, s.Phase})
		}
	}
	plots := []plot{
		{"Connections", "stations", []line{{"connected", column(func(s Sample) float64 { return float64(s.Connected) })}, {"to be connected", column(func(s Sample) float64 { return float64(s.Wanted) })}}},
		{"Connects", "per second", []line{{"connects", column(func(s Sample) float64 { return s.Connects })}}},
		{"Latency of CALLs, from when they were to be sent", "ms", []line{{"p50", figure(func(s Sample) float64 { return s.P50 }, called)}, {"p99", figure(func(s Sample) float64 { return s.P99 }, called)}, {"max", figure(func(s Sample) float64 { return s.Max }, called)}}},
		{"Time to connect", "ms", []line{{"p99", figure(func(s Sample) float64 { return s.ConnectP99 }, func(s Sample) bool { return s.ConnectP99 > 0 })}}},
		{"Messages", "per second", []line{{"sent", column(func(s Sample) float64 { return s.Sent })}, {"received", column(func(s Sample) float64 { return s.Received })}}},
		{"Transactions and messages that wait", "", []line{{"transactions", column(func(s Sample) float64 { return float64(s.Transactions) })}, {"queued", column(func(s Sample) float64 { return float64(s.Queued) })}}},
		{"Errors by reason", "per second", errors},
	}
	out := make([]template.HTML, len(plots))
	for i, p := range plots {
		out[i] = p.svg(x, marks)
	}
	return out
}
