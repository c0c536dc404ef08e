package leak

import (
	"math"
	"runtime/metrics"

	"holdfast/memory"
)

// SampleOf takes from an account of this process what a Detector wants. Opened
// and Retained are for the caller to fill in; Retained is unknown until then.
func SampleOf(r memory.Report) Sample {
	s := Sample{Time: r.Time, RSS: r.RSS}
	for _, n := range r.Connections {
		s.Connections += n
	}
	bytes := func(c memory.Class) float64 {
		v, ok := r.Classes[c]
		if !ok {
			return math.NaN()
		}
		return float64(v)
	}
	live := bytes(memory.HeapLive)
	if live == 0 { // no collection yet
		live = math.NaN()
	}
	// What Go's heap holds and nobody wrote to yet lowers off_heap, and lets it grow
	// when it is written to: for hours, and for nothing.
	offHeap := bytes(memory.OffHeap) + float64(r.Untouched)
	s.Values = Values{live, bytes(memory.HeapUnused), bytes(memory.Metadata), offHeap, math.NaN(),
		float64(r.Goroutines), math.NaN(), math.NaN(), math.NaN()}
	if r.RSS > 0 { // Linux
		s.Values[SocketBuffers.Index()] = float64(r.Kernel.SocketBuffers)
		s.Values[Threads.Index()] = float64(r.Threads)
		s.Values[Files.Index()] = float64(r.Files)
	}
	if r.Cgroup != nil {
		s.WorkingSet, s.Limit = r.Cgroup.WorkingSet, r.Cgroup.Limit
	}
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gogc)
	if v := gogc[0].Value.Uint64(); v < 1<<20 { // larger: off
		s.GOGC = float64(v)
	}
	return s
}
