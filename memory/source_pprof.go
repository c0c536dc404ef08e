package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// Pprof is a Go process read by its net/http/pprof: the totals of the heap
// profile's text form, goroutines and threads. It does not know the resident
// set; a pid or a metrics endpoint beside it does.
type Pprof struct{ endpoint }

// OpenPprof takes the URL of the profiles, …/debug/pprof/, or of a page below
// it; without a path it is /debug/pprof/.
func OpenPprof(address string) (*Pprof, error) {
	e, err := newEndpoint("pprof", address)
	if err != nil {
		return nil, err
	}
	const root = "/debug/pprof/"
	path, _, below := strings.Cut(e.base.Path, root)
	switch {
	case below:
		e.base.Path = path + root
	case strings.HasSuffix(path, strings.TrimSuffix(root, "/")):
		e.base.Path = path + "/"
	case path == "" || path == "/":
		e.base.Path = root
	default:
		e.base.Path = strings.TrimSuffix(path, "/") + "/"
	}
	e.base.RawQuery = ""
	return &Pprof{e}, nil
}

func (p *Pprof) page(name, query string) *url.URL {
	u := p.base.JoinPath(name)
	u.RawQuery = query
	return u
}

// Read costs the process one heap profile as text, about a millisecond, which
// stops the world for some tens of microseconds.
func (p *Pprof) Read(ctx context.Context) (Sample, error) { return p.read(ctx, "debug=1") }

// ReadCollected is Read with a collection before: net/http/pprof takes the
// numbers right after it, before the answer itself makes garbage.
func (p *Pprof) ReadCollected(ctx context.Context) (Sample, error) {
	return p.read(ctx, "gc=1&debug=1")
}

func (p *Pprof) read(ctx context.Context, query string) (Sample, error) {
	s := newSample()
	text, err := p.text(ctx, p.page("heap", query))
	if err != nil {
		return s, fmt.Errorf("pprof: %w", err)
	}
	h, err := parseMemStats(text)
	if err != nil {
		return s, fmt.Errorf("pprof: %s: %w", p.page("heap", "debug=1").Redacted(), err)
	}
	h.divide(&s)
	for _, c := range []struct {
		name, profile string
		count         Count
	}{{"goroutine", "goroutine", Goroutines}, {"threadcreate", "threadcreate", Threads}} {
		text, err := p.text(ctx, p.page(c.name, "debug=1"))
		if err != nil {
			return s, fmt.Errorf("pprof: %w", err)
		}
		n, err := parseTotal(text, c.profile)
		if err != nil {
			return s, fmt.Errorf("pprof: %s: %w", p.page(c.name, "debug=1").Redacted(), err)
		}
		s.Counts[c.count] = n
	}
	return s, nil
}

// CollectGarbage runs a collection in the process.
func (p *Pprof) CollectGarbage(ctx context.Context) error {
	if _, err := p.get(ctx, p.page("heap", "gc=1"), io.Discard, MaxProfile); err != nil {
		return fmt.Errorf("pprof: %w", err)
	}
	return nil
}

// Profile writes a profile as net/http/pprof serves it, compressed protobuf.
func (p *Pprof) Profile(ctx context.Context, name string, w io.Writer) (int64, error) {
	n, err := p.get(ctx, p.page(name, ""), w, MaxProfile)
	if err != nil {
		return n, fmt.Errorf("pprof: %w", err)
	}
	return n, nil
}

// goHeap is what runtime.MemStats says, in bytes.
type goHeap struct {
	alloc    int64 // objects in use, and garbage
	live     int64 // of these, in use at the last collection; 0: not known
	inuse    int64 // spans that hold them
	idle     int64 // empty spans, released ones included
	released int64
	heap     int64 // all that the heap has reserved
	stacks   int64
	sys      int64 // all that Go has reserved
}

// divide gives s the classes of Go.
func (h goHeap) divide(s *Sample) {
	if h.live > 0 {
		live := min(h.live, h.alloc)
		s.Classes[HeapLive], s.Classes[HeapGarbage] = live, h.alloc-live
	} else {
		s.Classes[HeapUsed] = h.alloc
	}
	s.Classes[HeapUnused] = max(0, h.inuse-h.alloc)
	s.Classes[HeapFree] = max(0, h.idle-h.released)
	s.Classes[Stacks] = h.stacks
	s.Classes[Metadata] = max(0, h.sys-h.heap-h.stacks)
	s.managed = h.sys - h.released
}

// parseMemStats reads the "# Name = value" lines at the end of a heap profile
// in text form.
func parseMemStats(text string) (goHeap, error) {
	var h goHeap
	var stack string
	fields := map[string]*int64{
		"HeapAlloc": &h.alloc, "HeapInuse": &h.inuse, "HeapIdle": &h.idle, "HeapReleased": &h.released, "HeapSys": &h.heap, "Sys": &h.sys,
	}
	seen := 0
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), " = ")
		if !ok || !strings.HasPrefix(line, "# ") {
			continue
		}
		if name == "Stack" {
			stack = value
		}
		v := fields[name]
		if v == nil {
			continue
		}
		n, err := parseCount(value)
		if err != nil {
			return goHeap{}, fmt.Errorf("field %s: %w", name, err)
		}
		*v = n
		seen++
	}
	_, sys, ok := strings.Cut(stack, " / ")
	if seen < len(fields) || !ok {
		return goHeap{}, errors.New("not a heap profile in text form: runtime.MemStats is missing")
	}
	n, err := parseCount(sys)
	if err != nil {
		return goHeap{}, fmt.Errorf("field Stack: %w", err)
	}
	h.stacks = n
	return h, nil
}

// parseTotal reads the first line of a profile in text form.
func parseTotal(text, profile string) (int64, error) {
	line, _, _ := strings.Cut(text, "\n")
	value, ok := strings.CutPrefix(line, profile+" profile: total ")
	if !ok {
		return 0, fmt.Errorf("not a %s profile in text form", profile)
	}
	return parseCount(strings.TrimSpace(value))
}
