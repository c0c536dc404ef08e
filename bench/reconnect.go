package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// stormRequest lets every station come back at once: as soon as its connection
// is lost, or all of them now with Lost. One that fails tries again after Retry, moved by
// up to a half at random.
type stormRequest struct {
	Lost  bool // all connections are lost already
	Retry time.Duration
	Time  time.Duration // then those that are not back give up
}

// storm is what became of it.
type storm struct {
	Stations int `json:"stations"`
	Back     int `json:"back"`
	// Attempts that failed: nobody listened, the connection was reset or lost
	// before the upgrade, an HTTP answer instead of it, anything else.
	NoListener int    `json:"no_listener"`
	Reset      int    `json:"reset"`
	Refused    int    `json:"refused"`
	Other      int    `json:"other_failures"`
	FirstFail  string `json:"first_failure,omitempty"` // but for those without a listener

	Half  time.Time     `json:"half_back_at"`
	Last  time.Time     `json:"last_back_at"`
	P50   time.Duration `json:"attempt_p50_ns"` // of the attempts that succeeded, dial to upgraded
	P99   time.Duration `json:"attempt_p99_ns"`
	Start time.Time     `json:"started_at"`
}

func (c *client) storm(r *stormRequest) (storm, error) {
	list := c.connected()
	if r.Lost {
		list = c.stations
	}
	if len(list) == 0 {
		return storm{}, errors.New("no stations are connected")
	}
	var (
		mu    sync.Mutex
		out   = storm{Stations: len(list), Start: time.Now()}
		took  []time.Duration
		backs []time.Time
		wg    sync.WaitGroup
	)
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		var refused *refusedError
		var opError *net.OpError
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			out.NoListener++
			return
		case errors.As(err, &refused):
			out.Refused++
		case errors.As(err, &opError):
			out.Reset++
		default:
			out.Other++
		}
		if out.FirstFail == "" {
			out.FirstFail = err.Error()
		}
	}
	end := out.Start.Add(r.Time)
	for _, s := range list {
		wg.Go(func() {
			if !r.Lost {
				select {
				case <-s.gone:
				case <-time.After(time.Until(end)):
					return
				}
			}
			for time.Now().Before(end) {
				start := time.Now()
				err := s.connect()
				if err == nil {
					mu.Lock()
					backs, took = append(backs, time.Now()), append(took, time.Since(start))
					mu.Unlock()
					return
				}
				failed(err)
				time.Sleep(time.Duration(float64(r.Retry) * (0.5 + rand.Float64())))
			}
		})
	}
	wg.Wait()
	if out.Back = len(backs); out.Back > 0 {
		slices.SortFunc(backs, time.Time.Compare)
		out.Half, out.Last = backs[len(backs)/2], backs[len(backs)-1]
		slices.Sort(took)
		out.P50, out.P99 = quantile(took, 0.5), quantile(took, 0.99)
	}
	return out, nil
}
