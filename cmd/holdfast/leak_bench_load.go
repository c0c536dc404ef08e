package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"holdfast/fleet"
	"holdfast/leak/bench"
	"holdfast/ocpp"
)

// benchStations are the stations of one gateway: of each security profile a
// number that follows day and night.
type benchStations struct {
	fleet *fleet.Fleet
	kind  bench.Load
	r     *rand.Rand
	mean  float64 // connections
	churn float64 // reconnects of a station per hour
	share float64 // of mutual TLS
	swing float64
	phase float64 // hours
	sides [2]benchSide

	mu     sync.Mutex
	failed int
	opened int
}

// benchSide is the stations of one security profile.
type benchSide struct {
	away []ocpp.StationID
	here []benchLine
}

type benchLine struct {
	id   ocpp.StationID
	line *fleet.Line
}

const (
	scaledOut       = 20.0 // hour
	scaledIn        = 44.0
	stormsEvery     = 30.0 // hours between two storms in daily life
	manyStormsEvery = 5.0
	leastStorm      = 0.1 // of the stations
	mostStorm       = 0.6
	benchAtOnce     = 8 // connections of one gateway that come and go at once
	mostFailed      = 0.02
)

// poisson draws how often something happened that happens mean times.
func poisson(r *rand.Rand, mean float64) int {
	n := 0
	for limit, p := math.Exp(-mean), r.Float64(); p > limit && n < 10_000; n++ {
		p *= r.Float64()
	}
	return n
}

// connections is how many there should be at an hour.
func (s *benchStations) connections(hour float64) float64 {
	n := s.mean * (1 + s.swing*math.Sin(2*math.Pi*(hour-s.phase)/24))
	if s.kind == bench.LoadRamp {
		n *= 1 + 0.6*min(1, max(0, (hour-6)/60))
	}
	if s.kind == bench.LoadScale && hour >= scaledOut && hour < scaledIn {
		n *= 2.0 / 3
	}
	return n
}

// reconnectsPerHour is the mean number of new connections in daily life, if all
// stations were of the profile.
func (s *benchStations) reconnectsPerHour() float64 {
	night := 2 * s.swing / 24
	storm := (leastStorm + mostStorm) / 2 / stormsEvery
	return s.mean * (s.churn + night + storm)
}

// pass lets the stations live from an hour on for dt hours, as fast as they can.
func (s *benchStations) pass(ctx context.Context, hour, dt float64) error {
	storm, every := 0.0, stormsEvery
	if s.kind == bench.LoadStorms {
		every = manyStormsEvery
	}
	if s.r.Float64() < dt/every {
		storm = leastStorm + (mostStorm-leastStorm)*s.r.Float64()
	}
	n := s.connections(hour+dt) * (1 + 0.01*s.r.NormFloat64())
	var todo []func() error
	for i := range s.sides {
		side := &s.sides[i]
		want := int(math.Round(n * [2]float64{1 - s.share, s.share}[i]))
		s.r.Shuffle(len(side.here), func(a, b int) { side.here[a], side.here[b] = side.here[b], side.here[a] })
		for len(side.here) > want { // night
			last := len(side.here) - 1
			l := side.here[last]
			side.here = side.here[:last]
			side.away = append(side.away, l.id)
			todo = append(todo, func() error { l.line.Close(); return nil })
		}
		again := min(len(side.here), poisson(s.r, s.churn*dt*float64(len(side.here)))+int(storm*float64(len(side.here))))
		for k := range again {
			cut := s.r.IntN(2) == 0
			todo = append(todo, func() error {
				l := &side.here[k]
				if cut {
					l.line.Cut()
				} else {
					l.line.Close()
				}
				return s.open(ctx, l)
			})
		}
		for k := again; k < min(len(side.here), again+2); k++ {
			todo = append(todo, func() error { return side.here[k].line.Heartbeat(ctx) })
		}
		from := len(side.here)
		for len(side.here) < want { // day
			if len(side.away) == 0 {
				return errors.New("more stations are wanted than there are")
			}
			at := s.r.IntN(len(side.away))
			side.here = append(side.here, benchLine{id: side.away[at]})
			side.away[at] = side.away[len(side.away)-1]
			side.away = side.away[:len(side.away)-1]
		}
		for k := from; k < len(side.here); k++ {
			todo = append(todo, func() error { return s.open(ctx, &side.here[k]) })
		}
	}
	return inParallel(benchAtOnce, todo)
}

// inParallel does all, some at a time, and returns the first error.
func inParallel(atOnce int, todo []func() error) error {
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	next := 0
	for range min(atOnce, len(todo)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if next == len(todo) || first != nil {
					mu.Unlock()
					return
				}
				do := todo[next]
				next++
				mu.Unlock()
				if err := do(); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// open connects a station, which tries three times.
func (s *benchStations) open(ctx context.Context, l *benchLine) error {
	var err error
	for range 3 {
		var line *fleet.Line
		if line, err = s.fleet.Open(ctx, l.id); err == nil {
			l.line = line
			s.mu.Lock()
			s.opened++
			s.mu.Unlock()
			return nil
		}
		s.mu.Lock()
		s.failed++
		s.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// check fails a run whose stations often could not connect.
func (s *benchStations) check() error {
	if s.failed > 3 && float64(s.failed) > mostFailed*float64(s.opened) {
		return fmt.Errorf("%d attempts to connect failed, %d did not", s.failed, s.opened)
	}
	return nil
}

// leave ends all connections.
func (s *benchStations) leave() {
	var todo []func() error
	for i := range s.sides {
		for _, l := range s.sides[i].here {
			if l.line != nil {
				todo = append(todo, func() error { l.line.Cut(); return nil })
			}
		}
	}
	inParallel(benchAtOnce, todo) // nothing fails
}
