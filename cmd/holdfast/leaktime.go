//go:build !leakfaults

package main

import (
	"context"
	"time"

	"holdfast/leak"
)

// leakTime is what time is to the leak detector. The benchmark's build, with tag
// leakfaults, has another one: there a driver steps through days in seconds.
type leakTime struct{}

func newLeakTime(*process) *leakTime { return &leakTime{} }

func (*leakTime) now() time.Time { return time.Now() }

// detector returns what feeds m.
func (*leakTime) detector(m *leak.Monitor) func(context.Context) error { return m.Run }

// trace is how long the flight recorder of evidence runs; 0: as long as it does.
func (*leakTime) trace() time.Duration { return 0 }
