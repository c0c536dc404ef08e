package report

import (
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/internal/browsertest"
)

// measuring finds what a reader of the page would see.
const measuring = `
const rgb = (c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number);
const light = (c) => { const [r, g, b] = rgb(c).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = getComputedStyle(document.body).backgroundColor;
const contrast = (c) => { const [a, b] = [light(c), light(ground)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
const found = { ground, wide: document.documentElement.scrollWidth - innerWidth, loaded: performance.getEntriesByType('resource').length, pictures: 0, dim: [], cut: [], over: [], gaps: 0 };
for (const e of document.querySelectorAll('h1, h2, p, td, th, dt, dd, li, span, svg text')) {
  const style = getComputedStyle(e), ratio = contrast(e.closest('svg') ? style.fill : style.color);
  if (e.textContent.trim() && ratio < 4.5) found.dim.push(e.textContent + ' ' + ratio.toFixed(1));
}
for (const svg of document.querySelectorAll('svg')) {
  const whole = svg.getBoundingClientRect(), boxes = [];
  found.pictures += whole.height > 100 && whole.width > 300;
  for (const text of svg.querySelectorAll('text')) {
    const box = text.getBoundingClientRect();
    for (const mark of svg.querySelectorAll('line.m')) {
      const at = mark.getBoundingClientRect();
      if (box.left < at.left && at.left < box.right && box.bottom > at.top + 2 && box.top < at.bottom - 2) found.over.push(text.textContent + ' / mark');
    }
    if (box.left < whole.left - 1 || box.right > whole.right + 1) found.cut.push(text.textContent);
    for (const other of boxes)
      if (box.left < other.right && other.left < box.right && box.top + 2 < other.bottom && other.top + 2 < box.bottom) found.over.push(text.textContent + ' / ' + other.text);
    boxes.push(Object.assign({ text: text.textContent }, { left: box.left, right: box.right, top: box.top, bottom: box.bottom }));
  }
  for (const line of svg.querySelectorAll('path')) found.gaps += line.getAttribute('d').split('M').length - 2;
}
`

type measured struct {
	Ground         string
	Wide           int // pixels that do not fit
	Loaded         int // what the page fetched
	Pictures, Gaps int
	Dim, Cut, Over []string
}

// TestBrowser looks at the report in a browser, light and dark, wide and narrow:
// nothing is dim, cut off, on top of something else, or from elsewhere.
func TestBrowser(t *testing.T) {
	r := busy()
	at := time.Duration(0)
	for i, phase := range []string{"arrive", "before", "a-phase-with-a-long-name", "x", "y", "after-all-that-happened", "settle"} {
		for range 1 + 9*(i%3) {
			at += time.Second
			if at%(3*time.Second) == 0 {
				r.Call(fleet.CallRecord{Action: "Heartbeat", Done: at / 100})
			}
			r.Sample(at, phase, 1000, fleet.Stats{Errors: map[string]uint64{"closed": uint64(at / time.Second), "unauthorized": 2}, Sent: uint64(at)})
		}
	}
	res := r.Result(Result{Scenario: "storm", About: "All at once.", Targets: []string{"wss://a.example:8882/ocpp", "wss://a.example:8883/ocpp"}, Notes: []string{"a note"}, Compared: true,
		Problems: map[fleet.ProblemKind]int{fleet.Missing: 1}, Examples: []string{"missing: station CS-1, transaction 5: its end"}}, fleet.Stats{Stations: 1000, Errors: map[string]uint64{"closed": 9}})
	res.Judge(assertions(t, "errors == 0", "p99 < 1h"), assertions(t, "lost > 0"))
	var page strings.Builder
	if err := res.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		view   browsertest.View
		ground string
	}{
		{browsertest.View{Width: 1000}, "rgb(255, 255, 255)"},
		{browsertest.View{Width: 1000, Dark: true}, "rgb(21, 21, 21)"},
		{browsertest.View{Width: 500}, "rgb(255, 255, 255)"},
	} {
		var m measured
		browsertest.Look(t, page.String(), measuring, tt.view, &m)
		if m.Ground != tt.ground || m.Wide > 0 || m.Loaded != 0 || m.Pictures != 7 || len(m.Dim)+len(m.Cut)+len(m.Over) > 0 || m.Gaps == 0 {
			t.Errorf("%+v: %+v", tt.view, m)
		}
	}
}
