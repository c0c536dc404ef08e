package csms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/ocpp"
)

// Connected records that a gateway holds a station now. A connection that is
// older than the one known changes nothing.
func (c *CSMS) Connected(ctx context.Context, e ocpp.Connected) error {
	changed, err := c.store.Connected(ctx, e, c.settings.RegistrationDefault, c.now())
	if err != nil {
		return fmt.Errorf("record connection of station %s: %w", e.Station, err)
	}
	if changed {
		c.connected(e)
	}
	return nil
}

func (c *CSMS) connected(e ocpp.Connected) {
	c.seen.add(e.Station.Fold(), c.now())
	c.wakeOperations() // one that waits for the station goes on
	c.tell(EventConnected, e.Station, ConnectedData{e.Gateway, e.Version, e.Profile, e.Remote})
}

// Disconnected records that a connection ended. If the station has a newer one,
// nothing changes.
func (c *CSMS) Disconnected(ctx context.Context, e ocpp.Disconnected) error {
	changed, err := c.store.Disconnected(ctx, e, c.settings.RegistrationDefault, c.now())
	if err != nil {
		return fmt.Errorf("record end of connection of station %s: %w", e.Station, err)
	}
	if changed {
		c.tell(EventDisconnected, e.Station, DisconnectedData{e.Reason})
	}
	return nil
}

const (
	// presentGrace protects connections that are younger than a gateway's report of
	// those it holds.
	presentGrace = 10 * time.Second
	// presentAtOnce is how many corrections wait for their commit at a time.
	presentAtOnce = 64
)

// Present corrects the record by what a gateway says it holds. With complete
// set, stations is all of it: others that the record shows there are not
// connected, unless they came in the last 10 seconds. Call it now and then, and
// with no stations, complete, for a gateway that is gone.
func (c *CSMS) Present(ctx context.Context, gateway string, stations []ocpp.Connected, complete bool) error {
	held, err := c.store.ConnectedTo(ctx, gateway)
	if err != nil {
		return fmt.Errorf("reconcile gateway %s: %w", gateway, err)
	}
	now := c.now()
	var g errgroup.Group
	g.SetLimit(presentAtOnce)
	for _, e := range stations {
		known, ok := held[e.Station.Fold()]
		delete(held, e.Station.Fold())
		if e.Gateway = gateway; !ok || known.Epoch < e.Epoch {
			g.Go(func() error { return c.Connected(ctx, e) })
		}
	}
	err = g.Wait()
	if !complete {
		return err
	}
	var gone errgroup.Group
	gone.SetLimit(presentAtOnce)
	for _, h := range held {
		if h.Recorded.After(now.Add(-presentGrace)) {
			continue
		}
		gone.Go(func() error {
			changed, err := c.store.Gone(ctx, h.Station, h.Epoch, now)
			if err != nil {
				return fmt.Errorf("reconcile station %s: %w", h.Station, err)
			}
			if changed {
				c.tell(EventDisconnected, h.Station, DisconnectedData{"not held by gateway " + gateway})
			}
			return nil
		})
	}
	return errors.Join(err, gone.Wait())
}
