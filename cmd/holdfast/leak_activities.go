package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fleet"
	"holdfast/leak/hunt"
	"holdfast/ocpp"
)

// hunter is the fleet's side of a leak hunt: the activities that provoke events.
type hunter struct {
	fleet    *fleet.Fleet
	cohorts  []*cohort
	revoked  []ocpp.StationID // the server refuses them for their certificates
	parallel int
	rate     float64 // events per second of an activity; 0: no limit
	silent   bool    // the server answers no OCPP
	notes    []string
}

// cohort is the stations of one security profile. The first half of them comes
// and goes, the other half holds lines for messages.
type cohort struct {
	profile  ocpp.SecurityProfile
	stations []ocpp.StationID

	mu    sync.Mutex
	lines map[ocpp.StationID]*fleet.Line // open while the hunt runs
}

func (c *cohort) name() string {
	switch c.profile {
	case ocpp.ProfilePlain:
		return "plain"
	case ocpp.ProfileTLS:
		return "TLS"
	}
	return "mutual-TLS"
}

func (c *cohort) coming() []ocpp.StationID  { return c.stations[:(len(c.stations)+1)/2] }
func (c *cohort) staying() []ocpp.StationID { return c.stations[(len(c.stations)+1)/2:] }

// huntActivity is an activity by the name that --activities has for it.
type huntActivity struct {
	name     string
	event    string
	profiles []ocpp.SecurityProfile // nil: all
	// do makes one event of a station; n counts those of the block.
	do func(h *hunter, ctx context.Context, c *cohort, id ocpp.StationID, n uint64) error
}

var huntActivities = []huntActivity{
	{"reconnect", "reconnect", nil, (*hunter).reconnect},
	{"message", "message", nil, (*hunter).message},
	{"failed-handshake", "failed handshake", nil, probing(fleet.FailedHandshake)},
	{"wrong-password", "wrong password", []ocpp.SecurityProfile{ocpp.ProfilePlain, ocpp.ProfileTLS}, probing(fleet.WrongPassword)},
	{"no-certificate", "missing certificate", []ocpp.SecurityProfile{ocpp.ProfileMTLS}, probing(fleet.NoCertificate)},
	{"revoked", "revoked certificate", []ocpp.SecurityProfile{ocpp.ProfileMTLS}, (*hunter).comeRevoked},
	{"wrong-protocol", "wrong protocol", nil, probing(fleet.WrongSubprotocol)},
	{"oversized", "oversized message", nil, (*hunter).oversized},
	{"takeover", "takeover", nil, (*hunter).takeover},
	{"silent", "silent connection", nil, (*hunter).neverPong},
	{"idle", hunt.IdleEvent, nil, nil},
}

func activityNames() string {
	var names []string
	for _, a := range huntActivities {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// activities are those of the given names, for each cohort that has them.
func (h *hunter) activities(names []string) ([]hunt.Activity, error) {
	var list []hunt.Activity
	for _, name := range names {
		for _, a := range huntActivities {
			if a.name != name {
				continue
			}
			if a.do == nil {
				list = append(list, hunt.Activity{Event: hunt.IdleEvent, Do: idle})
				continue
			}
			if h.silent && a.name == "message" {
				continue
			}
			for _, c := range h.cohorts {
				if a.profiles != nil && !slices.Contains(a.profiles, c.profile) {
					continue
				}
				list = append(list, hunt.Activity{Cohort: c.name(), Event: a.event, Do: func(ctx context.Context, d time.Duration) (hunt.Done, error) {
					return h.run(ctx, d, c, a)
				}})
			}
		}
	}
	if len(list) == 0 {
		return nil, &usageError{"--activities: none that the targets have"}
	}
	return list, nil
}

// idle does nothing; its events are seconds.
func idle(ctx context.Context, d time.Duration) (hunt.Done, error) {
	select {
	case <-ctx.Done():
		return hunt.Done{}, ctx.Err()
	case <-time.After(d):
		return hunt.Done{Events: d.Seconds()}, nil
	}
}

// run makes events until the time is over, some at once, each worker with
// stations of its own.
func (h *hunter) run(ctx context.Context, d time.Duration, c *cohort, a huntActivity) (hunt.Done, error) {
	stations := c.coming()
	switch a.name {
	case "message":
		stations = c.staying()
	case "revoked":
		stations = h.revoked
	}
	start := time.Now()
	end := start.Add(d)
	workers := min(h.parallel, len(stations))
	var begun, events, failed atomic.Uint64
	var reason atomic.Value // string
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for turn := 0; ctx.Err() == nil && time.Now().Before(end); turn++ {
				if h.rate > 0 && !pause(ctx, start.Add(time.Duration(float64(begun.Add(1)-1)/h.rate*float64(time.Second))), end) {
					return
				}
				mine := (len(stations) - w + workers - 1) / workers
				id := stations[w+turn%mine*workers]
				if err := a.do(h, ctx, c, id, events.Load()); err != nil && ctx.Err() == nil {
					failed.Add(1)
					reason.Store(err.Error())
					// A server that refuses at once is not to be hammered.
					time.Sleep(20 * time.Millisecond)
				} else if err == nil {
					events.Add(1)
				}
			}
		})
	}
	wg.Wait()
	done := hunt.Done{Events: float64(events.Load()), Failed: int(failed.Load())}
	done.Reason, _ = reason.Load().(string)
	return done, ctx.Err()
}

// pause waits for a time, and reports false if end or ctx's comes first.
func pause(ctx context.Context, until, end time.Time) bool {
	if until.After(end) {
		return false
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reconnect connects, boots, and goes: with a close frame and with a TCP reset,
// in turn.
func (h *hunter) reconnect(ctx context.Context, _ *cohort, id ocpp.StationID, n uint64) error {
	l, err := h.fleet.Open(ctx, id)
	if err != nil {
		return err
	}
	if !h.silent {
		if err := l.Boot(ctx); err != nil {
			l.Cut()
			return err
		}
	}
	if n%2 == 0 {
		l.Close()
	} else {
		l.Cut()
	}
	return nil
}

// message sends a Heartbeat or a StatusNotification over a line that stays open
// from one block to the next: what a connection gathers shows as well.
func (h *hunter) message(ctx context.Context, c *cohort, id ocpp.StationID, n uint64) error {
	l, err := h.line(ctx, c, id)
	if err != nil {
		return err
	}
	if n%2 == 0 {
		return l.Heartbeat(ctx)
	}
	return l.Status(ctx)
}

// line is a station's line that stays open; it is opened anew if it has ended.
func (h *hunter) line(ctx context.Context, c *cohort, id ocpp.StationID) (*fleet.Line, error) {
	c.mu.Lock()
	l := c.lines[id]
	c.mu.Unlock()
	if l != nil {
		select {
		case <-l.Ended():
		default:
			return l, nil
		}
	}
	l, err := h.fleet.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := l.Boot(ctx); err != nil {
		l.Cut()
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines[id] = l
	return l, nil
}

// hold opens the lines for messages, before the first reading.
func (h *hunter) hold(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(h.parallel)
	for _, c := range h.cohorts {
		for _, id := range c.staying() {
			eg.Go(func() error {
				_, err := h.line(ctx, c, id)
				return err
			})
		}
	}
	return eg.Wait()
}

// probing is an attempt to connect that the server has to refuse.
func probing(fault fleet.Fault) func(*hunter, context.Context, *cohort, ocpp.StationID, uint64) error {
	return func(h *hunter, ctx context.Context, _ *cohort, id ocpp.StationID, _ uint64) error {
		err := h.fleet.Probe(ctx, id, fault)
		switch {
		case fault == fleet.FailedHandshake:
			return err
		case err == nil:
			return errors.New("the server admitted the station")
		case ctx.Err() != nil:
			return err
		}
		return nil
	}
}

// oversizedMessage is larger than servers take by default.
const oversizedMessage = 2 << 20

// oversized sends a message that is too large, and waits to be closed.
func (h *hunter) oversized(ctx context.Context, _ *cohort, id ocpp.StationID, _ uint64) error {
	l, err := h.fleet.Open(ctx, id)
	if err != nil {
		return err
	}
	defer l.Cut()
	l.Send(oversizedMessage) // it fails when the server closes before the end
	return h.awaitEnd(ctx, l)
}

// takeover connects a station that is connected, and goes with both.
func (h *hunter) takeover(ctx context.Context, _ *cohort, id ocpp.StationID, _ uint64) error {
	old, err := h.fleet.Open(ctx, id)
	if err != nil {
		return err
	}
	defer old.Cut()
	fresh, err := h.fleet.Open(ctx, id)
	if err != nil {
		return err
	}
	defer fresh.Close()
	select {
	case <-old.Ended():
		return nil
	case <-fresh.Ended():
		return errors.New("the server closed the newer connection")
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(huntCallTimeout):
		return fmt.Errorf("not closed by the server within %s", huntCallTimeout)
	}
}

// neverPong connects, answers nothing any more, and waits to be closed.
func (h *hunter) neverPong(ctx context.Context, _ *cohort, id ocpp.StationID, _ uint64) error {
	l, err := h.fleet.Open(ctx, id)
	if err != nil {
		return err
	}
	defer l.Cut()
	if err := l.FallSilent(); err != nil {
		return err
	}
	return h.awaitEnd(ctx, l)
}

func (h *hunter) awaitEnd(ctx context.Context, l *fleet.Line) error {
	select {
	case <-l.Ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(huntCallTimeout):
		return fmt.Errorf("not closed by the server within %s", huntCallTimeout)
	}
}

// storms returns what follows each block: all stations that come and go
// reconnect at once. Its events count as reconnects, if these are an activity.
func (h *hunter) storms(activities []hunt.Activity) func(context.Context) ([]float64, error) {
	return func(ctx context.Context) ([]float64, error) {
		events := make([]float64, len(activities))
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, c := range h.cohorts {
			at := slices.IndexFunc(activities, func(a hunt.Activity) bool { return a.Cohort == c.name() && a.Event == "reconnect" })
			for i, id := range c.coming() {
				wg.Go(func() {
					if h.reconnect(ctx, c, id, uint64(i)) == nil && at >= 0 {
						mu.Lock()
						events[at]++
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		return events, ctx.Err()
	}
}

// try connects a station of each cohort, so that a wrong address or credential
// is told at once. Of guessed profiles those that the server refuses are left
// out, as long as one is left.
func (h *hunter) try(ctx context.Context, guessed []ocpp.SecurityProfile) error {
	var left []*cohort
	var failed error
	for _, c := range h.cohorts {
		err := h.tryOne(ctx, c)
		switch {
		case err == nil:
			left = append(left, c)
		case slices.Contains(guessed, c.profile):
			h.notes = append(h.notes, fmt.Sprintf("%s is not tested: %v", c.name(), err))
			failed = err
		default:
			return err
		}
	}
	if len(left) == 0 {
		return failed
	}
	h.cohorts = left
	return nil
}

func (h *hunter) tryOne(ctx context.Context, c *cohort) error {
	l, err := h.fleet.Open(ctx, c.stations[0])
	if err != nil {
		return fmt.Errorf("%s: %w", c.name(), err)
	}
	defer l.Close()
	if err := l.Boot(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !h.silent {
			h.notes = append(h.notes, fmt.Sprintf("messages are not tested, and stations do not boot: %v", err))
		}
		h.silent = true
	}
	return nil
}

// close ends the lines that were held.
func (h *hunter) close() {
	var wg sync.WaitGroup
	for _, c := range h.cohorts {
		for _, l := range c.lines {
			wg.Go(l.Close)
		}
	}
	wg.Wait()
}
