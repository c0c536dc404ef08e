package report

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
)

// measuring is put into a copy of the page, and writes what a reader would see.
const measuring = `<script>
const rgb = (c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number);
const light = (c) => { const [r, g, b] = rgb(c).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = getComputedStyle(document.body).backgroundColor;
const contrast = (c) => { const [a, b] = [light(c), light(ground)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
const out = { ground, wide: document.documentElement.scrollWidth - innerWidth, loaded: performance.getEntriesByType('resource').length, pictures: 0, dim: [], cut: [], over: [], gaps: 0 };
for (const e of document.querySelectorAll('h1, h2, p, td, th, dt, dd, li, span, svg text')) {
  const style = getComputedStyle(e), ratio = contrast(e.closest('svg') ? style.fill : style.color);
  if (e.textContent.trim() && ratio < 4.5) out.dim.push(e.textContent + ' ' + ratio.toFixed(1));
}
for (const svg of document.querySelectorAll('svg')) {
  const whole = svg.getBoundingClientRect(), boxes = [];
  out.pictures += whole.height > 100 && whole.width > 300;
  for (const text of svg.querySelectorAll('text')) {
    const box = text.getBoundingClientRect();
    for (const mark of svg.querySelectorAll('line.m')) {
      const at = mark.getBoundingClientRect();
      if (box.left < at.left && at.left < box.right && box.bottom > at.top + 2 && box.top < at.bottom - 2) out.over.push(text.textContent + ' / mark');
    }
    if (box.left < whole.left - 1 || box.right > whole.right + 1) out.cut.push(text.textContent);
    for (const other of boxes)
      if (box.left < other.right && other.left < box.right && box.top + 2 < other.bottom && other.top + 2 < box.bottom) out.over.push(text.textContent + ' / ' + other.text);
    boxes.push(Object.assign({ text: text.textContent }, { left: box.left, right: box.right, top: box.top, bottom: box.bottom }));
  }
  for (const line of svg.querySelectorAll('path')) out.gaps += line.getAttribute('d').split('M').length - 2;
}
document.body.textContent = '<<<' + JSON.stringify(out) + '>>>';
</script>`

type measured struct {
	Ground         string
	Wide           int // pixels that do not fit
	Loaded         int // what the page fetched
	Pictures, Gaps int
	Dim, Cut, Over []string
}

// browser is a browser of this machine.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("no browser")
	}
	t.Skip("no browser")
	return ""
}

// TestBrowser looks at the report in a browser, light and dark, wide and narrow:
// nothing is dim, cut off, on top of something else, or from elsewhere.
func TestBrowser(t *testing.T) {
	chromium := browser(t)
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
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(strings.Replace(page.String(), "</body>", measuring+"</body>", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		scheme, width int
		ground        string
	}{{1, 1000, "rgb(255, 255, 255)"}, {0, 1000, "rgb(21, 21, 21)"}, {1, 500, "rgb(255, 255, 255)"}} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--hide-scrollbars",
			fmt.Sprintf("--window-size=%d,1200", tt.width), fmt.Sprintf("--blink-settings=preferredColorScheme=%d", tt.scheme), "--dump-dom", "file://"+file).Output()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", chromium, err)
		}
		var m measured
		text := regexp.MustCompile(`(?s)&lt;&lt;&lt;(.*)&gt;&gt;&gt;`).FindSubmatch(out)
		if text == nil {
			t.Fatalf("the page was not read: %.300s", out)
		}
		if err := json.Unmarshal([]byte(strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(string(text[1]))), &m); err != nil {
			t.Fatal(err)
		}
		if m.Ground != tt.ground || m.Wide > 0 || m.Loaded != 0 || m.Pictures != 7 || len(m.Dim)+len(m.Cut)+len(m.Over) > 0 || m.Gaps == 0 {
			t.Errorf("%+v in a window of %d pixels: %+v", tt, tt.width, m)
		}
	}
}
