package leak

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

const (
	// maxProfile bounds a Go profile, in bytes after decompression.
	maxProfile = 256 << 20
	// maxFrames of a stack are kept, maxName bytes of a name.
	maxFrames = 64
	maxName   = 300
	// MaxRows is how many rows a Difference has at most.
	MaxRows = 200
)

// Difference says what grew between two or three profiles or heap snapshots of
// one process, in the order in which they were taken.
type Difference struct {
	Kind   string  `json:"kind"` // "heap", "goroutine", "v8", or the profile's sample type
	Unit   string  `json:"unit"` // bytes or count
	Totals []int64 `json:"totals"`
	Rows   []Grown `json:"rows"` // what grew most first
}

// Grown is one stack, or one kind of JavaScript objects.
type Grown struct {
	Name   string   `json:"name"`            // who allocated, or waits; the kind of objects
	Stack  []string `json:"stack,omitempty"` // innermost first
	Labels string   `json:"labels,omitempty"`
	Values []int64  `json:"values"` // in each profile
	// Growth is what it is ranked by: from the first to the last profile, or with
	// three, twice the smaller growth of the two intervals: what grew only once
	// ranks last.
	Growth int64 `json:"growth"`
	// Kept, of V8 snapshots: bytes of objects that came between the first two and
	// are still there in the third.
	Kept int64 `json:"kept,omitempty"`
	// PerConnection and PerReconnect are Growth divided; 0 if nobody told by what.
	PerConnection float64 `json:"per_connection,omitempty"`
	PerReconnect  float64 `json:"per_reconnect,omitempty"`
}

// DiffConfig is by what growth is divided.
type DiffConfig struct {
	Connections int64 // that were open
	Reconnects  int64 // that were opened between the first and the last profile
}

var errProfiles = errors.New("give two or three profiles or heap snapshots of one process, in the order in which they were taken")

// Diff compares Go profiles (heap, goroutine, any other; gzipped or not) or V8
// heap snapshots of any program: two or three readers of the same kind. Input is
// not trusted: it is bounded in size and count.
func Diff(cfg DiffConfig, inputs ...io.Reader) (Difference, error) {
	if len(inputs) < 2 || len(inputs) > 3 {
		return Difference{}, errProfiles
	}
	readers := make([]*bufio.Reader, len(inputs))
	v8 := 0
	for i, in := range inputs {
		readers[i] = bufio.NewReaderSize(in, 64<<10)
		head, err := readers[i].Peek(1)
		if err != nil {
			return Difference{}, fmt.Errorf("profile %d: %w", i+1, err)
		}
		if head[0] == '{' {
			v8++
		}
	}
	var d Difference
	var err error
	switch v8 {
	case 0:
		d, err = diffProfiles(readers)
	case len(inputs):
		d, err = diffSnapshots(readers)
	default:
		return d, errors.New("some are Go profiles and some are V8 heap snapshots: compare like with like")
	}
	if err != nil {
		return d, err
	}
	d.rank()
	for i := range d.Rows {
		if cfg.Connections > 0 {
			d.Rows[i].PerConnection = float64(d.Rows[i].Growth) / float64(cfg.Connections)
		}
		if cfg.Reconnects > 0 {
			d.Rows[i].PerReconnect = float64(d.Rows[i].Growth) / float64(cfg.Reconnects)
		}
	}
	return d, nil
}

// rank computes the growth of all rows and keeps those that grew most.
func (d *Difference) rank() {
	for i := range d.Rows {
		r := &d.Rows[i]
		last := len(r.Values) - 1
		if last == 2 {
			r.Growth = 2 * min(r.Values[1]-r.Values[0], r.Values[2]-r.Values[1])
		} else {
			r.Growth = r.Values[last] - r.Values[0]
		}
	}
	d.Rows = slices.DeleteFunc(d.Rows, func(r Grown) bool { return r.Growth <= 0 })
	slices.SortFunc(d.Rows, func(a, b Grown) int {
		return cmp.Or(cmp.Compare(b.Growth, a.Growth), cmp.Compare(a.Name, b.Name), slices.Compare(a.Stack, b.Stack))
	})
	d.Rows = d.Rows[:min(len(d.Rows), MaxRows)]
}

// readProfile parses a Go profile within the bounds.
func readProfile(r *bufio.Reader) (*profile.Profile, error) {
	var in io.Reader = r
	if head, err := r.Peek(2); err == nil && head[0] == 0x1f && head[1] == 0x8b {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		in = z
	}
	data, err := io.ReadAll(io.LimitReader(in, maxProfile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxProfile {
		return nil, fmt.Errorf("larger than %d MB", maxProfile>>20)
	}
	if text := bytes.TrimSpace(data[:min(len(data), 64)]); bytes.HasPrefix(text, []byte("heap profile:")) || bytes.HasPrefix(text, []byte("goroutine ")) {
		return nil, errors.New("a profile as text (debug=1); take it without debug")
	}
	p, err := profile.ParseUncompressed(data)
	if err != nil {
		return nil, fmt.Errorf("neither a profile of a Go program nor a V8 heap snapshot: %w", err)
	}
	if err := p.CheckValid(); err != nil {
		return nil, err
	}
	return p, nil
}

// sampleIndex chooses what is compared: bytes in use of a heap profile, the
// number of goroutines; otherwise the profile's default, or its last type.
func sampleIndex(p *profile.Profile) (int, error) {
	if len(p.SampleType) == 0 {
		return 0, errors.New("profile without sample types")
	}
	for i, t := range p.SampleType {
		if t.Type == "inuse_space" || t.Type == "goroutine" {
			return i, nil
		}
	}
	for i, t := range p.SampleType {
		if t.Type == p.DefaultSampleType {
			return i, nil
		}
	}
	return len(p.SampleType) - 1, nil
}

func diffProfiles(readers []*bufio.Reader) (Difference, error) {
	d := Difference{Totals: make([]int64, len(readers))}
	rows := make(map[string]*Grown)
	for i, r := range readers {
		p, err := readProfile(r)
		if err != nil {
			return d, fmt.Errorf("profile %d: %w", i+1, err)
		}
		at, err := sampleIndex(p)
		if err != nil {
			return d, fmt.Errorf("profile %d: %w", i+1, err)
		}
		kind, unit := p.SampleType[at].Type, p.SampleType[at].Unit
		if kind == "inuse_space" {
			kind = "heap"
		}
		if i > 0 && kind != d.Kind {
			return d, fmt.Errorf("profile 1 counts %s, profile %d counts %s: compare like with like", d.Kind, i+1, kind)
		}
		d.Kind, d.Unit = kind, unit
		for _, s := range p.Sample {
			stack := stackOf(s)
			labels := labelsOf(s)
			key := strings.Join(stack, "\n") + "\x00" + labels
			g := rows[key]
			if g == nil {
				g = &Grown{Name: nameOf(stack), Stack: stack, Labels: labels, Values: make([]int64, len(readers))}
				rows[key] = g
			}
			g.Values[i] += s.Value[at]
			d.Totals[i] += s.Value[at]
		}
	}
	for _, g := range rows {
		d.Rows = append(d.Rows, *g)
	}
	return d, nil
}

// stackOf are the frames of a sample, innermost first, with their lines.
func stackOf(s *profile.Sample) []string {
	var stack []string
	for _, l := range s.Location {
		if len(l.Line) == 0 {
			stack = append(stack, fmt.Sprintf("%#x", l.Address))
		}
		for _, line := range l.Line {
			if line.Function != nil {
				stack = append(stack, cut(fmt.Sprintf("%s %s:%d", line.Function.Name, base(line.Function.Filename), line.Line)))
			}
		}
		if len(stack) >= maxFrames {
			return stack[:maxFrames]
		}
	}
	return stack
}

// labelsOf are the labels of a goroutine as text, in order.
func labelsOf(s *profile.Sample) string {
	var list []string
	for k, v := range s.Label {
		list = append(list, k+"="+strings.Join(v, ","))
	}
	slices.Sort(list)
	return cut(strings.Join(list, " "))
}

// plumbing are packages whose functions allocate or wait for others.
var plumbing = []string{"runtime.", "runtime/", "sync.", "internal/", "bytes.", "strings.", "slices.", "maps.", "bufio.", "io.", "net.", "crypto/", "encoding/", "time.", "context.", "reflect.", "syscall."}

// nameOf is the innermost frame that is not the standard library's plumbing.
func nameOf(stack []string) string {
	for _, f := range stack {
		if !slices.ContainsFunc(plumbing, func(p string) bool { return strings.HasPrefix(f, p) }) {
			return f
		}
	}
	if len(stack) > 0 {
		return stack[0]
	}
	return "(no stack)"
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func cut(s string) string {
	if len(s) > maxName {
		return strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return s
}
