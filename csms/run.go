package csms

import (
	"context"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/store"
)

const (
	maxJobs    = 1024 // jobs that wait
	maxRunning = 256  // jobs that run at a time
	countEvery = 15 * time.Second
	pruneEvery = time.Hour
	stopTime   = 10 * time.Second // for what is written while the process stops
)

// job is work that outlives the CALL that asked for it.
type job func(ctx context.Context)

// later hands a job to Run and reports false if too many wait.
func (c *CSMS) later(j job) bool {
	select {
	case c.jobs <- j:
		return true
	default:
		return false
	}
}

// Run does what is not done for one CALL: it writes when stations were seen,
// follows other processes' changes, counts, prunes, carries asynchronous commands to
// stations, and takes operations on. It returns when ctx has ended and all that is over.
func (c *CSMS) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { c.every(ctx, followEvery, "follow registrations", c.follow); return nil })
	g.Go(func() error { c.every(ctx, countEvery, "count", c.count); return nil })
	g.Go(func() error { c.every(ctx, pruneEvery, "prune commands and operations", c.prune); return nil })
	g.Go(func() error { return c.runOperations(ctx) })
	g.Go(func() error {
		c.every(ctx, seenEvery, "write last seen", c.flushSeen)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		return c.flushSeen(last)
	})
	g.Go(func() error {
		var running errgroup.Group
		running.SetLimit(maxRunning)
		for {
			select {
			case j := <-c.jobs:
				running.Go(func() error { c.do(ctx, j); return nil })
				continue
			case <-ctx.Done():
			}
			break
		}
		for { // what waits still learns that it is too late
			select {
			case j := <-c.jobs:
				running.Go(func() error { c.do(ctx, j); return nil })
				continue
			default:
			}
			break
		}
		return running.Wait()
	})
	return g.Wait()
}

// every does something now and then until ctx ends.
func (c *CSMS) every(ctx context.Context, period time.Duration, what string, do func(context.Context) error) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn(what, "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *CSMS) do(ctx context.Context, j job) {
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panics.Inc()
			c.log.Error("job panicked", "err", p, "stack", string(debug.Stack()))
		}
	}()
	j(ctx)
}

// count refreshes the gauges that come from the record.
func (c *CSMS) count(ctx context.Context) error {
	n, err := c.store.OpenTransactions(ctx)
	if err != nil {
		return err
	}
	c.metrics.open.Set(float64(n))
	counts, err := c.store.CountOperations(ctx)
	if err != nil {
		return err
	}
	for _, kind := range Kinds {
		for _, status := range []store.OperationStatus{store.OperationQueued, store.OperationRunning, store.OperationWaiting} {
			c.metrics.openOperations.WithLabelValues(kind, string(status)).Set(float64(counts[kind][status]))
		}
	}
	return nil
}

func (c *CSMS) prune(ctx context.Context) error {
	before := c.now().Add(-c.settings.KeepCommands)
	if err := c.store.PruneCommands(ctx, before); err != nil {
		return err
	}
	return c.store.PruneOperations(ctx, before)
}
