package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"holdfast/ocpp"
)

// Header keys of the envelope. The payload is the message's data, untouched.
const (
	headStation = "S" // registered spelling
	headMessage = "M" // message id
	headAction  = "A"
	headVersion = "V"
	headTime    = "T" // milliseconds left until the caller gives up
	headCode    = "E" // of a CALLERROR; its details are the data
	headText    = "D" // its description
	headFault   = "F" // what became of the CALL instead; see faults
)

// faults are the outcomes of a CALL that are not answers, by their name on the bus.
var faults = map[string]error{
	"offline":     ocpp.ErrOffline,
	"timeout":     ocpp.ErrTimeout,
	"unavailable": ocpp.ErrUnavailable,
	"lost":        ocpp.ErrConnectionLost,
	"busy":        ocpp.ErrBusy,
	"invalid":     ocpp.ErrInvalidAnswer,
}

// Call carries a station's CALL to a csms and returns its answer: an
// ocpp.CallFunc. ErrUnavailable says that no csms listens, ErrTimeout that none
// answered before ctx ended.
func (b *Bus) Call(ctx context.Context, station ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
	m := nats.NewMsg("up." + versionToken(call.Version) + "." + actionToken(call.Action))
	envelope(ctx, m, station, call)
	if call.Send {
		return nil, b.nc.PublishMsg(m)
	}
	return b.exchange(ctx, m, ocpp.ErrUnavailable)
}

func envelope(ctx context.Context, m *nats.Msg, station ocpp.StationID, call ocpp.Call) {
	m.Data = call.Payload
	m.Header[headStation] = []string{string(station)}
	m.Header[headAction] = []string{call.Action}
	m.Header[headVersion] = []string{string(call.Version)}
	if call.ID != "" {
		m.Header[headMessage] = []string{string(call.ID)}
	}
	if call.Send {
		m.Header["Send"] = []string{"1"}
	}
	if deadline, ok := ctx.Deadline(); ok {
		m.Header[headTime] = []string{strconv.FormatInt(time.Until(deadline).Milliseconds(), 10)}
	}
}

func (b *Bus) exchange(ctx context.Context, m *nats.Msg, nobody error) (json.RawMessage, error) {
	reply, err := b.nc.RequestMsgWithContext(ctx, m)
	switch {
	case err == nil:
	case unavailable(err):
		if errors.Is(err, nats.ErrNoResponders) {
			return nil, nobody
		}
		return nil, fmt.Errorf("%w: %w", ocpp.ErrUnavailable, err)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return nil, ocpp.ErrTimeout
	default:
		return nil, err
	}
	if fault := reply.Header.Get(headFault); fault != "" {
		if err, ok := faults[fault]; ok {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", ocpp.ErrUnavailable, fault)
	}
	if code := reply.Header.Get(headCode); code != "" {
		e := &ocpp.Error{Code: ocpp.ErrorCode(code), Description: reply.Header.Get(headText)}
		if len(reply.Data) > 0 {
			e.Details = reply.Data
		}
		return nil, e
	}
	return reply.Data, nil
}

const (
	maxHandlers = 1024             // CALLs that one process answers at a time
	maxQueued   = 64 * 1024        // CALLs that wait for one of those; NATS drops more, and counts them
	defaultTime = 30 * time.Second // for a CALL whose caller named no deadline
)

// ServeCalls answers stations' CALLs with handle until ctx ends, then finishes
// those that run. Processes that serve share the CALLs.
func (b *Bus) ServeCalls(ctx context.Context, handle ocpp.CallFunc) error {
	ch := make(chan *nats.Msg, maxQueued)
	sub, err := b.nc.ChanQueueSubscribe("up.*.*", "csms", ch)
	if err != nil {
		return fmt.Errorf("subscribe to stations' calls: %w", err)
	}
	ping, err := b.nc.QueueSubscribe("up.ping", "csms", func(m *nats.Msg) { m.Respond(nil) })
	if err != nil {
		return fmt.Errorf("subscribe to pings: %w", err)
	}
	defer ping.Unsubscribe()
	return serve(ctx, sub, ch, maxHandlers, func(m *nats.Msg) { b.answer(m, handle) })
}

// PingCSMS reports whether a csms listens.
func (b *Bus) PingCSMS(ctx context.Context) error {
	_, err := b.nc.RequestWithContext(ctx, "up.ping", nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return ocpp.ErrUnavailable
	}
	return err
}

func (b *Bus) answer(m *nats.Msg, handle ocpp.CallFunc) {
	limit := defaultTime
	if ms, err := strconv.ParseInt(m.Header.Get(headTime), 10, 64); err == nil && ms > 0 && ms < time.Hour.Milliseconds() {
		limit = time.Duration(ms) * time.Millisecond
	}
	// Not the server's context: a CALL that runs when the process stops is finished.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	call := ocpp.Call{
		Version: ocpp.Version(m.Header.Get(headVersion)),
		ID:      ocpp.MessageID(m.Header.Get(headMessage)),
		Action:  m.Header.Get(headAction),
		Payload: m.Data,
		Send:    m.Header.Get("Send") != "",
	}
	payload, err := handle(ctx, ocpp.StationID(m.Header.Get(headStation)), call)
	if m.Reply == "" {
		return
	}
	reply := nats.NewMsg(m.Reply)
	reply.Data = payload
	if err != nil {
		reply.Data = fault(reply.Header, err)
	}
	if err := b.nc.PublishMsg(reply); err != nil && !unavailable(err) {
		b.log.Warn("answer lost", "action", call.Action, "err", err)
	}
}

// fault writes err into the header of a reply and returns the reply's data.
func fault(h nats.Header, err error) []byte {
	if e, ok := errors.AsType[*ocpp.Error](err); ok {
		h[headCode] = []string{string(e.Code)}
		if e.Description != "" {
			h[headText] = []string{oneLine(e.Description)}
		}
		return e.Details
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = ocpp.ErrTimeout
	}
	for name, known := range faults {
		if errors.Is(err, known) {
			h[headFault] = []string{name}
			return nil
		}
	}
	h[headCode] = []string{string(ocpp.InternalError)}
	return nil
}

// oneLine makes s a valid header value.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == '\r' || c == '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}
