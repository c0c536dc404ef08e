package memory

import "time"

// Point is an account at one moment in the shape of a history: sizes in bytes,
// or counts, of fixed number. What is not known is 0.
type Point struct {
	// Time is when it was read; of a point that stands for ten minutes, when
	// they began.
	Time time.Time `json:"time"`
	// Started tells the processes apart that wrote one history.
	Started time.Time `json:"process_started"`

	RSS int64 `json:"rss_bytes"`
	// RSSMax is the largest RSS of the time that the point stands for.
	RSSMax int64 `json:"rss_max_bytes"`

	HeapLive    int64 `json:"heap_live_bytes"`
	HeapGarbage int64 `json:"heap_garbage_bytes"`
	HeapUnused  int64 `json:"heap_unused_bytes"`
	HeapFree    int64 `json:"heap_free_bytes"`
	Stacks      int64 `json:"stacks_bytes"`
	Metadata    int64 `json:"metadata_bytes"`
	OffHeap     int64 `json:"off_heap_bytes"`
	File        int64 `json:"file_bytes"`
	Shared      int64 `json:"shared_bytes"`

	SocketBuffers  int64 `json:"socket_buffer_bytes"`
	SocketEstimate int64 `json:"socket_estimate_bytes"`
	PageTables     int64 `json:"page_table_bytes"`
	WorkingSet     int64 `json:"working_set_bytes"`
	Limit          int64 `json:"limit_bytes"`

	Plain      int64 `json:"connections_plain"` // security profile 1
	TLS        int64 `json:"connections_tls"`   // 2
	MTLS       int64 `json:"connections_mtls"`  // 3
	Goroutines int64 `json:"goroutines"`
	Threads    int64 `json:"threads"`
	Files      int64 `json:"files"`
	// Zombies is objects of connections that ended which something still holds.
	Zombies int64 `json:"zombies"`
}

// column is a figure of a Point and its name in a file.
type column struct {
	name string
	of   func(*Point) *int64
}

// columns lists the figures of a Point in the order of a file. A file with other
// columns is started anew.
func columns() []column {
	return []column{
		{"rss", func(p *Point) *int64 { return &p.RSS }},
		{"rss_max", func(p *Point) *int64 { return &p.RSSMax }},
		{"heap_live", func(p *Point) *int64 { return &p.HeapLive }},
		{"heap_garbage", func(p *Point) *int64 { return &p.HeapGarbage }},
		{"heap_unused", func(p *Point) *int64 { return &p.HeapUnused }},
		{"heap_free", func(p *Point) *int64 { return &p.HeapFree }},
		{"stacks", func(p *Point) *int64 { return &p.Stacks }},
		{"metadata", func(p *Point) *int64 { return &p.Metadata }},
		{"off_heap", func(p *Point) *int64 { return &p.OffHeap }},
		{"file", func(p *Point) *int64 { return &p.File }},
		{"shared", func(p *Point) *int64 { return &p.Shared }},
		{"socket_buffers", func(p *Point) *int64 { return &p.SocketBuffers }},
		{"sockets", func(p *Point) *int64 { return &p.SocketEstimate }},
		{"page_tables", func(p *Point) *int64 { return &p.PageTables }},
		{"working_set", func(p *Point) *int64 { return &p.WorkingSet }},
		{"limit", func(p *Point) *int64 { return &p.Limit }},
		{"plain", func(p *Point) *int64 { return &p.Plain }},
		{"tls", func(p *Point) *int64 { return &p.TLS }},
		{"mtls", func(p *Point) *int64 { return &p.MTLS }},
		{"goroutines", func(p *Point) *int64 { return &p.Goroutines }},
		{"threads", func(p *Point) *int64 { return &p.Threads }},
		{"files", func(p *Point) *int64 { return &p.Files }},
		{"zombies", func(p *Point) *int64 { return &p.Zombies }},
	}
}

// point is the account in the shape of a history.
func (r *Report) point(started time.Time) Point {
	p := Point{
		Time: r.Time.UTC().Truncate(time.Millisecond), Started: started.UTC().Truncate(time.Millisecond), RSS: r.RSS, RSSMax: r.RSS,
		HeapLive: r.Classes[HeapLive], HeapGarbage: r.Classes[HeapGarbage], HeapUnused: r.Classes[HeapUnused], HeapFree: r.Classes[HeapFree],
		Stacks: r.Classes[Stacks], Metadata: r.Classes[Metadata], OffHeap: r.Classes[OffHeap], File: r.Classes[File], Shared: r.Classes[Shared],
		SocketBuffers: r.Kernel.SocketBuffers, SocketEstimate: r.Kernel.SocketEstimate, PageTables: r.Kernel.PageTables,
		Plain: int64(r.Connections["1"]), TLS: int64(r.Connections["2"]), MTLS: int64(r.Connections["3"]),
		Goroutines: int64(r.Goroutines), Threads: int64(r.Threads), Files: int64(r.Files),
	}
	if r.Cgroup != nil {
		p.WorkingSet, p.Limit = r.Cgroup.WorkingSet, r.Cgroup.Limit
	}
	for _, c := range r.Census {
		p.Zombies += int64(c.Zombies)
	}
	return p
}

// mean is one point for several, of which there must be one: every figure is
// their mean, RSSMax their largest, Started the last one's.
func mean(points []Point) Point {
	m := points[len(points)-1]
	for _, c := range columns() {
		n := int64(0)
		for i := range points {
			n += *c.of(&points[i])
		}
		*c.of(&m) = n / int64(len(points))
	}
	m.RSSMax = 0
	for i := range points {
		m.RSSMax = max(m.RSSMax, points[i].RSSMax)
	}
	return m
}

// Values are the figures of the point by the names of classes and counts, with
// "kernel " before the kernel's classes; rss, working_set and zombies are there,
// too.
func (p Point) Values() map[string]int64 {
	values := make(map[string]int64)
	for _, c := range columns() {
		values[c.name] = *c.of(&p)
	}
	for _, c := range KernelClasses() {
		values["kernel "+string(c)] = values[string(c)]
		delete(values, string(c))
	}
	values[string(Connections)] = p.Plain + p.TLS + p.MTLS
	return values
}
