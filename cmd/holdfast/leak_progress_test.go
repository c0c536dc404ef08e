package main

import (
	"strings"
	"testing"
	"time"

	"holdfast/leak/hunt"
)

// TestHuntLine: the line of a terminal says where the hunt is, and fits.
func TestHuntLine(t *testing.T) {
	at := hunt.Progress{Phase: hunt.PhaseTrial, Round: 3, Rounds: 6, Activity: "mutual-TLS reconnect", RSS: 64 << 20, Gone: time.Minute, Left: 3 * time.Minute}
	line := huntLine(at, 200)
	if want := "[#####...............] 3m0s left  trial 3/6  64.0 MB  mutual-TLS reconnect"; line != want {
		t.Errorf("%q, want %q", line, want)
	}
	for _, width := range []int{0, 1, 20, 60} {
		if line := huntLine(at, width); len(line) >= max(1, width) || !strings.HasPrefix("[#####...............] 3m0s left  trial 3/6  64.0 MB  mutual-TLS reconnect", line) {
			t.Errorf("%d wide: %q", width, line)
		}
	}
}
