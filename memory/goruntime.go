package memory

import "runtime/metrics"

// goruntime is what the Go runtime says of itself, all in bytes but the last.
type goruntime struct {
	classes    map[Class]int64
	mapped     int64 // all that Go counts and has not returned to the kernel
	heap       int64 // of this what is in the heap's arenas
	limit      int64 // GOMEMLIMIT
	goroutines int64
	backlog    Backlog
}

// readRuntime takes less than 2 µs and does not stop the world.
func readRuntime() goruntime {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/gomemlimit:bytes"},
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/gc/cleanups/queued:cleanups"},
		{Name: "/gc/cleanups/executed:cleanups"},
		{Name: "/gc/finalizers/queued:finalizers"},
		{Name: "/gc/finalizers/executed:finalizers"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	live, objects := value(0), value(6)
	if value(1) == 0 { // before the first collection the runtime gives its estimate
		live = 0
	}
	live = min(live, objects) // sweeping may have freed what was live then
	g := goruntime{
		classes: map[Class]int64{
			HeapLive:    live,
			HeapGarbage: objects - live,
			HeapUnused:  value(7),
			HeapFree:    value(8),
			Stacks:      value(9) + value(10),
		},
		mapped:     value(4) - value(5),
		heap:       objects + value(7) + value(8) + value(9),
		limit:      value(2),
		goroutines: value(3),
		backlog:    Backlog{Cleanups: max(0, value(11)-value(12)), Finalizers: max(0, value(13)-value(14))},
	}
	g.classes[Metadata] = g.mapped - sum(g.classes) // mspan, mcache, profiling and both "other"
	return g
}

func sum(classes map[Class]int64) int64 {
	n := int64(0)
	for _, v := range classes {
		n += v
	}
	return n
}
