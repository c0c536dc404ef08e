package leak

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// stages are the moments of growth at which profiles are taken, as multiples
	// of what had leaked at the verdict.
	stages = 3
	// comparable connections: within this share of those at the verdict.
	sameConnections = 0.02
	// sameTime is how long the next stage waits for a comparable number.
	sameTime = 24 * time.Hour

	// maxBundles of profiles are kept; the oldest leave.
	maxBundles = 30
	// maxEvidenceDisk and maxEvidenceMemory bound what is kept, in bytes.
	maxEvidenceDisk   = 256 << 20
	maxEvidenceMemory = 8 << 20
	// traceBytes bounds the flight recorder's trace.
	traceBytes = 1 << 20
)

var stageGrowth = [stages]float64{1, 1.25, 1.5}

// EvidenceConfig says where evidence is kept.
type EvidenceConfig struct {
	// Dir keeps bundles over a restart, at most 256 MB. Empty: in memory, at most
	// 8 MB, for processes without a disk.
	Dir string
	// TraceTime is how long the flight recorder runs at a verdict. Zero means 2
	// seconds, negative no trace: it is the dearest part.
	TraceTime time.Duration
}

// Evidence takes profiles of this process at a verdict and when what leaks has
// grown by a quarter and by half, at comparable numbers of connections, and says
// which stacks grew both times. All methods may be called concurrently.
type Evidence struct {
	cfg EvidenceConfig

	mu      sync.Mutex
	bundles []bundle // oldest first
	cases   map[string]*evidenceCase
}

// bundle is what was taken at one moment.
type bundle struct {
	name  string // verdict and stage
	size  int64
	files map[string][]byte // nil if they are in a directory
}

// evidenceCase is one verdict. Bounded by maxBundles.
type evidenceCase struct {
	verdict Verdict
	first   float64 // what had leaked at the verdict
	next    int     // stage
	due     time.Time
	taken   [stages]Moment
}

// Moment is when and at which load a bundle was taken.
type Moment struct {
	Verdict     string    `json:"verdict"`
	Class       Class     `json:"class"`
	Stage       int       `json:"stage"`
	Time        time.Time `json:"time"`
	Kept        float64   `json:"kept"`
	Connections int       `json:"connections"`
	Opened      Opened    `json:"opened"`
}

// BundleInfo is one bundle of a list.
type BundleInfo struct {
	Name  string   `json:"name"`
	Files []string `json:"files"`
	Size  int64    `json:"size_bytes"`
}

// Verdict is the verdict that a bundle belongs to, and its stage; empty if its
// name is none of a bundle.
func (b BundleInfo) Verdict() (id string, stage int) {
	if !bundleName.MatchString(b.Name) {
		return "", 0
	}
	return b.Name[:len(b.Name)-2], int(b.Name[len(b.Name)-1] - '0')
}

// StageName is a stage for people.
func StageName(stage int) string {
	if stage <= 0 || stage >= stages {
		return "at the verdict"
	}
	return fmt.Sprintf("grown by %.0f %%", 100*(stageGrowth[stage]-1))
}

// Findings are what grew between the bundles of a verdict.
type Findings struct {
	Verdict    string     `json:"verdict"`
	Moments    []Moment   `json:"moments"`
	Heap       Difference `json:"heap"`
	Goroutines Difference `json:"goroutines"`
}

// bundleName is what Bundle and File accept: a verdict's ID and a stage.
var bundleName = regexp.MustCompile(`^[0-9a-f]{24}-[0-9]$`)

// OpenEvidence prepares the directory and finds the bundles of earlier runs.
func OpenEvidence(cfg EvidenceConfig) (*Evidence, error) {
	if cfg.TraceTime == 0 {
		cfg.TraceTime = 2 * time.Second
	}
	e := &Evidence{cfg: cfg, cases: make(map[string]*evidenceCase)}
	if cfg.Dir == "" {
		return e, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for evidence of leaks: %w (choose another with --evidence)", err)
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory for evidence of leaks: %w", err)
	}
	type old struct {
		bundle
		at time.Time
	}
	var list []old
	for _, entry := range entries {
		if !bundleName.MatchString(entry.Name()) {
			continue
		}
		b := old{bundle: bundle{name: entry.Name()}}
		if info, err := entry.Info(); err == nil {
			b.at = info.ModTime()
		}
		files, _ := os.ReadDir(filepath.Join(cfg.Dir, entry.Name()))
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				b.size += info.Size()
			}
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b old) int { return a.at.Compare(b.at) })
	for _, b := range list {
		e.bundles = append(e.bundles, b.bundle)
	}
	return e, e.trim()
}

// Look is told what the detector says after each sample, and takes a bundle when
// one is due. It returns the findings of a verdict whose last bundle was taken.
// It may take some seconds.
func (e *Evidence) Look(ctx context.Context, s Sample, standing []Verdict) (*Findings, error) {
	e.mu.Lock()
	var due *evidenceCase
	seen := make(map[string]bool)
	for _, v := range standing {
		seen[v.ID] = true
		c := e.cases[v.ID]
		if c == nil {
			if len(e.cases) >= maxBundles {
				continue
			}
			c = &evidenceCase{first: v.Kept}
			e.cases[v.ID] = c
		}
		c.verdict = v
		if c.next == stages || v.Kept < stageGrowth[c.next]*c.first {
			continue
		}
		if c.due.IsZero() {
			c.due = s.Time.Add(sameTime)
		}
		if due == nil && (c.next == 0 || sameLoad(s.Connections, c.taken[0].Connections) || s.Time.After(c.due)) {
			due = c
		}
	}
	for id := range e.cases {
		if !seen[id] {
			delete(e.cases, id)
		}
	}
	e.mu.Unlock()
	if due == nil {
		return nil, nil
	}
	// Only Look writes cases, and one sample follows another.
	m := Moment{Verdict: due.verdict.ID, Class: due.verdict.Class, Stage: due.next, Time: s.Time, Kept: due.verdict.Kept,
		Connections: s.Connections, Opened: s.Opened}
	files := e.capture(ctx, m)
	err := e.keep(fmt.Sprintf("%s-%d", m.Verdict, m.Stage), files)
	e.mu.Lock()
	due.taken[due.next] = m
	due.next++
	due.due = time.Time{}
	done := due.next == stages
	e.mu.Unlock()
	if err != nil || !done {
		return nil, err
	}
	f, err := e.Findings(m.Verdict)
	if err != nil {
		return nil, err
	}
	return &f, nil
}

func sameLoad(n, first int) bool {
	d := max(n-first, first-n)
	return d <= 2 || float64(d) <= sameConnections*float64(first)
}

// capture takes everything that this process can say of itself.
func (e *Evidence) capture(ctx context.Context, m Moment) map[string][]byte {
	files := make(map[string][]byte)
	put := func(name string, write func(io.Writer) error) {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			files[name+".error"] = []byte(err.Error() + "\n")
			return
		}
		files[name] = b.Bytes()
	}
	runtime.GC() // the heap profile is of the last collection
	for _, name := range []string{"heap", "goroutine", "goroutineleak"} {
		if p := pprof.Lookup(name); p != nil {
			put(name+".pb.gz", func(w io.Writer) error { return p.WriteTo(w, 0) })
		}
	}
	if rollup, err := os.ReadFile("/proc/self/smaps_rollup"); err == nil {
		files["smaps_rollup.txt"] = rollup
	}
	if e.cfg.TraceTime > 0 {
		put("trace.out", func(w io.Writer) error { return record(ctx, e.cfg.TraceTime, w) })
	}
	put("moment.json", func(w io.Writer) error { return json.NewEncoder(w).Encode(m) })
	return files
}

// record runs the flight recorder for a while.
func record(ctx context.Context, d time.Duration, w io.Writer) error {
	r := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: d, MaxBytes: traceBytes})
	if err := r.Start(); err != nil { // another one runs, or an operator traces
		return err
	}
	defer r.Stop()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	_, err := r.WriteTo(w)
	return err
}

// keep stores a bundle and lets the oldest ones go.
func (e *Evidence) keep(name string, files map[string][]byte) error {
	b := bundle{name: name, files: files}
	for _, data := range files {
		b.size += int64(len(data))
	}
	if e.cfg.Dir != "" {
		dir := filepath.Join(e.cfg.Dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("evidence of a leak: %w", err)
		}
		for file, data := range files {
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
				return errors.Join(fmt.Errorf("evidence of a leak: %w", err), os.RemoveAll(dir))
			}
		}
		b.files = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bundles = append(slices.DeleteFunc(e.bundles, func(o bundle) bool { return o.name == name }), b)
	return e.trim()
}

// trim keeps to the limits, with e.mu held or before e is shared.
func (e *Evidence) trim() error {
	limit := int64(maxEvidenceMemory)
	if e.cfg.Dir != "" {
		limit = maxEvidenceDisk
	}
	total := int64(0)
	for _, b := range e.bundles {
		total += b.size
	}
	var err error
	for len(e.bundles) > maxBundles || total > limit && len(e.bundles) > 0 {
		total -= e.bundles[0].size
		if e.cfg.Dir != "" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(e.cfg.Dir, e.bundles[0].name)))
		}
		e.bundles = e.bundles[1:]
	}
	return err
}

// List lists the bundles, oldest first.
func (e *Evidence) List() []BundleInfo {
	e.mu.Lock()
	bundles := slices.Clone(e.bundles)
	e.mu.Unlock()
	list := []BundleInfo{}
	for _, b := range bundles {
		info := BundleInfo{Name: b.name, Size: b.size, Files: []string{}}
		for name := range b.files {
			info.Files = append(info.Files, name)
		}
		if e.cfg.Dir != "" {
			entries, _ := os.ReadDir(filepath.Join(e.cfg.Dir, b.name))
			for _, entry := range entries {
				info.Files = append(info.Files, entry.Name())
			}
		}
		slices.Sort(info.Files)
		list = append(list, info)
	}
	return list
}

// File returns a file of a bundle; fs.ErrNotExist if there is none.
func (e *Evidence) File(bundle, file string) ([]byte, error) {
	if !bundleName.MatchString(bundle) || file != filepath.Base(file) || strings.HasPrefix(file, ".") {
		return nil, fs.ErrNotExist
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.bundles {
		switch {
		case b.name != bundle:
		case e.cfg.Dir != "":
			return os.ReadFile(filepath.Join(e.cfg.Dir, bundle, file))
		case b.files[file] != nil:
			return b.files[file], nil
		}
	}
	return nil, fs.ErrNotExist
}

// Findings compares the bundles of a verdict that there are: at least two.
func (e *Evidence) Findings(verdict string) (Findings, error) {
	f := Findings{Verdict: verdict}
	var heap, goroutines []io.Reader
	for stage := range stages {
		name := fmt.Sprintf("%s-%d", verdict, stage)
		text, err := e.File(name, "moment.json")
		if err != nil {
			continue
		}
		var m Moment
		if err := json.Unmarshal(text, &m); err != nil {
			return f, fmt.Errorf("evidence %s: %w", name, err)
		}
		h, err := e.File(name, "heap.pb.gz")
		g, err2 := e.File(name, "goroutine.pb.gz")
		if err := cmp.Or(err, err2); err != nil {
			return f, fmt.Errorf("evidence %s: %w", name, err)
		}
		f.Moments = append(f.Moments, m)
		heap, goroutines = append(heap, bytes.NewReader(h)), append(goroutines, bytes.NewReader(g))
	}
	if len(f.Moments) < 2 {
		return f, fmt.Errorf("evidence of verdict %s: %d of the at least two moments that can be compared", verdict, len(f.Moments))
	}
	first, last := f.Moments[0], f.Moments[len(f.Moments)-1]
	cfg := DiffConfig{Connections: int64(last.Connections), Reconnects: last.Opened.sub(first.Opened).total()}
	var err error
	if f.Heap, err = Diff(cfg, heap...); err != nil {
		return f, err
	}
	f.Goroutines, err = Diff(cfg, goroutines...)
	return f, err
}
