package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// plot is one picture: lines over time.
type plot struct {
	title, unit string
	lines       []line
}

type line struct {
	name string
	y    []float64 // NaN: there is no figure, and the line has a gap
}

// mark is the beginning of a phase.
type mark struct {
	at   float64
	name string
}

// Measures of a plot, in pixels of its own.
const (
	plotWidth, plotHeight = 860.0, 248.0
	left, right           = 56.0, 48.0
	top, bottom           = 48.0, 26.0
	letter                = 6.6 // width of most
)

// colors are told apart by most people who are colour-blind, on white and on black.
var colors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f"}

// svg draws the plot. x are the times in seconds.
func (p plot) svg(x []float64, marks []mark) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s"><text x="%.0f" y="14" class="t">%s</text>`,
		plotWidth, plotHeight, html.EscapeString(p.title), left, html.EscapeString(p.title))
	if p.unit != "" {
		fmt.Fprintf(&b, `<text x="%.0f" y="14" class="u" text-anchor="end">%s</text>`, plotWidth-right, html.EscapeString(p.unit))
	}
	end, highest := 1.0, 0.0
	if len(x) > 0 {
		end = math.Max(1, x[len(x)-1])
	}
	for _, l := range p.lines {
		for _, v := range l.y {
			if v > highest { // not NaN
				highest = v
			}
		}
	}
	step := niceStep(highest / 4)
	ceiling := math.Max(step, math.Ceil(highest/step)*step)
	atX := func(v float64) float64 { return left + v/end*(plotWidth-left-right) }
	atY := func(v float64) float64 { return plotHeight - bottom - v/ceiling*(plotHeight-top-bottom) }
	for v := 0.0; v <= ceiling*1.001; v += step {
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="a" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			left, plotWidth-right, atY(v), atY(v), left-6, atY(v)+4, number(v))
	}
	tick := niceStep(end / 8)
	for v := 0.0; v <= end*1.001; v += tick {
		fmt.Fprintf(&b, `<text class="a" x="%.1f" y="%.1f" text-anchor="middle">%s s</text>`, atX(v), plotHeight-8, number(v))
	}
	for i, m := range marks {
		fmt.Fprintf(&b, `<line class="m" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, atX(m.at), atX(m.at), top-15, plotHeight-bottom)
		from, until := atX(m.at)+3, plotWidth
		if i+1 < len(marks) {
			until = atX(marks[i+1].at)
		}
		if from+letter*float64(len(m.name)) < until { // else there is no room for its name
			fmt.Fprintf(&b, `<text class="p" x="%.1f" y="%.1f">%s</text>`, from, top-5, html.EscapeString(m.name))
		}
	}
	for i, l := range p.lines {
		color := colors[i%len(colors)]
		dash := ""
		if i >= len(colors) {
			dash = ` stroke-dasharray="4 3"`
		}
		fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="1.6" stroke-linecap="round"%s d="`, color, dash)
		draws := false
		for k, v := range l.y {
			switch {
			case math.IsNaN(v):
			case draws:
				fmt.Fprintf(&b, "L%.1f %.1f", atX(x[k]), atY(v))
			default:
				fmt.Fprintf(&b, "M%.1f %.1fh0", atX(x[k]), atY(v)) // a dot, if none follows
			}
			draws = !math.IsNaN(v)
		}
		b.WriteString(`"/>`)
	}
	at := left
	for i, l := range p.lines {
		fmt.Fprintf(&b, `<rect x="%.1f" y="20" width="10" height="3" fill="%s"/><text class="l" x="%.1f" y="26">%s</text>`, at, colors[i%len(colors)], at+14, html.EscapeString(l.name))
		at += 28 + letter*float64(len(l.name))
	}
	if len(p.lines) == 0 {
		fmt.Fprintf(&b, `<text class="l" x="%.1f" y="%.1f">none</text>`, left+8, plotHeight/2)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // every text in it was escaped
}

// niceStep is 1, 2 or 5 times a power of ten, at least v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5, 10} {
		if k*power >= v*0.9999 {
			return k * power
		}
	}
	return 10 * power
}

func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}
