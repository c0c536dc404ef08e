package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/leak"
	"holdfast/memory"
)

// leakWatch shows the memory of a process while it runs.
type leakWatch struct {
	adminTokenFlag
	Admin     string        `help:"Admin port of a process of Holdfast. Default, if no other way to a process is given: http://127.0.0.1:8801." placeholder:"URL"`
	PID       int           `name:"pid" help:"A process of this machine, in any language." placeholder:"N"`
	Metrics   string        `help:"Prometheus metrics of a Go or Node.js process." placeholder:"URL"`
	Pprof     string        `help:"net/http/pprof of a Go process, such as http://127.0.0.1:6060/debug/pprof/." placeholder:"URL"`
	Inspector string        `help:"Inspector of a Node.js process, such as http://127.0.0.1:9229." placeholder:"URL"`
	Interval  time.Duration `help:"Time between two readings." default:"2s"`
	Picture   string        `help:"SVG file with what lives under the resident set: written anew with every reading." type:"path" placeholder:"FILE"`
	For       time.Duration `help:"End after this time. Default: when interrupted." default:"0"`
}

// leastInterval keeps the watching from being what costs.
const leastInterval = 100 * time.Millisecond

// Run shows a table that is redrawn on a terminal, otherwise a line per reading;
// with --json a document per line.
func (c *leakWatch) Run(e *env) error {
	if c.Interval < leastInterval || c.For < 0 {
		return &usageError{fmt.Sprintf("holdfast leak watch: --interval is %s or more, --for is not negative", leastInterval)}
	}
	t := memory.Target{PID: c.PID, Metrics: c.Metrics, Pprof: c.Pprof, Inspector: c.Inspector, Holdfast: c.Admin}
	if t == (memory.Target{}) {
		t.Holdfast = "http://127.0.0.1:8801"
	}
	var err error
	if t.Token, err = c.adminToken(); err != nil {
		return err
	}
	source, err := t.Open()
	if err != nil {
		return &usageError{"holdfast leak watch: " + err.Error()}
	}
	defer source.Close()
	ctx := e.ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	w := watching{head: watched(t), w: e.stdout, json: e.json, redraw: terminal(e.stdout), past: make(map[string][]int64)}
	if w.redraw && !w.json && t.Holdfast != "" {
		w.seed(ctx, t.Holdfast, t.Token)
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for {
		s, err := source.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if err := w.show(s); err != nil {
				return err
			}
			if err := c.draw(watched(t), s); err != nil {
				return err
			}
		case w.first.Time.IsZero():
			return err
		default: // it may come back
			w.missing(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// draw writes the picture of a sample.
func (c *leakWatch) draw(title string, s memory.Sample) error {
	if c.Picture == "" {
		return nil
	}
	var b bytes.Buffer
	if err := memory.Picture(&b, title, s); err != nil {
		return err
	}
	return os.WriteFile(c.Picture, b.Bytes(), 0o644)
}

// watched names the target for people.
func watched(t memory.Target) string {
	var ways []string
	if t.PID != 0 {
		ways = append(ways, fmt.Sprintf("pid %d", t.PID))
	}
	for _, w := range []string{t.Holdfast, t.Inspector, t.Metrics, t.Pprof} {
		if w != "" {
			ways = append(ways, plain(w))
		}
	}
	return strings.Join(ways, ", ")
}

// watching draws samples.
type watching struct {
	head   string
	w      io.Writer
	json   bool
	redraw bool
	drawn  int // lines of the last table

	first memory.Sample
	past  map[string][]int64 // of each figure, for its curve
}

const (
	curve   = 24   // points of the curve of a figure
	maxPast = 1800 // readings that a curve is drawn from: an hour's at the default interval
)

// seed takes the last hour from the history of a process of Holdfast. An older
// one has none.
func (w *watching) seed(ctx context.Context, admin, token string) {
	var past memory.Past
	if !strings.Contains(admin, "://") {
		admin = "http://" + admin
	}
	if err := getJSON(ctx, strings.TrimSuffix(admin, "/")+"/debug/memory/history?last=1h", token, &past); err != nil {
		return
	}
	for _, p := range past.Recent {
		for name, v := range p.Values() {
			w.past[name] = append(w.past[name], v)
		}
	}
}

func (w *watching) show(s memory.Sample) error {
	if w.first.Time.IsZero() || s.Started.After(w.first.Started.Add(time.Second)) && s.PID != w.first.PID {
		w.first = s
	}
	if w.json {
		return json.NewEncoder(w.w).Encode(s)
	}
	if !w.redraw {
		_, err := fmt.Fprintln(w.w, sampleLine(s))
		return err
	}
	for name, v := range figures(s) {
		list := append(w.past[name], v)
		w.past[name] = list[max(0, len(list)-maxPast):]
	}
	var b strings.Builder
	w.table(&b, s)
	return w.draw(b.String())
}

// draw replaces what was drawn before.
func (w *watching) draw(text string) error {
	up := ""
	if w.drawn > 0 {
		up = fmt.Sprintf("\x1b[%dA\x1b[J", w.drawn)
	}
	w.drawn = strings.Count(text, "\n")
	_, err := io.WriteString(w.w, up+text)
	return err
}

// missing says that a reading failed.
func (w *watching) missing(err error) {
	if w.json {
		json.NewEncoder(w.w).Encode(map[string]string{"error": oneLine(err)})
		return
	}
	fmt.Fprintf(w.w, "%s  no answer: %s\n", time.Now().Format(time.TimeOnly), plain(oneLine(err)))
	w.drawn = 0
}

// figures are all of a sample, by name.
func figures(s memory.Sample) map[string]int64 {
	f := map[string]int64{"rss": s.RSS, "working_set": s.WorkingSet}
	for c, v := range s.Classes {
		f[string(c)] = v
	}
	for c, v := range s.Kernel { // sockets is a count as well
		f["kernel "+string(c)] = v
	}
	for c, v := range s.Counts {
		f[string(c)] = v
	}
	if s.Zombies != nil {
		f["zombies"] = sumOf(s.Zombies)
	}
	return f
}

func sumOf(m map[string]int64) int64 {
	n := int64(0)
	for _, v := range m {
		n += v
	}
	return n
}

// table shows every figure now, what it changed by while it was watched, and its
// curve.
func (w *watching) table(out io.Writer, s memory.Sample) {
	hours := s.Time.Sub(w.first.Time).Hours()
	fmt.Fprintf(out, "%s   watched for %s\n", w.head, s.Time.Sub(w.first.Time).Round(time.Second))
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	fmt.Fprintln(tw, "\tNOW\tCHANGE\tPER HOUR\t")
	now, first := figures(s), figures(w.first)
	row := func(indent, name string, show func(float64) string) {
		v, ok := now[name]
		if !ok {
			return
		}
		change, rate := float64(v-first[name]), ""
		if hours > 1.0/60 { // of less than a minute it would be noise
			rate = signed(show, change/hours)
		}
		fmt.Fprintf(tw, "%s%s\t%s\t%s\t%s\t%s\n", indent, name, show(float64(v)), signed(show, change), rate, sparkline(w.past[name]))
	}
	if s.RSS > 0 {
		row("", "rss", leak.Bytes)
	}
	for _, c := range memory.SampleClasses() {
		row("  ", string(c), leak.Bytes)
	}
	for _, c := range memory.KernelClasses() {
		row("", "kernel "+string(c), leak.Bytes)
	}
	if s.WorkingSet > 0 {
		row("", "working_set", leak.Bytes)
	}
	for _, c := range memory.Counts() {
		row("", string(c), number)
	}
	row("", "zombies", number)
	for _, name := range slices.Sorted(maps.Keys(s.Cohorts)) {
		fmt.Fprintf(tw, "  %s\t%d\t%s\t\t\n", plain(name), s.Cohorts[name], buffers(s.CohortBuffers[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Zombies)) {
		if s.Zombies[name] > 0 {
			fmt.Fprintf(tw, "  held: %s\t%d\t\t\t\n", plain(name), s.Zombies[name])
		}
	}
}

func number(v float64) string { return fmt.Sprintf("%.0f", v) }

// buffers is the socket buffers of a cohort, if there are any.
func buffers(n int64) string {
	if n == 0 {
		return ""
	}
	return leak.Bytes(float64(n)) + " buffered"
}

func signed(show func(float64) string, v float64) string {
	if v > 0 {
		return "+" + show(v)
	}
	return show(v)
}

// sparkline draws values from the least to the largest of them. One whose values
// differ by less than a hundredth is flat.
func sparkline(values []int64) string {
	if len(values) < 2 {
		return ""
	}
	n := min(curve, len(values))
	low, high := slices.Min(values), slices.Max(values)
	least := float64(max(high, -low)) / 100
	var b strings.Builder
	for i := range n {
		part := values[i*len(values)/n : (i+1)*len(values)/n]
		sum := 0.0
		for _, v := range part {
			sum += float64(v)
		}
		level := 0.0
		if span := float64(high - low); span > least {
			level = (sum/float64(len(part)) - float64(low)) / span
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[int(level*7.99)])
	}
	return b.String()
}

// sampleLine is a sample on one line, for a file.
func sampleLine(s memory.Sample) string {
	parts := []string{s.Time.Format(time.RFC3339)}
	add := func(name, value string) { parts = append(parts, name+"="+strings.ReplaceAll(value, " ", "")) }
	now := figures(s)
	show := func(name string, as func(float64) string) {
		if v, ok := now[name]; ok {
			add(name, as(float64(v)))
		}
	}
	if s.RSS > 0 {
		show("rss", leak.Bytes)
	}
	for _, c := range memory.SampleClasses() {
		show(string(c), leak.Bytes)
	}
	if v, ok := s.Kernel[memory.SocketBuffers]; ok {
		add(string(memory.SocketBuffers), leak.Bytes(float64(v)))
	}
	for _, c := range memory.Counts() {
		show(string(c), number)
	}
	show("zombies", number)
	return strings.Join(parts, " ")
}
