package gateway

import (
	"time"

	"holdfast/ocpp"
	"holdfast/ws"
)

// register makes c its station's connection. The newest authenticated one wins:
// an older one here is let go, one on another gateway is told by the event.
func (g *Gateway) register(c *conn) error {
	sub, err := g.cfg.Bus.Attach(c.id)
	if err != nil {
		return err
	}
	key := c.id.Fold()
	g.mu.Lock()
	// A hybrid clock: later than any connection that this gateway has heard of,
	// even if another gateway's clock is ahead.
	g.epoch = max(g.epoch+1, uint64(time.Now().UnixMicro()))
	c.epoch, c.attachment = g.epoch, sub
	old := g.conns.get(key)
	g.conns.set(key, c)
	g.metrics.opened(c)
	if old != nil {
		g.metrics.closed(old)
	}
	event := c.connected()
	g.mu.Unlock()
	if old != nil {
		old.evict(closeReplaced)
	}
	g.cfg.Publish(&event)
	return nil
}

// unregister takes c out of the registry, if it is still in it, and reports
// whether it was. What is under the station's identity by now may be another
// connection.
func (g *Gateway) unregister(c *conn) bool {
	key := c.id.Fold()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns.get(key) != c {
		return false
	}
	g.conns.delete(key)
	g.metrics.closed(c)
	return true
}

// Taken tells g that a gateway registered a station: an older connection of it
// here is let go.
func (g *Gateway) Taken(event ocpp.Connected) {
	if event.Gateway == g.cfg.ID {
		return
	}
	key := event.Station.Fold()
	g.mu.Lock()
	g.epoch = max(g.epoch, event.Epoch)
	c := g.conns.get(key)
	if c == nil || c.epoch >= event.Epoch {
		g.mu.Unlock()
		return
	}
	g.conns.delete(key)
	g.metrics.closed(c)
	g.mu.Unlock()
	c.evict(closeReplaced)
}

// evict ends a connection that is out of the registry already. Its pending
// CALLs fail now; its peer is usually dead, so nobody waits for it.
func (c *conn) evict(reason ws.CloseReason) {
	c.retire()
	c.ws.Close(closeTakenOver, "replaced by a newer connection", reason)
}
