package bus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"holdfast/ocpp"
)

// A CALL to a station may wait minutes for its answer, and NATS does not say
// that the gateway which carries it has died. So the caller asks the station's
// subject now and then whether anybody still carries the CALL.
const (
	headCall  = "I" // names a CALL to a station
	headStill = "Q" // instead of a CALL: is the named one still carried?

	stillEvery = 500 * time.Millisecond
	stillTime  = 2 * time.Second // for the answer; none says nothing
	// maxMisses is how many times in a row nobody may carry the CALL: the answer
	// may be on its way, or a gateway that lost NATS about to be back.
	maxMisses = 3
)

// carried names the CALLs to stations that this process carries now; at most
// maxDown.
type carried struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (c *carried) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = make(map[string]bool)
	}
	c.ids[id] = true
}

func (c *carried) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, id)
}

func (c *carried) has(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[id]
}

// CallStation carries a CALL to a station, whichever gateway holds it.
// ErrOffline says that none does, ErrConnectionLost that the gateway died, or
// the connection ended, before the answer.
func (b *Bus) CallStation(ctx context.Context, station ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
	m := nats.NewMsg("down." + token(station))
	id := rand.Text()
	m.Header[headCall] = []string{id}
	envelope(ctx, m, station, call)
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if b.lost(ctx, m.Subject, id) {
			cancel(ocpp.ErrConnectionLost)
		}
	})
	payload, err := b.exchange(ctx, m, ocpp.ErrOffline)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	cancel(nil)
	watching.Wait()
	return payload, err
}

// lost returns true once nobody carries the CALL any more, false when ctx ends.
func (b *Bus) lost(ctx context.Context, subject, id string) bool {
	tick := time.NewTicker(stillEvery)
	defer tick.Stop()
	for misses := 0; misses < maxMisses; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		switch carried, known := b.still(ctx, subject, id); {
		case carried:
			misses = 0
		case known:
			misses++
		}
	}
	return true
}

// still asks whether anybody carries the CALL. Unknown: the bus is away, or the
// gateway does not get round to answering.
func (b *Bus) still(ctx context.Context, subject, id string) (carried, known bool) {
	ctx, cancel := context.WithTimeout(ctx, stillTime)
	defer cancel()
	m := nats.NewMsg(subject)
	m.Header[headStill] = []string{id}
	reply, err := b.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return false, errors.Is(err, nats.ErrNoResponders)
	}
	return reply.Header.Get(headFault) == "", true
}

// ServeDown hands CALLs to the attached stations to handle until ctx ends.
func (b *Bus) ServeDown(ctx context.Context, handle ocpp.CallFunc) error {
	return serve(ctx, nil, b.down, maxDown, func(m *nats.Msg) {
		if id := m.Header.Get(headStill); id != "" {
			reply := nats.NewMsg(m.Reply)
			if !b.carried.has(id) {
				fault(reply.Header, ocpp.ErrConnectionLost)
			}
			b.nc.PublishMsg(reply)
			return
		}
		id := m.Header.Get(headCall)
		b.carried.add(id)
		defer b.carried.remove(id) // after its answer was published
		b.answer(m, handle)
	})
}
