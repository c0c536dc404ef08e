package memory

import (
	"context"
	"encoding/json"
	"fmt"
)

// Holdfast is a Holdfast process read by its admin port: /debug/memory, and
// the profiles beside it.
type Holdfast struct{ Pprof }

// OpenHoldfast takes the URL of the admin port.
func OpenHoldfast(address string) (*Holdfast, error) {
	e, err := newEndpoint("admin port", address)
	if err != nil {
		return nil, err
	}
	e.base.Path, e.base.RawQuery = "/debug/pprof/", ""
	return &Holdfast{Pprof{e}}, nil
}

// Read costs the process what Account.Read does.
func (h *Holdfast) Read(ctx context.Context) (Sample, error) {
	u := h.base.JoinPath("../memory")
	text, err := h.text(ctx, u)
	if err != nil {
		return Sample{}, fmt.Errorf("admin port: %w", err)
	}
	var r Report
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Classes == nil {
		return Sample{}, fmt.Errorf("admin port: %s is not the memory account of a Holdfast process", u.Redacted())
	}
	return r.Sample(), nil
}

// ReadCollected is Read after a collection. What pprof alone would tell right
// after it is less than the account: no resident set, no files.
func (h *Holdfast) ReadCollected(ctx context.Context) (Sample, error) {
	if err := h.CollectGarbage(ctx); err != nil {
		return Sample{}, err
	}
	return h.Read(ctx)
}

// detailUnexplained is the name of Cgroup.Unexplained in Sample.Detail.
const detailUnexplained = "working_set_unexplained"

// Sample is the report in the shape that foreign processes are read in.
func (r *Report) Sample() Sample {
	s := newSample()
	s.Time, s.RSS = r.Time, r.RSS
	for c, v := range r.Classes {
		s.Classes[c] = v
	}
	s.Counts[Goroutines] = int64(r.Goroutines)
	if r.RSS > 0 { // Linux
		s.Counts[Files], s.Counts[SocketFiles], s.Counts[Threads] = int64(r.Files), int64(r.Kernel.Sockets), int64(r.Threads)
		s.Kernel[SocketBuffers], s.Kernel[Sockets], s.Kernel[PageTables] = r.Kernel.SocketBuffers, r.Kernel.SocketEstimate, r.Kernel.PageTables
		s.Detail["huge_pages"], s.Detail["lazy_free"], s.Detail["pss"] = r.HugePages, r.LazyFree, r.PSS
		s.Detail["rss_peak"], s.Detail["swap"] = r.RSSPeak, r.Swap
	}
	if r.Connections != nil {
		s.Counts[Connections] = int64(total(r.Connections))
	}
	for _, c := range r.Cohorts {
		s.cohort(c.Cohort, c.Connections, c.SocketBuffers)
	}
	for _, c := range r.Census {
		s.zombies(c.Object, c.Cohort, int64(c.Zombies))
	}
	if r.Cgroup != nil {
		s.WorkingSet, s.Limit = r.Cgroup.WorkingSet, r.Cgroup.Limit
		s.Detail[detailUnexplained] = r.Cgroup.Unexplained
	}
	return s
}
