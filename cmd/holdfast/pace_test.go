package main

import (
	"testing"
	"time"
)

// TestPace takes a process through a storm, quiet, traffic and a slow leave.
func TestPace(t *testing.T) {
	var p pace
	l := load{at: time.Unix(1_000_000, 0), live: 80 << 20}
	run := func(what string, seconds, changesEach int, cyclesEach uint64, wantQuiet bool, wantReturns int) {
		t.Helper()
		returns, percent := 0, 0
		for range seconds {
			l.at = l.at.Add(time.Second)
			l.changes += int64(changesEach)
			l.cycles += cyclesEach
			var giveBack bool
			if percent, giveBack = p.next(l); giveBack {
				returns++
			}
		}
		want := busyGC(l.live)
		if wantQuiet {
			want = quietGC
		}
		if percent != want || returns != wantReturns {
			t.Errorf("%s: GOGC %d, memory returned %d times; want %d, %d", what, percent, returns, want, wantReturns)
		}
	}
	run("start", 29, 0, 0, false, 0)
	run("nobody comes", 10, 0, 0, true, 1)
	run("storm", 1, 500, 0, false, 0)
	l.open = 19_000
	run("storm goes on", 40, 500, 9, false, 0)
	run("just after", 29, 0, 0, false, 0)
	run("settled", 300, 0, 0, true, 1)
	run("few come and go", 300, 20, 0, true, 0)
	run("a collection now and then", 300, 0, 1, true, 0)
	run("many messages", 5, 0, 4, false, 0)
	run("fewer again", 60, 0, 1, true, 1)
	l.free = l.live
	run("much is free", 60, 0, 0, true, 2)
	l.free = 0
	run("returned", 60, 0, 0, true, 0)
}

// TestBusyGC: the headroom is the same from small heaps to large ones, within
// the bounds of what is worth it.
func TestBusyGC(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 8 << 20: 100, 24 << 20: 100, 30 << 20: 80, 80 << 20: 30, 120 << 20: 20, 4 << 30: 20} {
		if got := busyGC(live); got != want {
			t.Errorf("GOGC %d with %d MB live, want %d", got, live>>20, want)
		}
	}
}
