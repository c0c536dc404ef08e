package hunt

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/leak"
)

// Evidence is what grew between three profiles, or heap snapshots, that were
// taken before, between and after two blocks of one activity.
type Evidence struct {
	Activity string `json:"activity"`
	leak.Difference
	// Files are where the three are kept, if they are.
	Files []string `json:"files,omitempty"`
}

// Title says what was compared: "three heap profiles (5.6 MB, 5.7 MB, 5.7 MB)
// over mutual-TLS reconnects".
func (e *Evidence) Title() string {
	kind := e.Kind + " profiles"
	if e.Kind == "v8" {
		kind = "heap snapshots"
	}
	var totals []string
	for _, n := range e.Totals {
		totals = append(totals, e.Amount(n))
	}
	return fmt.Sprintf("three %s (%s) over %ss", kind, strings.Join(totals, ", "), e.Activity)
}

// Amount writes a number of the evidence's unit.
func (e *Evidence) Amount(n int64) string {
	if e.Unit == "bytes" {
		return Bytes(float64(n))
	}
	return fmt.Sprint(n)
}

// Page is a report as one HTML document that needs nothing else: no script, no
// font, no file beside it.
type Page struct {
	*Report
	Evidence []Evidence
	// Settings are what was asked for, as pairs of name and value.
	Settings [][2]string
}

const (
	pageStacks = 5  // of each evidence
	pageFrames = 16 // of each stack
)

const pageStyle = `body{font:15px/1.5 system-ui,sans-serif;color:#1c2530;max-width:1000px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.15em;margin:2em 0 .4em;border-bottom:1px solid #d5dbe2}
.leak{color:#b3261e}.retention{color:#8a5a00}.none{color:#1b6e3c}
table{border-collapse:collapse;margin:.6em 0}th,td{text-align:left;padding:.2em .9em .2em 0;border-bottom:1px solid #e6eaee;vertical-align:top}
th{font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;display:block;margin:.6em 0}svg text{font:12px system-ui,sans-serif;fill:#4a5663}
pre{background:#f4f6f8;padding:.7em;overflow-x:auto;font-size:12.5px;margin:.4em 0}p.s{color:#4a5663;margin:.2em 0}
`

// Write writes the document.
func (p *Page) Write(w io.Writer) error {
	var b bytes.Buffer
	put := func(format string, args ...any) {
		for i, a := range args {
			if s, ok := a.(string); ok {
				args[i] = html.EscapeString(s)
			}
		}
		fmt.Fprintf(&b, format, args...)
	}
	put("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>%s</title>\n<style>\n%s</style></head><body>\n", "Leak hunt: "+p.Summary[0], pageStyle)
	put("<h1 class=\"%s\">%s</h1>\n", string(p.Verdict), p.Summary[0])
	put("<p class=\"s\">%s, %s, process %d, %d rounds after %d of warm-up, order of blocks by seed %d</p>\n<ul>\n",
		p.Started.Format(time.RFC3339), time.Duration(p.Took*float64(time.Second)).Round(time.Second).String(), p.PID, p.Rounds, p.WarmUps, p.Seed)
	for _, line := range p.Summary[1:] {
		put("<li>%s</li>\n", line)
	}
	for _, line := range p.Warnings {
		put("<li>note: %s</li>\n", line)
	}
	put("</ul>\n")

	shown := p.shown()
	put("<h2>What each event keeps</h2>\n<p class=\"s\">With the 95 %% confidence interval, of the trial and the confirmation. An interval that reaches across the line of zero is compatible with nothing.</p>\n")
	for _, q := range shown {
		b.WriteString(p.effectsPlot(q))
	}
	put("<table><tr><th>activity</th><th>events</th><th>failed</th><th>verdict</th>")
	for _, q := range shown {
		put("<th>%s</th>", q.Words())
	}
	put("</tr>\n")
	for _, a := range p.Activities {
		put("<tr><td>%s</td><td class=\"n\">%.0f</td><td class=\"n\">%d</td><td class=\"%s\">%s</td>", a.Name(), a.Events, a.Failed, string(a.Verdict), string(a.Verdict))
		for _, q := range shown {
			text := "not read"
			if e, ok := a.Effects[q]; ok {
				text = fmt.Sprintf("%s (%s to %s)", q.amount(e.Value), q.amount(e.Low), q.amount(e.High))
			}
			put("<td class=\"n\">%s</td>", text)
		}
		put("</tr>\n")
	}
	put("</table>\n")

	put("<h2>Growth over events</h2>\n<p class=\"s\">What was kept in the blocks of each activity, added up over its events, the warm-up included. A leak is a straight line that rises; what flattens is retention.</p>\n")
	for _, q := range shown {
		b.WriteString(p.growthPlot(q))
	}
	put("<h2>The process over time</h2>\n<p class=\"s\">Settled readings after each block. The bar below is the activity of the block.</p>\n")
	b.WriteString(p.timePlot())

	for i := range p.Evidence {
		e := &p.Evidence[i]
		put("<h2>Evidence: %s</h2>\n", e.Title())
		if len(e.Rows) == 0 {
			put("<p>Nothing grew in both intervals.</p>\n")
		}
		for _, row := range e.Rows[:min(len(e.Rows), pageStacks)] {
			put("<p>+%s  %s</p>\n", e.Amount(row.Growth), row.Name)
			if len(row.Stack) > 0 {
				put("<pre>%s</pre>\n", strings.Join(row.Stack[:min(len(row.Stack), pageFrames)], "\n"))
			}
		}
		for _, file := range e.Files {
			put("<p class=\"s\">%s</p>\n", file)
		}
	}
	put("<h2>Settings</h2>\n<table>\n")
	for _, s := range p.Settings {
		put("<tr><td>%s</td><td>%s</td></tr>\n", s[0], s[1])
	}
	put("</table>\n</body></html>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// shown are the quantities of the page: what is kept as a whole, and what grew.
func (p *Page) shown() []Quantity {
	list := []Quantity{Kept}
	for _, a := range p.Activities {
		for _, f := range a.Findings {
			if !slices.Contains(list, f.Quantity) {
				list = append(list, f.Quantity)
			}
		}
	}
	return list
}

// amount writes a number of a quantity.
func (q Quantity) amount(n float64) string {
	if q.IsCount() {
		return fmt.Sprintf("%.3g", n)
	}
	return Bytes(n)
}

// blockGrowth is what a quantity gained in the block at i of Blocks.
func (r *Report) blockGrowth(i int, q Quantity) (float64, bool) {
	was, before := r.Blocks[i-1].Readings[q]
	is, after := r.Blocks[i].Readings[q]
	return is - was, before && after
}

// effectsPlot draws the effects of all activities on a quantity, with their
// intervals.
func (p *Page) effectsPlot(q Quantity) string {
	const row, left = 26.0, 230.0
	low, high := 0.0, 0.0
	for _, a := range p.Activities {
		if e, ok := a.Effects[q]; ok {
			low, high = min(low, e.Low), max(high, e.High)
		}
	}
	height := row*float64(len(p.Activities)) + 56
	v := newView(left, 24, viewWidth-20, height-32)
	v.scaleX(low, high)
	v.title(q.Words()+" per event", 12)
	v.ticksX(q)
	v.line(v.x(0), v.top, v.x(0), v.bottom, "#4a5663", 1)
	for i, a := range p.Activities {
		y := v.top + row*(float64(i)+0.5)
		v.text(left-8, y+4, "end", a.Name())
		e, ok := a.Effects[q]
		if !ok {
			continue
		}
		v.line(v.x(e.Low), y, v.x(e.High), y, colour(i), 3)
		fmt.Fprintf(&v.b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>`, v.x(e.Value), y, colour(i))
	}
	return v.svg(height)
}

// growthPlot draws, for each activity, what its blocks added to a quantity over
// the events.
func (p *Page) growthPlot(q Quantity) string {
	curves := make([][][2]float64, len(p.Activities))
	var most [2]float64
	least := 0.0
	for a := range curves {
		curves[a] = [][2]float64{{0, 0}}
	}
	for i := 1; i < len(p.Blocks); i++ {
		b := &p.Blocks[i]
		gained, ok := p.blockGrowth(i, q)
		if !ok {
			continue
		}
		curve := curves[b.Activity]
		at := curve[len(curve)-1]
		next := [2]float64{at[0] + b.Events, at[1] + gained}
		curves[b.Activity] = append(curve, next)
		most[0], most[1], least = max(most[0], next[0]), max(most[1], next[1]), min(least, next[1])
	}
	const height = 320.0
	v := newView(80, 24, viewWidth-20, height-58)
	v.scaleX(0, most[0])
	v.scaleY(least, most[1])
	v.title(q.Words()+" over events of the activity", 12)
	v.ticksX("count:events")
	v.ticksY(q)
	for a, curve := range curves {
		v.polyline(curve, colour(a))
	}
	v.legend(p.names(), height-8)
	return v.svg(height)
}

// timePlot draws the resident set and its largest movers over time.
func (p *Page) timePlot() string {
	last := &p.Blocks[len(p.Blocks)-1]
	var movers []Quantity
	for q := range last.Readings {
		if q != Resident && q != Kept && !q.IsCount() {
			movers = append(movers, q)
		}
	}
	rise := func(q Quantity) float64 { return last.Readings[q] - p.Blocks[0].Readings[q] }
	slices.SortFunc(movers, func(a, b Quantity) int {
		return cmp.Or(cmp.Compare(rise(b), rise(a)), cmp.Compare(a, b))
	})
	quantities := append([]Quantity{Resident}, movers[:min(len(movers), 5)]...)
	low, high := 0.0, 0.0
	for _, b := range p.Blocks {
		for _, q := range quantities {
			low, high = min(low, b.Readings[q]), max(high, b.Readings[q])
		}
	}
	const height = 400.0
	v := newView(80, 24, viewWidth-20, height-100)
	v.scaleX(0, last.At)
	v.scaleY(low, high)
	v.ticksX("count:seconds")
	v.ticksY(Resident)
	var names []string
	for i, q := range quantities {
		var curve [][2]float64
		for _, b := range p.Blocks {
			if n, ok := b.Readings[q]; ok {
				curve = append(curve, [2]float64{b.At, n})
			}
		}
		v.polyline(curve, colour(i))
		names = append(names, q.Words())
	}
	v.legend(names, 14)
	bar := v.bottom + 26
	for i := 1; i < len(p.Blocks); i++ {
		from, to := v.x(p.Blocks[i-1].At), v.x(p.Blocks[i].At)
		fmt.Fprintf(&v.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="12" fill="%s"><title>%s, %s %d</title></rect>`,
			from, bar, max(0.5, to-from-0.5), colour(p.Blocks[i].Activity), html.EscapeString(p.Activities[p.Blocks[i].Activity].Name()), p.Blocks[i].Phase, p.Blocks[i].Round)
	}
	v.legend(p.names(), bar+32)
	return v.svg(height)
}

func (p *Page) names() []string {
	var names []string
	for i := range p.Activities {
		names = append(names, p.Activities[i].Name())
	}
	return names
}
