package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tableConfig is the experiment of bench table.
type tableConfig struct {
	Stations   int           `json:"stations"`
	Heartbeats int           `json:"heartbeats"`
	Waves      int           `json:"waves"`
	Rest       time.Duration `json:"rest_ns"`
	Doc        string        `json:"-"`
}

// tablePart is the outcome: bytes per idle connection of a gateway process.
type tablePart struct {
	Config tableConfig  `json:"config"`
	Rows   []variantRow `json:"variants"`
	Parts  []partsRow   `json:"parts"`
}

// variantRow is a gateway process that held nothing else.
type variantRow struct {
	Variant string `json:"variant"`
	Heap    int64  `json:"heap_bytes"` // per connection, live
	Stacks  int64  `json:"stack_bytes"`
	RSS     int64  `json:"rss_bytes"` // at rest, before a collection was forced
}

// partsRow is the live heap by part.
type partsRow struct {
	Variant string           `json:"variant"`
	Bytes   map[string]int64 `json:"bytes"` // per connection
}

// variant is one way to connect, and what happens before the reading.
type variant struct {
	name    string
	profile int
	dial    dialRequest
	waves   bool
	beats   bool
	message bool
}

var variants = []variant{
	{name: "profile 1, plain", profile: 1, dial: dialRequest{Plain: true}},
	{name: "profile 2, TLS 1.3", profile: 2},
	{name: "profile 2, TLS 1.2", profile: 2, dial: dialRequest{TLS12: true}},
	{name: "profile 3, TLS 1.3, leaf only", profile: 3, dial: dialRequest{LeafOnly: true}},
	{name: "profile 3, TLS 1.3, leaf and intermediate", profile: 3},
	{name: "profile 3, TLS 1.2, leaf and intermediate", profile: 3, dial: dialRequest{TLS12: true}},
	{name: "profile 3, TLS 1.3, resumed", profile: 3, dial: dialRequest{Resume: true}},
	{name: "profile 3, TLS 1.2, resumed", profile: 3, dial: dialRequest{Resume: true, TLS12: true}},
	{name: "profile 3, TLS 1.3, after a 16 KB message", profile: 3, message: true},
	{name: "profile 3, TLS 1.2, after a 16 KB message", profile: 3, dial: dialRequest{TLS12: true}, message: true},
	{name: "profile 3, TLS 1.3, OCPP 2.0.1, after a 16 KB message", profile: 3, dial: dialRequest{V201: true}, message: true},
	{name: "the same with permessage-deflate", profile: 3, dial: dialRequest{V201: true, Deflate: true}, message: true},
	{name: "profile 3, TLS 1.3, after {waves} reconnects", profile: 3, waves: true},
	{name: "profile 3, TLS 1.3, after {heartbeats} heartbeats", profile: 3, beats: true},
}

// split are the variants whose heap is shown by part.
var split = []int{0, 1, 4, 5, 6}

const largeMessage = 16 << 10

// cell is one variant under measurement: a gateway process of its own with
// stations of its own, so that all can rest at the same time.
type cell struct {
	variant
	title   string
	exact   bool // by part, instead of the resident set
	gateway *process
	client  *process
	admin   string

	resident int64
	classes  map[string]int64
	parts    map[string]int64
}

func runTable(o *options, dir string, note func(string)) (part *tablePart, err error) {
	cfg := o.table
	part = &tablePart{Config: cfg}
	if _, err := newPKI(dir); err != nil {
		return nil, err
	}
	h, err := startHoldfast(holdfastConfig{bin: o.holdfast, data: filepath.Join(dir, "table"), apart: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	var cells []*cell
	defer func() {
		for _, c := range cells {
			err = errors.Join(err, c.client.stop(), c.gateway.stop())
		}
	}()
	start := func(v variant, exact bool) error {
		c := &cell{variant: v, title: v.title(cfg), exact: exact}
		note("start " + c.title)
		if err := c.start(h, dir, len(cells), cfg); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
		cells = append(cells, c)
		return nil
	}
	for _, v := range variants {
		if err := start(v, false); err != nil {
			return nil, err
		}
	}
	for _, i := range split {
		if err := start(variants[i], true); err != nil {
			return nil, err
		}
	}
	for _, step := range []struct {
		what string
		do   func(*cell) error
	}{
		{"read", func(c *cell) error { return c.read(-1) }},
		{"connect", func(c *cell) error { return c.connect(cfg) }},
		{"read", func(c *cell) error { return c.read(1) }},
	} {
		if step.what == "read" {
			note(fmt.Sprintf("all rest for %v", cfg.Rest))
			time.Sleep(cfg.Rest)
		}
		for _, c := range cells {
			note(step.what + ": " + c.title)
			if err := step.do(c); err != nil {
				return nil, fmt.Errorf("%s: %w", c.title, err)
			}
		}
	}
	n := int64(cfg.Stations)
	for _, c := range cells {
		if c.exact {
			for name := range c.parts {
				c.parts[name] /= n
			}
			part.Parts = append(part.Parts, partsRow{Variant: c.title, Bytes: c.parts})
			continue
		}
		part.Rows = append(part.Rows, variantRow{Variant: c.title, RSS: c.resident / n, Heap: c.classes["heap_live"] / n, Stacks: c.classes["stacks"] / n})
	}
	return part, nil
}

// title fills the counts in.
func (v *variant) title(cfg tableConfig) string {
	return strings.NewReplacer("{waves}", strconv.Itoa(cfg.Waves), "{heartbeats}", strconv.Itoa(cfg.Heartbeats)).Replace(v.name)
}

// start starts the cell's gateway and client, and warms both up.
func (c *cell) start(h *holdfast, dir string, number int, cfg tableConfig) error {
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	list, err := h.register(cfg.Stations, c.profile, fmt.Sprintf("TABLE%02d", number))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, fmt.Sprintf("stations-%d", number))
	if err := writeCredentials(file, list); err != nil {
		return err
	}
	args := []string{"--drain-time", "10ms", "--server-cert", filepath.Join(dir, serverFile), "--server-key", filepath.Join(dir, serverKey),
		"--profiles", strconv.Itoa(c.profile), []string{"", "--listen-plain", "--listen-tls", "--listen-mtls"}[c.profile], ports[1]}
	var env []string
	if c.exact {
		env = []string{exactHeap}
	}
	c.admin = ports[0]
	if c.gateway, err = h.startGateway(fmt.Sprintf("table%d", number), c.admin, env, args...); err != nil {
		return err
	}
	if c.client, err = startClient(c.title, ports[1], "/ocpp", file, filepath.Join(dir, caFile)); err != nil {
		return errors.Join(err, c.gateway.stop())
	}
	var d done
	for _, q := range []request{{Dial: &c.dial}, {Connect: &connectRequest{Stations: min(warmUp, cfg.Stations), AtOnce: 16}}, {Leave: true}} {
		if err := c.client.ask(q, &d); err != nil {
			return errors.Join(err, c.client.stop(), c.gateway.stop())
		}
	}
	return nil
}

// connect opens all connections and does what the variant wants done with them.
func (c *cell) connect(cfg tableConfig) error {
	waves := 1
	if c.dial.Resume {
		waves = 2 // the first one gets the tickets
	}
	if c.waves {
		waves = cfg.Waves + 1
	}
	var d done
	for i := range waves {
		if i > 0 {
			if err := c.client.ask(request{Leave: true}, &d); err != nil {
				return err
			}
		}
		if err := c.client.ask(request{Connect: &connectRequest{Stations: cfg.Stations, AtOnce: 16}}, &d); err != nil {
			return err
		}
		if d.Count != cfg.Stations {
			return fmt.Errorf("%d of %d stations connected; %s", d.Count, cfg.Stations, d.FirstFail)
		}
	}
	q := messagesRequest{AtOnce: 16}
	if c.beats {
		q.Heartbeats = cfg.Heartbeats
	}
	if c.message {
		q.Size = largeMessage
	}
	if q.Heartbeats+q.Size == 0 {
		return nil
	}
	if err := c.client.ask(request{Messages: &q}, &d); err != nil {
		return err
	}
	if d.Count != cfg.Stations {
		return fmt.Errorf("%d of %d stations were answered; %s", d.Count, cfg.Stations, d.FirstFail)
	}
	return nil
}

// read adds what the gateway holds now, or takes it off: its resident set, and
// then the classes without garbage.
func (c *cell) read(sign int64) error {
	resident, err := rss(c.gateway.pid)
	if err != nil {
		return err
	}
	c.resident += sign * resident
	for range 2 { // what pools hold survives one collection
		if err := collect(c.admin); err != nil {
			return err
		}
	}
	var sizes map[string]int64
	into := &c.classes
	if c.exact {
		sizes, err = heapByPart(c.admin)
		into = &c.parts
	} else {
		sizes, err = (&holdfast{admin: c.admin}).account()
	}
	if *into == nil {
		*into = make(map[string]int64)
	}
	for name, size := range sizes {
		(*into)[name] += sign * size
	}
	return err
}

// print writes the tables in Markdown.
func (t *tablePart) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d stations of each variant on a `holdfast gateway` process of its own; bytes per idle connection. Heap and stacks are what\n"+
		"a collection leaves; the resident set is read after %v of rest, before it.\n\n", t.Config.Stations, t.Config.Rest)
	fmt.Fprintln(w, "| variant | live heap | stacks | resident set |\n|---|--:|--:|--:|")
	for _, r := range t.Rows {
		fmt.Fprintf(w, "| %s | %d | %d | %d |\n", r.Variant, r.Heap, r.Stacks, r.RSS)
	}
	fmt.Fprint(w, "\nLive heap by part, every allocation recorded:\n\n| part |")
	for _, r := range t.Parts {
		fmt.Fprintf(w, " %s |", r.Variant)
	}
	fmt.Fprint(w, "\n|---|")
	for range t.Parts {
		fmt.Fprint(w, "--:|")
	}
	fmt.Fprintln(w)
	names := make([]string, 0, len(parts)+1)
	for _, p := range parts {
		names = append(names, p.name)
	}
	totals := make([]int64, len(t.Parts))
	for _, name := range append(names, otherPart) {
		fmt.Fprintf(w, "| %s |", name)
		for i, r := range t.Parts {
			fmt.Fprintf(w, " %d |", r.Bytes[name])
			totals[i] += r.Bytes[name]
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "| **together** |")
	for _, n := range totals {
		fmt.Fprintf(w, " **%d** |", n)
	}
	fmt.Fprintln(w)
}

// Markers of the part of a document that bench table writes.
const (
	markBegin = "<!-- bench table: begin -->\n"
	markEnd   = "<!-- bench table: end -->"
)

// rewrite puts the tables between the markers of a document.
func (f *figures) rewrite(doc string) error {
	text, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(text, []byte(markBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(markEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %q and %q", doc, markBegin, markEnd)
	}
	var out bytes.Buffer
	out.Write(head)
	out.WriteString(markBegin)
	fmt.Fprintf(&out, "%s, %s, %d CPUs, load average %s before.\n", f.Time.Format(time.DateOnly), f.Go, f.CPUs, f.Load)
	f.Table.print(&out)
	out.WriteString(markEnd)
	out.Write(tail)
	return os.WriteFile(doc, out.Bytes(), 0o644)
}
