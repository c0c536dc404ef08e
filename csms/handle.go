package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// repeated are the actions that a station sends again after a CALLERROR: OCPP
// wants it of transaction messages and of the boot. What the record cannot take
// now is answered InternalError there; for all else the station is told nothing.
var repeated = map[string]bool{
	"BootNotification": true, "StartTransaction": true, "StopTransaction": true, "MeterValues": true, "TransactionEvent": true,
}

// Handle answers a station's CALL: an ocpp.CallFunc. It answers after the commit
// of all that the CALL changes. The caller bounds how many run at a time.
func (c *CSMS) Handle(ctx context.Context, station ocpp.StationID, call ocpp.Call) (payload json.RawMessage, err error) {
	started := c.now()
	ctx, cancel := context.WithTimeout(ctx, c.settings.HandleTimeout)
	defer cancel()
	m := Message{Station: station, Version: call.Version, ID: call.ID, Payload: call.Payload, ReceivedAt: started}
	protocol := c.protocols[call.Version]
	known := false
	if protocol.Lookup != nil {
		m.Action, known = protocol.Lookup(call.Action)
	}
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panics.Inc()
			c.log.Error("handler panicked", "station", station, "action", call.Action, "message_id", call.ID, "err", p, "stack", string(debug.Stack()))
			payload, err = nil, refused(ocpp.InternalError, "internal error")
		}
		c.metrics.handled(ocpp.Up, call.Version, call.Action, known, err, c.now().Sub(started))
	}()
	handler := protocol.Handlers[call.Action]
	switch {
	case !known:
		return nil, refused(ocpp.NotImplemented, "OCPP %s has no action %s", call.Version, clip(call.Action, 64))
	case !m.Action.FromStation || handler == nil:
		return nil, refused(ocpp.NotSupported, "a station does not send %s", call.Action)
	}
	if err := c.admit(ctx, m); err != nil {
		return nil, c.outward(m, err)
	}
	c.seen.add(station.Fold(), started)
	payload, err = handler(ctx, c, m)
	return payload, c.outward(m, err)
}

// outward makes of a rule's error what leaves the process, and logs what does not.
func (c *CSMS) outward(m Message, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*ocpp.Error](err); ok {
		return e
	}
	if more, ok := c.faults.tell(m.ReceivedAt); ok {
		c.log.Error("call not answered", "station", m.Station, "action", m.Action.Name, "message_id", m.ID, "err", err, "more", more)
	}
	switch {
	case errors.Is(err, store.ErrBusy), !repeated[m.Action.Name]:
		return fmt.Errorf("%w: %s", ocpp.ErrUnavailable, m.Action.Name)
	default:
		return refused(ocpp.InternalError, "internal error")
	}
}

// faults lets one log line a second through when the record is away: every
// station's CALL fails then, and the metric counts them.
type faults struct {
	mu   sync.Mutex
	last time.Time
	more int // since the last line
}

func (f *faults) tell(now time.Time) (more int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.last) < time.Second && !f.last.IsZero() {
		f.more++
		return 0, false
	}
	more = f.more
	f.last, f.more = now, 0
	return more, true
}

// admit refuses what a station may not send before it is accepted (OCPP 2.0.1
// B02.FR.09, B03.FR.07; recommended by the errata of 1.6): all but
// BootNotification and what it was asked to send.
func (c *CSMS) admit(ctx context.Context, m Message) error {
	r, err := c.registration(ctx, m)
	if err != nil || r == store.Accepted || m.Action.Name == "BootNotification" {
		return err
	}
	if r == store.Pending && c.settings.tolerates(m.Version) {
		return nil
	}
	if r == store.Pending {
		if allowed, err := c.store.Allowed(ctx, m.Station, m.Action.Name, m.ReceivedAt); err != nil || allowed {
			return err
		}
	}
	return refused(ocpp.SecurityError, "registration is %s", r)
}
