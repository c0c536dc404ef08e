package hunt

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// view is a plot as SVG: a rectangle within the picture, and scales of it.
type view struct {
	left, top, right, bottom float64
	x0, x1, y0, y1           float64
	b                        bytes.Buffer
}

const viewWidth = 960.0

func newView(left, top, right, bottom float64) *view {
	return &view{left: left, top: top, right: right, bottom: bottom, x1: 1, y1: 1}
}

func (v *view) scaleX(low, high float64) { v.x0, v.x1 = widened(low, high) }
func (v *view) scaleY(low, high float64) { v.y0, v.y1 = widened(low, high) }

// widened leaves some room, and makes a range of a single value.
func widened(low, high float64) (float64, float64) {
	if high <= low {
		return low, low + 1
	}
	room := 0.03 * (high - low)
	if low != 0 {
		low -= room
	}
	return low, high + room
}

func (v *view) x(n float64) float64 { return v.left + (n-v.x0)/(v.x1-v.x0)*(v.right-v.left) }
func (v *view) y(n float64) float64 { return v.bottom - (n-v.y0)/(v.y1-v.y0)*(v.bottom-v.top) }

func (v *view) line(x0, y0, x1, y1 float64, stroke string, width float64) {
	fmt.Fprintf(&v.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`, x0, y0, x1, y1, stroke, width)
}

func (v *view) text(x, y float64, anchor, text string) {
	fmt.Fprintf(&v.b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(text))
}

func (v *view) title(text string, y float64) { v.text(v.left, y, "start", text) }

func (v *view) polyline(points [][2]float64, stroke string) {
	fmt.Fprintf(&v.b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, stroke)
	for _, p := range points {
		fmt.Fprintf(&v.b, "%.1f,%.1f ", v.x(p[0]), v.y(p[1]))
	}
	v.b.WriteString(`"/>`)
}

const grid = "#e1e6eb"

func (v *view) ticksX(q Quantity) {
	for _, n := range ticks(v.x0, v.x1, !q.IsCount()) {
		v.line(v.x(n), v.top, v.x(n), v.bottom, grid, 1)
		text := q.amount(n)
		if q.IsCount() {
			text = fmt.Sprintf("%g", n)
		}
		v.text(v.x(n), v.bottom+16, "middle", text)
	}
}

func (v *view) ticksY(q Quantity) {
	for _, n := range ticks(v.y0, v.y1, !q.IsCount()) {
		v.line(v.left, v.y(n), v.right, v.y(n), grid, 1)
		v.text(v.left-6, v.y(n)+4, "end", q.amount(n))
	}
}

// ticks are some round numbers between low and high; of bytes, round in units of
// 1,024.
func ticks(low, high float64, bytes bool) []float64 {
	raw := (high - low) / 6
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
		list = append(list, i*step)
	}
	return list
}

// legend names colours in one line.
func (v *view) legend(names []string, y float64) {
	x := v.left
	for i, name := range names {
		fmt.Fprintf(&v.b, `<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s"/>`, x, y-10, colour(i))
		v.text(x+17, y, "start", name)
		x += 34 + 6.8*float64(len(name))
	}
}

func (v *view) svg(height float64) string {
	return fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img">%s</svg>`+"\n", viewWidth, height, v.b.String())
}

// colours are told apart by people with red-green blindness too (Okabe and Ito).
var colours = [...]string{"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31"}

func colour(i int) string { return colours[i%len(colours)] }
