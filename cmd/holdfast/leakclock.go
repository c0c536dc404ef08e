//go:build !leakfaults

package main

import "time"

// leakClock is the clock of the leak detector and how much faster than real time
// it runs. Only the benchmark's build compresses time.
func leakClock() (now func() time.Time, speed float64) { return time.Now, 1 }
