package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"time"

	"holdfast/memory"
)

// services are the running parts of a process in the order in which they were
// started. They stop in the opposite order, each one after it has finished.
type services struct {
	log    *slog.Logger
	list   []service
	failed chan error // the first part that ended by itself
}

type service struct {
	name  string
	quiet func(ctx context.Context) // before the end; may be nil
	end   context.CancelFunc
	done  chan struct{}
}

func newServices(log *slog.Logger) *services {
	return &services{log: log, failed: make(chan error, 1)}
}

// start runs a part until its context ends. quiet, if not nil, is called before
// that and may take its time: a gateway drains. The part's name is the role of
// its goroutines in the memory account.
func (s *services) start(name string, run func(ctx context.Context) error, quiet func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	sv := service{name: name, quiet: quiet, end: cancel, done: make(chan struct{})}
	s.list = append(s.list, sv)
	go func() {
		defer close(sv.done)
		pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(memory.RoleLabel, name)))
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		select {
		case s.failed <- fmt.Errorf("%s: %w", name, err):
		default:
			s.log.Error("service failed", "service", name, "err", err)
		}
	}()
}

// closing adds what is closed when its turn to stop comes.
func (s *services) closing(name string, close func() error) {
	s.start(name, func(ctx context.Context) error {
		<-ctx.Done()
		if err := close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		return nil
	}, nil)
}

// wait blocks until ctx ends or a part fails, and returns that failure.
func (s *services) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// quietTime bounds what a part may take before its end on top of the drain time.
const quietTime = time.Hour

// stop ends all parts, the youngest first, and returns what failed on the way.
func (s *services) stop() error {
	for _, sv := range slices.Backward(s.list) {
		if sv.quiet != nil {
			ctx, cancel := context.WithTimeout(context.Background(), quietTime)
			sv.quiet(ctx)
			cancel()
		}
		sv.end()
		<-sv.done
	}
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}
