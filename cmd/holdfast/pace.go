package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// GOGC of a process that holds connections. What a pod shows of an idle
// connection is its live bytes and the collector's headroom on top. While
// stations come and go by the thousand, or messages make the collector run
// often, headroom saves CPU: a handshake makes 60 KB of garbage, and a cycle
// costs what lives. 24 MB are a cycle every 400 handshakes; a share of the heap
// would be little for few stations and much of the pod for many. While stations
// only stay, a cycle is rare whatever the headroom, and it is memory for
// nothing. docs/memory.md has the measurement.
const (
	busyHeadroom = 24 << 20 // bytes
	busiestGC    = 100      // percent, where so little lives that headroom would be more
	quietGC      = 20       // percent, and the least while busy
)

// busyGC is the percentage that gives busyHeadroom to a heap of which live bytes
// live, in steps, as setting it stops the world for a moment.
func busyGC(live uint64) int {
	const step = 5
	percent := 100 * busyHeadroom / max(live, 1)
	return int(min(max(percent/step*step, quietGC), busiestGC))
}

const (
	paceInterval = time.Second
	settleTime   = 30 * time.Second // without a busy interval

	// An interval is busy with more than this of changes or collections.
	busyChanges     = 5   // stations that came or went
	busyChangeShare = 200 // or one in so many of those that are here, if that is more
	busyCycles      = 1

	// Free memory beyond half of what lives, and this, is returned when it is quiet.
	freeSlack = 8 << 20
)

// pace decides between the two.
type pace struct {
	last  load
	since time.Time // the last busy interval, or the last return of memory
	quiet bool
}

// load is what the decision rests on.
type load struct {
	at         time.Time
	open       int
	changes    int64  // stations that came or went since the start
	cycles     uint64 // collections since the start
	live, free uint64 // bytes of the heap: in use at the last collection; kept and empty
}

// next takes the load of this moment. It returns the percentage for the
// collector, and whether memory should be returned to the system now: once when
// the process becomes quiet, and then whenever much of it is free.
func (p *pace) next(l load) (percent int, giveBack bool) {
	before := p.last
	p.last = l
	if before.at.IsZero() {
		p.since = l.at
		return busyGC(l.live), false
	}
	changed := l.changes - before.changes
	if changed > max(busyChanges, int64(l.open/busyChangeShare)) || l.cycles-before.cycles > busyCycles {
		p.since, p.quiet = l.at, false
		return busyGC(l.live), false
	}
	if l.at.Sub(p.since) < settleTime {
		if p.quiet {
			return quietGC, false
		}
		return busyGC(l.live), false
	}
	if giveBack = !p.quiet || l.free > l.live/2+freeSlack; giveBack {
		p.since = l.at
	}
	p.quiet = true
	return quietGC, giveBack
}

// keepPace follows pace until ctx ends, unless the operator chose a GOGC.
// stations returns how many are connected, and how many came or went so far. A
// return of memory is two collections, some milliseconds of CPU per 10,000
// stations, and page faults when the memory is needed again.
func keepPace(ctx context.Context, stations func() (open int, changes int64)) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	var p pace
	was := 0
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for {
		percent, giveBack := p.next(readLoad(stations()))
		if percent != was {
			was = percent
			debug.SetGCPercent(percent)
		}
		if giveBack {
			runtime.GC() // what pools keep survives one collection
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func readLoad(open int, changes int64) load {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	return load{
		at: time.Now(), open: open, changes: changes,
		cycles: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(), free: samples[2].Value.Uint64(),
	}
}
