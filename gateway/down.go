package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/ocpp"
)

const (
	maxCalls    = 16 // CALLs to one station, the one in flight included
	maxTimeouts = 3  // CALLs in a row without answer, after which the connection is closed
)

// result is what became of a CALL to a station.
type result struct {
	payload json.RawMessage
	err     error
}

// pending is one CALL to a station, in flight or waiting for its turn.
type pending struct {
	turn chan struct{} // capacity 1: your turn, or look again whether you may send
	done chan result   // capacity 1

	once sync.Once
	id   ocpp.MessageID // empty until sent; guarded by conn.mu
}

// finish reports whether r is the first result.
func (p *pending) finish(r result) (first bool) {
	p.once.Do(func() {
		p.done <- r
		first = true
	})
	return first
}

func (p *pending) wake() {
	select {
	case p.turn <- struct{}{}:
	default:
	}
}

// call sends one CALL to the station and waits for its answer. At most one is
// in flight (OCPP 2.0.1 part 4 §4.1.1); the direction up is independent of it.
func (c *conn) call(ctx context.Context, call ocpp.Call) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, c.g.cfg.CallTime)
	defer cancel()
	p := &pending{turn: make(chan struct{}, 1), done: make(chan result, 1)}
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil, ocpp.ErrOffline
	}
	q := c.busy()
	if len(q.calls) >= maxCalls {
		c.mu.Unlock()
		return nil, ocpp.ErrBusy
	}
	q.calls = append(q.calls, p)
	c.mu.Unlock()
	defer c.leave(p)

	if err := c.awaitTurn(ctx, p); err != nil {
		return nil, err
	}
	id := ocpp.MessageID(rand.Text()) // unique over all connections of the station (2.0.1 part 4 §4.1.4)
	c.mu.Lock()
	p.id = id
	c.mu.Unlock()
	if err := c.send(ocpp.AppendCall(nil, id, call.Action, call.Payload, false)); err != nil {
		return nil, fmt.Errorf("%w: %w", ocpp.ErrConnectionLost, err)
	}
	select {
	case r := <-p.done:
		return r.payload, r.err
	case <-ctx.Done():
		c.timedOut()
		return nil, ocpp.ErrTimeout
	}
}

// awaitTurn waits until p is the first of the station's CALLs, the station has
// had its own first CALL answered (several break otherwise), and the station's
// gap between CALLs has passed.
func (c *conn) awaitTurn(ctx context.Context, p *pending) error {
	for {
		c.mu.Lock()
		first := c.current() == p
		var wait time.Duration
		if !c.answered {
			wait = time.Until(c.start().Add(c.hold.duration()))
		}
		if gap := time.Until(time.UnixMilli(c.lastCall).Add(c.gap.duration())); c.gap > 0 && gap > wait {
			wait = gap
		}
		c.mu.Unlock()
		if first && wait <= 0 {
			return nil
		}
		var later <-chan time.Time
		if first {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			later = timer.C
		}
		select {
		case <-p.turn:
		case <-later:
		case r := <-p.done:
			return r.err
		case <-ctx.Done():
			return ocpp.ErrTimeout
		}
	}
}

// leave takes p out of the queue and wakes the next one.
func (c *conn) leave(p *pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.id != "" {
		c.lastCall = time.Now().UnixMilli()
	}
	if q := c.queues; q != nil {
		if i := slices.Index(q.calls, p); i >= 0 {
			q.calls = slices.Delete(q.calls, i, i+1)
		}
	}
	c.idle()
	if next := c.current(); next != nil {
		next.wake()
	}
}

// deliver hands an answer to the CALL in flight and reports whether there was
// one with that id. Late, doubled and unknown answers are dropped and counted.
func (c *conn) deliver(id ocpp.MessageID, r result) bool {
	c.mu.Lock()
	c.timeouts = 0
	p := c.current()
	if p != nil && p.id != id {
		p = nil
	}
	c.mu.Unlock()
	if p == nil || !p.finish(r) {
		c.g.metrics.bad.WithLabelValues("unknown_answer").Inc()
		return false
	}
	return true
}

// timedOut counts a CALL without answer. A station that is alive on the
// WebSocket but answers nothing recovers by connecting again.
func (c *conn) timedOut() {
	c.mu.Lock()
	c.timeouts++
	n := c.timeouts
	c.mu.Unlock()
	if n >= maxTimeouts {
		c.ws.Close(closeGoingAway, "calls stay without answer", closeUnresponsive)
	}
}
