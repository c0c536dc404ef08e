package memory

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Geometry of the picture, in pixels.
const (
	pictureWidth = 1000
	rowHeight    = 24
	boxHead      = 28
	boxGap       = 10
	labelWidth   = 150
	barWidth     = 330
	valueWidth   = 90
)

// maxPictureRows bounds the cohorts that are drawn; the rest is one row.
const maxPictureRows = 12

// box is a part of the picture: a row with a bar, or a frame around others.
type box struct {
	title  string
	note   string // what it is
	bytes  int64
	class  Class // colours a row
	row    bool
	within []box
}

// height is that of the box with what is in it, without the gap after it.
func (b box) height() int {
	if b.row {
		return rowHeight
	}
	h := boxHead + boxGap
	for _, w := range b.within {
		h += w.height()
		if !w.row {
			h += boxGap
		}
	}
	return h
}

// notes say in a few words what a class is.
func notes() map[Class]string {
	return map[Class]string{
		HeapLive:      "objects in use at the last collection",
		HeapGarbage:   "allocated since then: garbage, or in use",
		HeapUsed:      "objects in use, and garbage not collected yet",
		HeapUnused:    "room inside of spans that hold objects",
		HeapFree:      "empty spans: reused, or returned in time",
		Stacks:        "of goroutines and threads",
		Metadata:      "the runtime's bookkeeping",
		External:      "C++ objects that JavaScript holds",
		OffHeap:       "memory that the runtime does not know",
		Anonymous:     "heap, stacks and all else: no runtime was asked",
		File:          "pages of the binary and of mapped files",
		Shared:        "shared memory",
		SocketBuffers: "data that peers have not read, or we have not",
		Sockets:       "an estimate: 3,900 bytes each",
		PageTables:    "they map the process's memory",
	}
}

// boxes arranges what a sample has: the runtime's classes, those beside it, and
// the kernel's memory and the rest of the working set outside of RSS.
func (s *Sample) boxes() []box {
	rows := func(from map[Class]int64, classes ...Class) (list []box) {
		for _, c := range classes {
			if v, ok := from[c]; ok {
				b := box{title: strings.ReplaceAll(string(c), "_", " "), note: notes()[c], bytes: v, class: c, row: true}
				if c == OffHeap && v < 0 {
					b.note = "below zero: counted and never touched"
				}
				list = append(list, b)
			}
		}
		return list
	}
	frame := func(title, note string, within ...box) box {
		b := box{title: title, note: note, within: within}
		for _, w := range within {
			b.bytes += w.bytes
		}
		return b
	}
	var inside []box
	heap := rows(s.Classes, HeapLive, HeapGarbage, HeapUsed, HeapUnused, HeapFree)
	if len(heap) > 0 {
		known := append([]box{frame("heap", "", heap...)}, rows(s.Classes, Stacks, Metadata, External)...)
		inside = append(inside, frame("what the language runtime knows", "", known...))
	}
	inside = append(inside, rows(s.Classes, OffHeap, Anonymous, File, Shared)...)
	if n := s.Unaccounted(); s.RSS > 0 && n != 0 {
		inside = append(inside, box{title: "not divided", note: "no source tells what it is", bytes: n, row: true})
	}
	var all []box
	if s.RSS > 0 {
		b := frame("resident set (RSS)", "", inside...)
		b.bytes = s.RSS
		all = append(all, b)
	} else {
		all = inside
	}
	if kernel := rows(s.Kernel, SocketBuffers, Sockets, PageTables); len(kernel) > 0 {
		all = append(all, frame("kernel memory", "outside of RSS, and the pod pays for it", kernel...))
	}
	rest, known := s.Detail[detailUnexplained]
	if !known || s.WorkingSet == 0 {
		return all
	}
	b := box{title: "the rest", note: "other processes of the cgroup, file cache", bytes: rest, row: true}
	if rest < 0 {
		b.note = "below zero: pages charged to another cgroup"
	}
	note := "no limit"
	if s.Limit > 0 {
		note = fmt.Sprintf("%.0f %% of the limit of %s", 100*float64(s.WorkingSet)/float64(s.Limit), pictureSize(s.Limit))
	}
	w := frame("working set of the cgroup", note, append(all, b)...)
	w.bytes = s.WorkingSet
	return []box{w}
}

// largest is the scale of the bars: the most bytes of a class. The rest of the
// working set may be far larger; its bar ends where the others' may.
func largest(boxes []box) int64 {
	n := int64(1)
	for _, b := range boxes {
		if b.row && b.class != "" {
			n = max(n, b.bytes, -b.bytes)
		}
		n = max(n, largest(b.within))
	}
	return n
}

// canvas writes SVG.
type canvas struct {
	strings.Builder
	scale int64 // bytes of a full bar
}

func (c *canvas) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"/>`+"\n", x, y, w, h, class)
}

func (c *canvas) text(x, y int, class, text string) {
	fmt.Fprintf(c, `<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(text))
}

// draw draws boxes in a column from y on, and returns where it ends.
func (c *canvas) draw(boxes []box, x, y, width int) int {
	for _, b := range boxes {
		if b.row {
			c.row(b, x, y)
			y += rowHeight
			continue
		}
		h := b.height()
		c.rect(float64(x), float64(y), float64(width), float64(h), "frame")
		c.text(x+10, y+19, "head", b.title)
		c.text(x+width-10, y+19, "head end", pictureSize(b.bytes))
		if b.note != "" {
			c.text(x+width/2, y+19, "note middle", b.note)
		}
		c.draw(b.within, x+10, y+boxHead, width-20)
		y += h + boxGap
	}
	return y
}

// row has all bars begin at one place, however deep it is nested.
func (c *canvas) row(b box, x, y int) {
	const bars = 40 + labelWidth
	base := y + 17
	c.text(x+10, base, "label", b.title)
	length := float64(b.bytes) / float64(c.scale) * barWidth
	class := "bar " + strings.ReplaceAll(string(b.class), "_", "-")
	if b.bytes < 0 {
		class += " below"
	}
	if length = min(math.Abs(length), barWidth); b.bytes != 0 {
		c.rect(bars, float64(y+4), max(length, 1), rowHeight-8, strings.TrimSpace(class))
	}
	c.text(bars+barWidth+valueWidth, base, "value end", pictureSize(b.bytes))
	c.text(bars+barWidth+valueWidth+16, base, "note", b.note)
}

// strip draws RSS as one bar, each class as wide as its share.
func (c *canvas) strip(s *Sample, y int) {
	const x, width, height = 20, pictureWidth - 40, 30
	whole := int64(0)
	for _, class := range SampleClasses() {
		whole += max(0, s.Classes[class])
	}
	if whole == 0 {
		return
	}
	at := 0.0
	for _, class := range SampleClasses() {
		w := float64(max(0, s.Classes[class])) / float64(whole) * width
		if w == 0 {
			continue
		}
		c.rect(x+at, float64(y), w, height, "bar "+strings.ReplaceAll(string(class), "_", "-"))
		if name := strings.ReplaceAll(string(class), "_", " "); w > float64(8*len(name)) {
			c.text(int(x+at+w/2), y+20, "on middle", name)
		}
		at += w
	}
}

// Picture draws what lives under the resident set of a process as SVG: every
// class to one scale, in the frames that hold it, with the kernel's memory and
// the working set around. title names the process. The picture is complete in
// itself, and follows the reader's light or dark colours.
func Picture(w io.Writer, title string, s Sample) error {
	c := &canvas{}
	boxes := s.boxes()
	c.scale = largest(boxes)
	end := c.draw(boxes, 20, 112, pictureWidth-40)
	end = c.cohorts(&s, end+8)
	body := c.String()
	c.Reset()

	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", pictureWidth, end+10, pictureWidth, end+10)
	fmt.Fprintf(c, "<title>%s</title>\n<style>%s</style>\n", html.EscapeString("Memory of "+title), pictureStyle)
	c.rect(0, 0, pictureWidth, float64(end+10), "page")
	c.text(20, 30, "title", title)
	c.text(pictureWidth-20, 30, "note end", s.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	c.text(20, 52, "note", s.caption())
	c.strip(&s, 66)
	c.WriteString(body)
	c.WriteString("</svg>\n")
	_, err := io.WriteString(w, c.String())
	return err
}

// caption is the sample in a line.
func (s *Sample) caption() string {
	var parts []string
	if s.RSS > 0 {
		parts = append(parts, "RSS "+pictureSize(s.RSS))
	}
	for _, n := range Counts() {
		if v, ok := s.Counts[n]; ok {
			parts = append(parts, fmt.Sprintf("%d %s", v, n))
		}
	}
	zombies := int64(0)
	for _, v := range s.Zombies {
		zombies += v
	}
	if s.Zombies != nil {
		parts = append(parts, fmt.Sprintf("%d held after their end", zombies))
	}
	return strings.Join(parts, " · ")
}

// cohorts lists the connections by cohort below the boxes.
func (c *canvas) cohorts(s *Sample, y int) int {
	if len(s.Cohorts) == 0 {
		return y
	}
	names := slices.SortedFunc(maps.Keys(s.Cohorts), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Cohorts[b], s.Cohorts[a]), cmp.Compare(a, b))
	})
	c.text(20, y+14, "head", "connections by cohort")
	y += boxHead
	line := func(name string, n, buffers int64) {
		text := fmt.Sprintf("%d", n)
		if buffers > 0 {
			text += ", " + pictureSize(buffers) + " in socket buffers"
		}
		c.text(30, y+14, "label", name)
		c.text(40+labelWidth+barWidth, y+14, "value", text)
		y += rowHeight
	}
	rest, restBuffers := int64(0), int64(0)
	for i, name := range names {
		if i < maxPictureRows {
			line(name, s.Cohorts[name], s.CohortBuffers[name])
			continue
		}
		rest, restBuffers = rest+s.Cohorts[name], restBuffers+s.CohortBuffers[name]
	}
	if rest > 0 {
		line("others", rest, restBuffers)
	}
	return y
}

// pictureSize is a number of bytes for people.
func pictureSize(n int64) string {
	switch v := float64(n); {
	case math.Abs(v) >= 1<<30:
		return fmt.Sprintf("%.2f GB", v/(1<<30))
	case math.Abs(v) >= 1<<20:
		return fmt.Sprintf("%.1f MB", v/(1<<20))
	case math.Abs(v) >= 1<<10:
		return fmt.Sprintf("%.1f KB", v/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

const pictureStyle = `
svg{--page:#fff;--ink:#1c2430;--soft:#5c6878;--line:#c3cbd6;--fill:rgba(90,110,140,.05)}
@media (prefers-color-scheme:dark){svg{--page:#12161c;--ink:#e6ebf2;--soft:#98a4b5;--line:#3a4554;--fill:rgba(150,170,200,.06)}}
text{font:13px system-ui,sans-serif;fill:var(--ink)}
.page{fill:var(--page)}.frame{fill:var(--fill);stroke:var(--line);rx:5px}
.title{font-size:18px;font-weight:600}.head{font-weight:600}.note{fill:var(--soft)}
.end{text-anchor:end}.middle{text-anchor:middle}.on{fill:#fff;font-weight:600}
.value{font-variant-numeric:tabular-nums}
.bar{fill:#8793a3}.heap-live{fill:#1f6fb2}.heap-garbage{fill:#4f9bd6}.heap-used{fill:#1f6fb2}.heap-unused{fill:#7d8fd0}.heap-free{fill:#8fb4a6}
.stacks{fill:#8a5fb0}.metadata{fill:#3c8c86}.external{fill:#b0783a}.off-heap{fill:#c4533d}.anonymous{fill:#a06a5a}.file{fill:#6b7785}.shared{fill:#9a8f4a}
.socket-buffers{fill:#c23b6b}.sockets{fill:#d07a9c}.page-tables{fill:#a58aa0}
.below{fill-opacity:.25;stroke:#c4533d;stroke-dasharray:4 3}
`
