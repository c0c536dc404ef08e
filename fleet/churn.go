package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Churn is traffic of short connections: stations connect, do what Faults says,
// and are gone. It needs no running fleet and any OCPP server, or any server that
// upgrades to WebSocket, may be the target.
type Churn struct {
	// Faults are how the connections go, in turn, as Probe does them. Empty means
	// CleanClose.
	Faults []Fault
	// Attempts is how many are made. Zero means that they go on until ctx ends.
	Attempts uint64
	// Rate is how many begin per second. Zero means as fast as they end.
	Rate float64
	// Parallel is how many run at once. Zero means 64. No station is used twice at
	// the same time, so it is at most the number of stations.
	Parallel int
}

// Churned is what came of it.
type Churned struct {
	Attempts uint64
	Admitted uint64 // upgraded to WebSocket; handshakes that were cut on purpose are not
	// Errors by kind, as in Stats.
	Errors map[string]uint64
}

// Churn runs the traffic with the fleet's stations, in turn, and returns when it
// is done or ctx has ended, which is no error. What the server refuses is counted,
// not an error.
func (f *Fleet) Churn(ctx context.Context, c Churn) (Churned, error) {
	if len(f.stations) == 0 || c.Rate < 0 || c.Parallel < 0 {
		return Churned{}, errors.New("fleet: churn needs stations, and no negative numbers")
	}
	if len(c.Faults) == 0 {
		c.Faults = []Fault{CleanClose}
	}
	if c.Parallel == 0 {
		c.Parallel = 64
	}
	c.Parallel = min(c.Parallel, len(f.stations))
	// Attempts see the end as a cancellation only: a deadline would make a dial
	// time out a moment before the context says that it is over.
	ending := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ending))
	defer cancel()
	defer context.AfterFunc(ending, cancel)()
	var out Churned
	var next, admitted atomic.Uint64
	var counts [errorKinds]atomic.Uint64
	var attempts atomic.Uint64
	start := time.Now()
	var wg sync.WaitGroup
	for worker := range c.Parallel {
		wg.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				n := next.Add(1) - 1
				if c.Attempts > 0 && n >= c.Attempts {
					return
				}
				if c.Rate > 0 && !sleep(ctx, start.Add(time.Duration(float64(n)/c.Rate*float64(time.Second)))) {
					return
				}
				// A worker's stations are its own: worker, worker + parallel, …
				mine := (len(f.stations) - worker + c.Parallel - 1) / c.Parallel
				s := f.stations[worker+turn%mine*c.Parallel]
				fault := c.Faults[n%uint64(len(c.Faults))]
				err := f.Probe(ctx, s.id.ID, fault)
				if ctx.Err() != nil && err != nil {
					return // cut short by the end, not by the server
				}
				attempts.Add(1)
				switch e, ok := errors.AsType[*connectError](err); {
				case ok:
					counts[e.kind].Add(1)
				case err != nil:
					counts[errorLost].Add(1)
				case fault != FailedHandshake:
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	out.Attempts, out.Admitted, out.Errors = attempts.Load(), admitted.Load(), make(map[string]uint64)
	for kind, name := range errorNames {
		if n := counts[kind].Load(); n > 0 {
			out.Errors[name] = n
		}
	}
	return out, nil
}

// sleep waits until a time and reports false if ctx ends before.
func sleep(ctx context.Context, until time.Time) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// String tells the numbers.
func (c Churned) String() string {
	return fmt.Sprintf("%d attempts, %d admitted, errors %v", c.Attempts, c.Admitted, c.Errors)
}
