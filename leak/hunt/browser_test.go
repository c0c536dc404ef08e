package hunt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/browsertest"
	"holdfast/leak"
)

// look is what a browser says of a page: texts that lie on another one or beyond
// the edge of their plot, that are hard to read on their ground, and what the
// page asked of the network.
const look = `
const luminance = (css) => {
  const [r, g, b] = css.match(/[\d.]+/g).map(Number).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}
const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05) }
const ground = getComputedStyle(document.body).backgroundColor
const found = { ground, problems: [], plots: 0, texts: 0, wider: document.documentElement.scrollWidth - innerWidth, asked: performance.getEntriesByType('resource').map((e) => e.name) }
for (const svg of document.querySelectorAll('svg')) {
  found.plots++
  const edge = svg.getBoundingClientRect(), boxes = []
  for (const text of svg.querySelectorAll('text')) {
    found.texts++
    const box = text.getBoundingClientRect(), words = svg.getAttribute('aria-label') + ': ' + text.textContent
    if (box.left < edge.left - 1 || box.right > edge.right + 1 || box.top < edge.top - 1 || box.bottom > edge.bottom + 1) found.problems.push(words + ' lies beyond the edge')
    for (const [other, name] of boxes) {
      if (Math.min(box.right, other.right) - Math.max(box.left, other.left) > 1 && Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top) > 4) found.problems.push(words + ' lies on ' + name)
    }
    boxes.push([box, text.textContent])
    if (contrast(getComputedStyle(text).fill, ground) < 4.5) found.problems.push(words + ' is hard to read')
  }
  for (const line of svg.querySelectorAll('polyline')) {
    if (contrast(getComputedStyle(line).stroke, ground) < 3) found.problems.push(svg.getAttribute('aria-label') + ': a line is hard to see: ' + getComputedStyle(line).stroke)
    if (/NaN|Inf/.test(line.getAttribute('points'))) found.problems.push('a line leads nowhere')
  }
}
for (const e of document.querySelectorAll('h1, h2, p, li, dt, dd, th, td, pre')) {
  if (contrast(getComputedStyle(e).color, ground) < 4.5) found.problems.push(e.textContent + ' is hard to read')
}
`

type looked struct {
	Ground       string
	Problems     []string
	Plots, Texts int
	Wider        float64
	Asked        []string
}

// inBrowser opens a page and looks at it.
func inBrowser(t *testing.T, page *Page, view browsertest.View) (found looked) {
	t.Helper()
	var text strings.Builder
	if err := page.Write(&text); err != nil {
		t.Fatal(err)
	}
	browsertest.Look(t, text.String(), look, view, &found)
	return found
}

// TestPageInBrowser looks at pages in a real browser, light and dark, wide and
// narrow: all can be read, nothing lies on anything else, and nothing is asked of
// the network.
func TestPageInBrowser(t *testing.T) {
	leaking := (&process{random: rand.New(rand.NewPCG(1, 5)), keeps: [2]float64{0, 3400}, noise: 50e3, confirm: 0.5}).experiment()
	leaking.Warnings = []string{"TLS reconnect: 3 attempts did not go as intended in one block of 100 events: connection refused"}
	clean := (&process{random: rand.New(rand.NewPCG(1, 5)), noise: 50e3, confirm: 0.5}).experiment()
	interrupted := many(60)
	interrupted.end("ended in the trial, round 3 of 6: interrupted", defaultFloor)
	early := many(3)
	early.end("ended in the warm-up, round 1 of 6: interrupted", defaultFloor)
	first := many(0)
	first.end("ended in the warm-up, round 1 of 6: interrupted", defaultFloor)
	evidence := []Evidence{{Activity: "mutual-TLS reconnect", Files: []string{strings.Repeat("/a/long/path", 20)}, Difference: leak.Difference{
		Kind: "heap", Unit: "bytes", Totals: []int64{5 << 20, 6 << 20, 7 << 20},
		Rows: []leak.Grown{{Name: "example.com/gateway.(*server).remember", Growth: 1 << 20, Stack: []string{"example.com/gateway.(*server).remember", "net/http.HandlerFunc.ServeHTTP"}}},
	}}}
	settings := [][2]string{{"target 3", "wss://127.0.0.1:8443/" + strings.Repeat("ocpp", 60)}}
	grounds := make(map[string]bool)
	for _, tt := range []struct {
		name   string
		report *Report
		dark   bool
		width  int
		plots  int
	}{
		{"leak", leaking, false, 1280, 5}, // two of effects, one of growth, two over time
		{"leak, narrow", leaking, true, 500, 5},
		{"clean", clean, true, 1280, 4},
		{"interrupted", interrupted, false, 500, 6},
		{"interrupted, dark", interrupted, true, 1280, 6},
		{"interrupted early", early, false, 1280, 5},
		{"interrupted at once", first, false, 1280, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := inBrowser(t, &Page{Report: tt.report, Evidence: evidence, Settings: settings}, browsertest.View{Dark: tt.dark, Width: tt.width})
			if found.Plots != tt.plots || found.Texts < 5*tt.plots {
				t.Errorf("%d plots with %d texts, want %d plots", found.Plots, found.Texts, tt.plots)
			}
			for _, problem := range slices.Compact(found.Problems) {
				t.Error(problem)
			}
			if found.Wider > 0 {
				t.Errorf("the page is %.0f wider than the window", found.Wider)
			}
			if len(found.Asked) > 0 {
				t.Errorf("the page asks for %v", found.Asked)
			}
			grounds[fmt.Sprint(tt.dark, found.Ground)] = true
		})
	}
	if len(grounds) != 2 {
		t.Errorf("grounds %v, want one of light and one of dark", grounds)
	}
}

// many is an experiment of eleven activities with long names, of which so many
// blocks are done.
func many(blocks int) *Report {
	random := rand.New(rand.NewPCG(3, 5))
	e := &Experiment{Activities: []Activity{{Event: IdleEvent}}}
	for _, event := range []string{"reconnect", "message", "failed handshake", "silent connection", "oversized message"} {
		e.Activities = append(e.Activities, Activity{Cohort: "TLS", Event: event}, Activity{Cohort: "mutual-TLS", Event: event})
	}
	r := newReport(e, time.Now())
	readings := map[Quantity]float64{Resident: 6e7, Kept: 5e7, "heap_live": 1e7, "heap_unused": 5e6, "off_heap": -5e6, "file": 3e7, "stacks": 1e6, "metadata": 2e6, "socket_buffers": 0,
		"count:goroutines": 40, "count:files": 30, "count:sockets": 20, "count:threads": 9}
	r.Blocks = []Block{{Phase: PhaseWarmUp, Activity: -1, Readings: readings}}
	for i := range blocks {
		a := i % len(e.Activities)
		b := Block{Phase: PhaseWarmUp, Round: 1 + i/len(e.Activities), Activity: a, Events: 10 + 5e5*random.Float64(), At: float64(i + 1), Readings: make(map[Quantity]float64), growth: make(map[Quantity]float64)}
		if b.Round > 1 {
			b.Phase, r.Rounds = PhaseTrial, b.Round-1
		}
		for q, n := range r.Blocks[i].Readings {
			gained := 2e4 * random.NormFloat64()
			if a == 10 && q == "off_heap" {
				gained += 40 * b.Events
			}
			if q.IsCount() {
				gained = float64(random.IntN(3))
			}
			b.Readings[q], b.growth[q] = n+gained, gained
		}
		r.add(b, "")
	}
	return r
}
