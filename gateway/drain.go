package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/ocpp"
	"holdfast/ws"
)

// Drain stops admitting stations and closes those that are here evenly over the
// given time, those in a transaction last. It returns when all are gone or ctx
// ends.
func (g *Gateway) Drain(ctx context.Context, over time.Duration) {
	g.draining.Store(true)
	list := g.all()
	slices.SortStableFunc(list, func(a, b *conn) int {
		switch x, y := a.charging.Load(), b.charging.Load(); {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	})
	g.cfg.Logger.Info("draining", "gateway", g.cfg.ID, "stations", len(list), "over", over)
	g.pace(ctx, list, over, "gateway is shutting down", closeDrain)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(g.all()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pace closes the connections evenly over the given time, or until ctx ends.
func (g *Gateway) pace(ctx context.Context, list []*conn, over time.Duration, text string, reason ws.CloseReason) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, c := range list {
		if wait := time.Until(start.Add(over * time.Duration(i) / time.Duration(len(list)))); wait > time.Millisecond {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		c.ws.Close(closeGoingAway, text, reason)
	}
}

// awayPace is the time over which connections are closed when the csms stays away.
const awayPace = time.Minute

// watchBus keeps track of whether stations' CALLs can be answered. While they
// cannot, new stations are refused, those that are here are kept and told
// nothing; after Config.AwayTime they are disconnected in a paced way, because
// a station that is offline keeps its transaction messages while one whose
// calls keep failing discards them after its last attempt (2.x E04.FR.01,
// E13.FR.04).
func (g *Gateway) watchBus(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var since time.Time // when it went away
	for {
		err := g.probe(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			if old := g.bus.Swap(nil); old != nil {
				g.cfg.Logger.Info("csms is back", "gateway", g.cfg.ID, "after", time.Since(since).Round(time.Second))
			}
			since = time.Time{}
		} else {
			if g.bus.Swap(&err) == nil {
				g.cfg.Logger.Error("stations cannot be answered", "gateway", g.cfg.ID, "err", err)
				since = time.Now()
			}
			if list := g.all(); time.Since(since) > g.cfg.AwayTime && len(list) > 0 {
				g.cfg.Logger.Error("disconnecting stations: nobody could answer them for too long", "gateway", g.cfg.ID, "stations", len(list), "err", err)
				g.pace(ctx, list, min(awayPace, g.cfg.AwayTime), "csms is away", closeAway)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (g *Gateway) probe(ctx context.Context) error {
	if err := g.cfg.Bus.Ready(); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := g.cfg.Bus.PingCSMS(ctx); err != nil {
		if errors.Is(err, ocpp.ErrUnavailable) {
			return errors.New("no csms is connected to the bus")
		}
		return fmt.Errorf("csms does not answer: %w", err)
	}
	return nil
}
