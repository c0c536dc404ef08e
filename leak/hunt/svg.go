package hunt

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// plotWidth is that of a plot, in pixels of its own.
const plotWidth = 960.0

// view is a rectangle of a plot with scales of its own. What it draws has classes
// rather than colours: page.html has those, for light and for dark.
type view struct {
	b                        *bytes.Buffer
	left, top, right, bottom float64
	x0, x1, y0, y1           float64
}

func (v *view) scaleX(low, high float64) { v.x0, v.x1 = widened(low, high) }
func (v *view) scaleY(low, high float64) { v.y0, v.y1 = widened(low, high) }

// widened leaves some room on the sides that are not zero, and makes a range of a
// single value.
func widened(low, high float64) (float64, float64) {
	if high <= low {
		return low, low + 1
	}
	room := 0.04 * (high - low)
	if low != 0 {
		low -= room
	}
	if high != 0 {
		high += room
	}
	return low, high
}

func (v *view) x(n float64) float64 { return v.left + (n-v.x0)/(v.x1-v.x0)*(v.right-v.left) }
func (v *view) y(n float64) float64 { return v.bottom - (n-v.y0)/(v.y1-v.y0)*(v.bottom-v.top) }

func (v *view) line(class string, x0, y0, x1, y1 float64) {
	fmt.Fprintf(v.b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x0, y0, x1, y1)
}

func (v *view) text(class string, x, y float64, anchor, text string) {
	fmt.Fprintf(v.b, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(text))
}

// rect has a title that browsers show when they are pointed at it; it may be
// empty.
func (v *view) rect(class string, x0, y0, x1, y1 float64, title string) {
	fmt.Fprintf(v.b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`, class, x0, y0, max(0, x1-x0), max(0, y1-y0), html.EscapeString(title))
}

// curve draws a line through points of the scales.
func (v *view) curve(class string, width float64, points [][2]float64) {
	fmt.Fprintf(v.b, `<polyline class="%s" stroke-width="%g" stroke-linejoin="round" points="%s"/>`, class, width, v.points(points))
}

func (v *view) area(class string, points [][2]float64, title string) {
	fmt.Fprintf(v.b, `<polygon class="%s" points="%s"><title>%s</title></polygon>`, class, v.points(points), html.EscapeString(title))
}

func (v *view) points(points [][2]float64) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintf(&b, "%.1f,%.1f ", v.x(p[0]), v.y(p[1]))
	}
	return strings.TrimSuffix(b.String(), " ")
}

// ticksX draws about so many lines over the view and writes their values below
// it; ticksY writes them on the left.
func (v *view) ticksX(about float64, bytes bool, write func(float64) string) {
	for _, n := range ticks(v.x0, v.x1, about, bytes) {
		v.line("g", v.x(n), v.top, v.x(n), v.bottom)
		v.text("a", v.x(n), v.bottom+16, "middle", write(n))
	}
}

func (v *view) ticksY(about float64, bytes bool, write func(float64) string) {
	for _, n := range ticks(v.y0, v.y1, about, bytes) {
		v.line("g", v.left, v.y(n), v.right, v.y(n))
		if write != nil {
			v.text("a", v.left-6, v.y(n)+4, "end", write(n))
		}
	}
}

// ticks are about so many round numbers between low and high; of bytes, round in
// units of 1,024.
func ticks(low, high, about float64, bytes bool) []float64 {
	raw := (high - low) / about
	unit := 1.0
	if bytes {
		for unit*1024 <= raw {
			unit *= 1024
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(raw/unit)))
	for _, m := range []float64{1, 2, 5, 10} {
		if step*m*unit >= raw {
			step *= m
			break
		}
	}
	step *= unit
	var list []float64
	for i := math.Ceil(low / step); i*step <= high; i++ {
		list = append(list, i*step+0) // never -0
	}
	return list
}

// key is an entry of a legend.
type key struct{ class, name string }

// textWidth is about how wide a letter of a plot is, in pixels.
const textWidth = 6.9

// legend names colours from y on, and returns the y below it.
func (v *view) legend(keys []key, y float64) float64 {
	x := v.left
	for _, k := range keys {
		width := 28 + textWidth*float64(len([]rune(k.name)))
		if x > v.left && x+width > v.right {
			x, y = v.left, y+18
		}
		fmt.Fprintf(v.b, `<rect class="%s" x="%.1f" y="%.1f" width="11" height="11" rx="2"/>`, k.class, x, y-10)
		v.text("l", x+16, y, "start", k.name)
		x += width
	}
	return y + 18
}

// svg is the plot with what was drawn.
func svg(b *bytes.Buffer, height float64, label string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">%s</svg>`, plotWidth, height, html.EscapeString(label), b.String())) // every text in it was escaped
}

// colours is how many page.html has. They are told apart by most people who are
// colour-blind, on white and on black.
const colours = 8

func colour(class string, i int) string { return fmt.Sprintf("c%d %s", i%colours, class) }

// grouped is 314,831.
func grouped(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
