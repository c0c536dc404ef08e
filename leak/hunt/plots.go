package hunt

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"

	"holdfast/memory"
)

// effectsPlot draws the effects of all activities on a quantity, with their
// intervals. The scale is that of what is found, or of the most precise half: an
// interval that goes beyond it is cut off at an arrow.
func (p *Page) effectsPlot(q Quantity) template.HTML {
	const row, left, right = 26.0, 245.0, 205.0
	var extents []float64
	found := 0.0
	for i := range p.Activities {
		a := &p.Activities[i]
		e, ok := a.Effects[q]
		if !ok {
			continue
		}
		extents = append(extents, max(math.Abs(e.Low), math.Abs(e.High)))
		if a.has(q) || q == Kept && len(a.Findings) > 0 {
			found = max(found, e.High)
		}
	}
	slices.Sort(extents)
	limit := found * 1.2
	if found == 0 && len(extents) > 0 {
		limit = 2.5 * extents[(len(extents)-1)/2]
	}
	low, high := 0.0, 0.0
	for _, a := range p.Activities {
		if e, ok := a.Effects[q]; ok {
			low, high = max(-limit, min(low, e.Low)), min(limit, max(high, e.High))
		}
	}
	var b bytes.Buffer
	height := row*float64(len(p.Activities)) + 60
	v := &view{b: &b, left: left, top: 26, right: plotWidth - right, bottom: height - 30}
	v.scaleX(low, high)
	v.text("t", 0, 14, "start", q.Words()+" per event")
	v.ticksX(5, !q.IsCount(), q.amount)
	v.line("z", v.x(0), v.top, v.x(0), v.bottom)
	for i := range p.Activities {
		a := &p.Activities[i]
		y := v.top + row*(float64(i)+0.5)
		class := "l"
		if (a.has(q) || q == Kept) && (a.Verdict == VerdictLeak || a.Verdict == VerdictSuspect) {
			class = "bad"
		}
		v.text(class, left-10, y+4, "end", a.Name())
		e, ok := a.Effects[q]
		if !ok {
			v.text("a", v.right+10, y+4, "start", "not known")
			continue
		}
		from, to := v.x(max(v.x0, e.Low)), v.x(min(v.x1, e.High))
		if e.Low < v.x1 && e.High > v.x0 {
			fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke-width="3"/>`, colour("s", i), from, y, to, y)
		}
		if e.Low < v.x0 {
			fmt.Fprintf(&b, `<path class="%s" d="M%.1f %.1fl8 -5v10z"/>`, colour("f", i), v.left, y)
		}
		if e.High > v.x1 {
			fmt.Fprintf(&b, `<path class="%s" d="M%.1f %.1fl-8 -5v10z"/>`, colour("f", i), v.right, y)
		}
		if e.Value >= v.x0 && e.Value <= v.x1 {
			fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%.1f" r="5"/>`, colour("f", i), v.x(e.Value), y)
		}
		v.text(class, v.right+10, y+4, "start", q.interval(e))
	}
	return svg(&b, height, q.Words()+" per event, by activity")
}

// interval is "3.4 KB (3.1–3.7)".
func (q Quantity) interval(e Effect) string {
	if q.IsCount() {
		return fmt.Sprintf("%.2f (%.2f to %.2f)", e.Value, e.Low, e.High)
	}
	if e.Low < 0 {
		return fmt.Sprintf("%s (%s to %s)", Bytes(e.Value), Bytes(e.Low), Bytes(e.High))
	}
	return fmt.Sprintf("%s (%s)", Bytes(e.Value), byteRange(e.Value, e.Low, e.High))
}

func (a *ActivityReport) has(q Quantity) bool {
	return slices.ContainsFunc(a.Findings, func(f Finding) bool { return f.Quantity == q })
}

// added is what the events of an activity added to a quantity: its blocks, less
// what the other activities' events in them did, storms included.
type added struct {
	points  [][2]float64 // events, and what they added
	warm    int          // index of the last point of the warm-up
	confirm int          // index of the last point before the confirmation; 0: none
}

func (r *Report) added(a int, q Quantity) added {
	c := added{points: [][2]float64{{0, 0}}}
	for i := 1; i < len(r.Blocks); i++ {
		b := &r.Blocks[i]
		gained, ok := r.blockGrowth(i, q)
		if b.Activity != a || !ok {
			continue
		}
		row := r.row(b)
		for k := range row {
			if k != a {
				gained -= r.Activities[k].Effects[q].Value * row[k]
			}
		}
		if b.Phase == PhaseConfirm && c.confirm == 0 {
			c.confirm = len(c.points) - 1
		}
		last := c.points[len(c.points)-1]
		c.points = append(c.points, [2]float64{last[0] + row[a], last[1] + gained})
		if b.Phase == PhaseWarmUp {
			c.warm = len(c.points) - 1
		}
	}
	return c
}

// blockGrowth is what a quantity gained in the block at i of Blocks.
func (r *Report) blockGrowth(i int, q Quantity) (float64, bool) {
	was, before := r.Blocks[i-1].Readings[q]
	is, after := r.Blocks[i].Readings[q]
	return is - was, before && after
}

// growthPlot has a panel for each activity, with one scale of what was added.
func (p *Page) growthPlot(q Quantity) template.HTML {
	const columns, left, gap, panel, head = 3, 64.0, 22.0, 150.0, 24.0
	curves := make([]added, len(p.Activities))
	low, high := 0.0, 0.0
	for a := range curves {
		curves[a] = p.added(a, q)
		for _, at := range curves[a].points {
			low, high = min(low, at[1]), max(high, at[1])
		}
	}
	var b bytes.Buffer
	width := (plotWidth - left - 10 - gap*(columns-1)) / columns
	rows := (len(curves) + columns - 1) / columns
	for a, c := range curves {
		x := left + float64(a%columns)*(width+gap)
		y := 22 + float64(a/columns)*(panel+head+26)
		v := &view{b: &b, left: x, top: y + head, right: x + width, bottom: y + head + panel}
		end := c.points[len(c.points)-1]
		v.scaleX(0, max(1, end[0]))
		v.scaleY(low, high)
		v.text("t", x, y+head-8, "start", p.Activities[a].Name())
		v.rect("w", v.x(0), v.top, v.x(c.points[c.warm][0]), v.bottom, "warm-up")
		var write func(float64) string
		if a%columns == 0 {
			write = q.amount
		}
		v.ticksY(4, !q.IsCount(), write)
		for _, n := range ticks(0, v.x1, 3, false) {
			v.line("z", v.x(n), v.bottom, v.x(n), v.bottom+3)
			// At the ends, no label reaches into the next panel.
			x, anchor := v.x(n), "middle"
			if n == 0 {
				anchor = "start"
			} else if half := textWidth * float64(len(grouped(n))) / 2; x+half > v.right {
				x, anchor = v.right, "end"
			}
			v.text("a", x, v.bottom+16, anchor, grouped(n))
		}
		v.line("z", v.left, v.y(0), v.right, v.y(0))
		if e, ok := p.Activities[a].Effects[q]; ok && len(c.points) > c.warm+1 {
			from := c.points[c.warm]
			v.fan(colour("fan", a), from, end[0], e)
		}
		if c.confirm > 0 {
			v.line("m", v.x(c.points[c.confirm][0]), v.top, v.x(c.points[c.confirm][0]), v.bottom)
		}
		v.curve(colour("s", a), 2, c.points)
	}
	v := &view{b: &b}
	v.text("t", 0, 14, "start", q.Words()+" over events")
	return svg(&b, 22+float64(rows)*(panel+head+26), q.Words()+" over events of each activity")
}

// fan is where growth by an effect leads from a point on, cut off at the edges.
func (v *view) fan(class string, from [2]float64, end float64, e Effect) {
	const steps = 24
	var upper, lower [][2]float64
	for i := range steps + 1 {
		n := (end - from[0]) * float64(i) / steps
		within := func(y float64) float64 { return min(v.y1, max(v.y0, y)) }
		upper = append(upper, [2]float64{from[0] + n, within(from[1] + e.High*n)})
		lower = append(lower, [2]float64{from[0] + n, within(from[1] + e.Low*n)})
	}
	slices.Reverse(lower)
	v.area(class, append(upper, lower...), "")
}

// classesPlot stacks the classes of memory to the resident set.
func (p *Page) classesPlot() template.HTML {
	var b bytes.Buffer
	v := &view{b: &b, left: 70, right: plotWidth - 12, top: 40, bottom: 280}
	// What grew most is on top, where it shows.
	classes := slices.DeleteFunc(p.movers(), func(q Quantity) bool { return q == Quantity(memory.SocketBuffers) })
	slices.Reverse(classes)
	layers := make([][]float64, len(classes)+1)
	layers[0] = make([]float64, len(p.Blocks))
	highest := 0.0
	for k, q := range classes {
		layers[k+1] = make([]float64, len(p.Blocks))
		for i := range p.Blocks {
			layers[k+1][i] = layers[k][i] + max(0, p.Blocks[i].Readings[q])
			highest = max(highest, layers[k+1][i], p.Blocks[i].Readings[Resident])
		}
	}
	v.scaleX(0, p.last().At)
	v.scaleY(0, highest)
	v.text("t", 0, 14, "start", "what the resident set is made of")
	v.ticksY(5, true, Resident.amount)
	v.ticksX(8, false, seconds)
	var keys []key
	for k, q := range classes {
		var polygon [][2]float64
		for i := range p.Blocks {
			polygon = append(polygon, [2]float64{p.Blocks[i].At, layers[k+1][i]})
		}
		for i := range slices.Backward(p.Blocks) {
			polygon = append(polygon, [2]float64{p.Blocks[i].At, layers[k][i]})
		}
		class := colour("area", len(classes)-1-k) // as in changesPlot
		v.area(class, polygon, q.Words())
		keys = append(keys, key{class, fmt.Sprintf("%s %s → %s", q.Words(), Bytes(p.Blocks[0].Readings[q]), Bytes(p.last().Readings[q]))})
	}
	slices.Reverse(keys)
	v.curve("resident", 2, p.over(Resident, 0))
	keys = append(keys, key{"resident", "resident set"})
	p.phases(v)
	return svg(&b, v.legend(keys, v.bottom+38)-8, "classes of memory over time")
}

// changesPlot draws by how much quantities changed since the first reading, those
// that moved most.
func (p *Page) changesPlot(title string, list []Quantity) template.HTML {
	var b bytes.Buffer
	v := &view{b: &b, left: 70, right: plotWidth - 12, top: 40, bottom: 240}
	low, high := 0.0, 0.0
	for _, q := range list {
		for _, at := range p.over(q, p.Blocks[0].Readings[q]) {
			low, high = min(low, at[1]), max(high, at[1])
		}
	}
	v.scaleX(0, p.last().At)
	v.scaleY(low, high)
	v.text("t", 0, 14, "start", title)
	v.ticksY(5, !list[0].IsCount(), list[0].amount)
	v.ticksX(8, false, seconds)
	v.line("z", v.left, v.y(0), v.right, v.y(0))
	var keys []key
	for i, q := range list {
		if list[0] == Resident {
			i-- // it has no colour
		}
		curve, square := colour("s", max(0, i)), colour("f", max(0, i))
		if q == Resident {
			curve, square = "resident", "resident"
		}
		v.curve(curve, 2, p.over(q, p.Blocks[0].Readings[q]))
		keys = append(keys, key{square, fmt.Sprintf("%s %s", q.Words(), q.signed(p.rise(q)))})
	}
	p.phases(v)
	y := v.legend(keys, p.strip(v)+22)
	var names []key
	for a := range p.Activities {
		names = append(names, key{colour("f", a), p.Activities[a].Name()})
	}
	v.text("a", v.left, y+4, "start", "activities in the strip:")
	return svg(&b, v.legend(names, y+22)-4, title)
}

// signed is "+3.4 MB".
func (q Quantity) signed(n float64) string {
	if n < 0 {
		return q.amount(n)
	}
	return "+" + q.amount(n)
}

func seconds(n float64) string { return fmt.Sprintf("%g s", n) }

// timePlots are the process over time.
func (p *Page) timePlots() []template.HTML {
	if len(p.Blocks) < 2 {
		return nil
	}
	plots := []template.HTML{p.changesPlot("change since the first reading", append([]Quantity{Resident}, p.movers()[:min(len(p.movers()), 6)]...))}
	var counts []Quantity
	for _, q := range tested {
		if q.IsCount() && p.moved(q) {
			counts = append(counts, q)
		}
	}
	if len(counts) > 0 {
		plots = append(plots, p.changesPlot("counts: change since the first reading", counts))
	}
	return append(plots, p.classesPlot())
}

// movers are the classes of memory, what grew most first.
func (p *Page) movers() []Quantity {
	var list []Quantity
	for _, c := range append(memory.SampleClasses(), memory.SocketBuffers) {
		if q := Quantity(c); p.moved(q) || p.last().Readings[q] > 0 && c != memory.SocketBuffers {
			list = append(list, q)
		}
	}
	slices.SortStableFunc(list, func(x, y Quantity) int { return cmp.Compare(p.rise(y), p.rise(x)) })
	return list
}

// moved reports whether a quantity was read and ever changed.
func (p *Page) moved(q Quantity) bool {
	points := p.over(q, 0)
	return slices.ContainsFunc(points, func(at [2]float64) bool { return at[1] != points[0][1] })
}

func (p *Page) last() *Block { return &p.Blocks[len(p.Blocks)-1] }

// rise is by how much a quantity changed.
func (p *Page) rise(q Quantity) float64 { return p.last().Readings[q] - p.Blocks[0].Readings[q] }

// over is a quantity over time, less a part.
func (p *Page) over(q Quantity, less float64) [][2]float64 {
	var points [][2]float64
	for i := range p.Blocks {
		if n, ok := p.Blocks[i].Readings[q]; ok {
			points = append(points, [2]float64{p.Blocks[i].At, n - less})
		}
	}
	return points
}

// phases marks where each begins in a plot over time.
func (p *Page) phases(v *view) {
	taken := 0.0
	for i := 1; i < len(p.Blocks); i++ {
		if p.Blocks[i].Phase == p.Blocks[i-1].Phase && i > 1 {
			continue
		}
		x := v.x(p.Blocks[i-1].At)
		v.line("m", x, v.top-14, x, v.bottom)
		if x >= taken {
			v.text("a", x+4, v.top-5, "start", string(p.Blocks[i].Phase))
			taken = x + 12 + textWidth*float64(len(p.Blocks[i].Phase))
		}
	}
}

// strip shows below a plot over time which activity ran when, and returns the y
// below it.
func (p *Page) strip(v *view) float64 {
	y := v.bottom + 26
	for i := 1; i < len(p.Blocks); i++ {
		b := &p.Blocks[i]
		title := fmt.Sprintf("%s %d: %s events, %s", b.Phase, b.Round, grouped(b.Events), p.Activities[b.Activity].Name())
		v.rect(colour("f", b.Activity), v.x(p.Blocks[i-1].At), y, v.x(b.At)-0.5, y+10, title)
	}
	return y + 10
}
