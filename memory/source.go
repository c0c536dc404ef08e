package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"
)

// Source reads the memory of a process from outside of it. Read, CollectGarbage
// and Close may be called concurrently; readings of one source wait for each
// other.
//
// Some sources can do more, which a type assertion finds out: Collector,
// Profiler, HeapSnapshotter.
type Source interface {
	// Read takes a sample now. An error says which source and what failed; the
	// next Read tries again, so a process that restarts is found again, except
	// by pid.
	Read(ctx context.Context) (Sample, error)
	Close() error
}

// Collector is a Source that can run a garbage collection, after which
// HeapUsed is what is in use.
type Collector interface {
	CollectGarbage(ctx context.Context) error
}

// CollectedReader is a Source that can read right after a collection, so that
// HeapUsed holds no garbage, not even that of the reading. Readings by other
// ways of the same process are joined.
type CollectedReader interface {
	ReadCollected(ctx context.Context) (Sample, error)
}

// Profiler is a Source that has Go profiles ("heap", "goroutine", "allocs",
// "goroutineleak"), in the format of package runtime/pprof.
type Profiler interface {
	// Profile writes a profile to w and returns its size. Profiles of more than
	// MaxProfile bytes are an error.
	Profile(ctx context.Context, name string, w io.Writer) (int64, error)
}

// HeapSnapshotter is a Source that can write snapshots of a V8 heap.
type HeapSnapshotter interface {
	// HeapSnapshot writes a snapshot to w as it arrives and returns its size.
	// The process stands still meanwhile, for about a second per 100 MB of heap.
	// More than limit bytes are an error; what was written then is cut off.
	HeapSnapshot(ctx context.Context, w io.Writer, limit int64) (int64, error)
}

// Count is something of a process that is counted rather than measured.
type Count string

const (
	// Connections is the clients that are connected: of Holdfast the stations,
	// of a process by pid the established TCP connections to ports on which it
	// listens.
	Connections Count = "connections"
	Files       Count = "files"      // open file descriptors
	SocketFiles Count = "sockets"    // of these, sockets
	Goroutines  Count = "goroutines" // Go only
	Threads     Count = "threads"    // of the operating system
	// Handles is libuv's active handles, of Node.js.
	Handles Count = "handles"
)

// Counts lists all counts in the order in which people read them.
func Counts() []Count {
	return []Count{Connections, Files, SocketFiles, Goroutines, Threads, Handles}
}

// Sample is a process at one moment. What its source does not know is absent
// from the maps, never zero.
type Sample struct {
	Time time.Time `json:"time"`
	// PID is 0 where it is not known. Together with Started it tells a restart.
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started,omitzero"`

	// RSS is the resident set in bytes, 0 if it is not known. If the source
	// divides it, Classes add up to it.
	RSS     int64           `json:"rss_bytes"`
	Classes map[Class]int64 `json:"classes"`
	// Kernel is memory outside of RSS: KernelClasses.
	Kernel map[Class]int64 `json:"kernel"`
	Counts map[Count]int64 `json:"counts"`
	// Cohorts divides Counts[Connections], by Cohort.String for Holdfast and
	// "port N" for a process by pid.
	Cohorts map[string]int64 `json:"cohorts,omitempty"`
	// CohortBuffers divides Kernel[SocketBuffers] in the same way, of Holdfast.
	CohortBuffers map[string]int64 `json:"cohort_socket_buffer_bytes,omitempty"`
	// Zombies counts what is left of connections that ended, by object and
	// cohort ("tls, " and Cohort.String), of Holdfast. All are there, also at 0.
	Zombies map[string]int64 `json:"zombies,omitempty"`
	// Detail has what is a part or a view of the classes and not one of them,
	// by the name that the source gives it: array_buffers, huge_pages, ….
	Detail map[string]int64 `json:"detail,omitempty"`

	// WorkingSet and Limit are the cgroup's, 0 if they are not known (or there
	// is no limit).
	WorkingSet int64 `json:"working_set_bytes,omitempty"`
	Limit      int64 `json:"limit_bytes,omitempty"`

	// managed is what a runtime counts as its own: the rest is OffHeap.
	managed int64
}

func newSample() Sample {
	return Sample{
		Time: time.Now(), Classes: make(map[Class]int64), Kernel: make(map[Class]int64),
		Counts: make(map[Count]int64), Detail: make(map[string]int64),
	}
}

// cohort notes the open connections of a cohort of Holdfast.
func (s *Sample) cohort(c Cohort, connections int, buffers int64) {
	if s.Cohorts == nil {
		s.Cohorts, s.CohortBuffers = make(map[string]int64), make(map[string]int64)
	}
	s.Cohorts[c.String()] += int64(connections)
	s.CohortBuffers[c.String()] += buffers
}

// zombies notes what is left of the connections of a cohort of Holdfast.
func (s *Sample) zombies(object string, c Cohort, n int64) {
	if s.Zombies == nil {
		s.Zombies = make(map[string]int64)
	}
	s.Zombies[object+", "+c.String()] += n
}

// Unaccounted is what the classes do not explain of RSS: 0 unless RSS is not
// known.
func (s *Sample) Unaccounted() int64 { return s.RSS - sum(s.Classes) }

// divide turns what the runtime does not know of the resident set into OffHeap,
// once both are known.
func (s *Sample) divide() {
	if s.managed == 0 || s.RSS == 0 {
		return
	}
	if _, done := s.Classes[OffHeap]; done {
		return
	}
	delete(s.Classes, Anonymous)
	s.Classes[OffHeap] = s.RSS - sum(s.Classes)
}

// join adds what another source says of the same process: what this one knows
// already stays.
func (s *Sample) join(o *Sample) {
	if s.RSS == 0 {
		s.RSS = o.RSS
	}
	if s.PID == 0 {
		s.PID, s.Started = o.PID, o.Started
	}
	if s.WorkingSet == 0 {
		s.WorkingSet, s.Limit = o.WorkingSet, o.Limit
	}
	if s.managed == 0 {
		s.managed = o.managed
	}
	if s.Cohorts == nil || o.Zombies != nil { // Holdfast's own say more than ports
		s.Cohorts, s.CohortBuffers, s.Zombies = o.Cohorts, o.CohortBuffers, o.Zombies
	}
	add(s.Classes, o.Classes)
	add(s.Kernel, o.Kernel)
	add(s.Counts, o.Counts)
	add(s.Detail, o.Detail)
}

func add[K comparable](to, from map[K]int64) {
	for k, v := range from {
		if _, ok := to[k]; !ok {
			to[k] = v
		}
	}
}

// Target names a process and the ways to read it. Several ways complete each
// other: the pid gives files, sockets and the division of RSS, the others what
// the runtime knows.
type Target struct {
	PID       int    // of this machine
	Metrics   string // URL of a Prometheus endpoint
	Pprof     string // URL of a Go program's net/http/pprof, …/debug/pprof/
	Inspector string // URL of a Node.js inspector: http://127.0.0.1:9229, or the ws:// URL that Node.js prints
	Holdfast  string // URL of the admin port of a Holdfast process
	Token     string // bearer token for Metrics, Pprof and Holdfast; empty: none is sent
}

// Open checks the target and returns its source. Nothing is contacted before
// the first Read, but a pid must exist.
func (t Target) Open() (Source, error) {
	var list sources
	if t.PID != 0 {
		p, err := OpenPID(t.PID)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	for _, way := range []struct {
		url  string
		open func(string) (Source, error)
	}{
		{t.Holdfast, func(u string) (Source, error) {
			h, err := OpenHoldfast(u)
			if err == nil {
				h.token = t.Token
			}
			return h, err
		}},
		{t.Inspector, func(u string) (Source, error) { return OpenInspector(u) }},
		{t.Metrics, func(u string) (Source, error) {
			m, err := OpenMetrics(u)
			if err == nil {
				m.token = t.Token
			}
			return m, err
		}},
		{t.Pprof, func(u string) (Source, error) {
			p, err := OpenPprof(u)
			if err == nil {
				p.token = t.Token
			}
			return p, err
		}},
	} {
		if way.url == "" {
			continue
		}
		s, err := way.open(way.url)
		if err != nil {
			return nil, errors.Join(err, list.Close())
		}
		list = append(list, s)
	}
	switch len(list) {
	case 0:
		return nil, errors.New("no process to read: give a pid or a URL")
	case 1:
		return list[0], nil
	}
	return list, nil
}

// sources are several ways to read one process.
type sources []Source

// Read joins the samples. A way that fails fails the reading: a sample whose
// classes change with the health of an endpoint would look like a leak.
func (list sources) Read(ctx context.Context) (Sample, error) {
	return list.read(ctx, Source.Read)
}

// ReadCollected collects with the first way that can, if there is one.
func (list sources) ReadCollected(ctx context.Context) (Sample, error) {
	done := false
	return list.read(ctx, func(s Source, ctx context.Context) (Sample, error) {
		if done {
			return s.Read(ctx)
		}
		if c, ok := s.(CollectedReader); ok {
			done = true
			return c.ReadCollected(ctx)
		}
		if c, ok := s.(Collector); ok {
			done = true
			if err := c.CollectGarbage(ctx); err != nil {
				return Sample{}, err
			}
		}
		return s.Read(ctx)
	})
}

func (list sources) read(ctx context.Context, read func(Source, context.Context) (Sample, error)) (Sample, error) {
	all := newSample()
	for _, s := range list {
		o, err := read(s, ctx)
		if err != nil {
			return Sample{}, err
		}
		// A remainder that a way computed by itself is not the joint one's.
		if o.managed != 0 {
			o.Classes = maps.Clone(o.Classes)
			delete(o.Classes, OffHeap)
		}
		all.join(&o)
	}
	all.divide()
	return all, nil
}

func (list sources) CollectGarbage(ctx context.Context) error {
	for _, s := range list {
		if c, ok := s.(Collector); ok {
			return c.CollectGarbage(ctx)
		}
	}
	return errors.New("no way to run a garbage collection: it needs an inspector, pprof or Holdfast's admin port")
}

func (list sources) Profile(ctx context.Context, name string, w io.Writer) (int64, error) {
	for _, s := range list {
		if p, ok := s.(Profiler); ok {
			return p.Profile(ctx, name, w)
		}
	}
	return 0, fmt.Errorf("no way to read the profile %s: it needs pprof or Holdfast's admin port", name)
}

func (list sources) HeapSnapshot(ctx context.Context, w io.Writer, limit int64) (int64, error) {
	for _, s := range list {
		if h, ok := s.(HeapSnapshotter); ok {
			return h.HeapSnapshot(ctx, w, limit)
		}
	}
	return 0, errors.New("no way to take a heap snapshot: it needs an inspector")
}

func (list sources) Close() error {
	var err error
	for _, s := range list {
		err = errors.Join(err, s.Close())
	}
	return err
}
