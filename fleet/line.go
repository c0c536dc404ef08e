package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"holdfast/ocpp"
)

// Line is one connection of a station, apart from a running fleet: whoever
// opened it says what is sent. Pings are answered, the server's CALLs with
// NotSupported. Its methods may be called from any goroutine; end it with Close
// or Cut.
type Line struct {
	s     *station
	c     *conn
	ended chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	sent    uint64
	waiting map[ocpp.MessageID]chan error
	err     error // why it ended
}

// Open makes one attempt to connect as a station. The error is *Refused for an
// HTTP answer other than 101.
func (f *Fleet) Open(ctx context.Context, id ocpp.StationID) (*Line, error) {
	s, ok := f.byID[id.Fold()]
	if !ok {
		return nil, fmt.Errorf("fleet: no station %s", id)
	}
	c, br, err := f.open(ctx, s.handshake())
	if err != nil {
		return nil, fmt.Errorf("station %s: %w", id, err)
	}
	l := &Line{s: s, c: c, ended: make(chan struct{}), waiting: make(map[ocpp.MessageID]chan error)}
	go l.run(br)
	return l, nil
}

// run reads until the connection ends. Close, Cut and the server end it.
func (l *Line) run(br *bufio.Reader) {
	defer close(l.ended)
	defer func() { br.Reset(nil); readers.Put(br) }()
	var err error
	for err == nil {
		var data []byte
		if data, err = l.c.readMessage(br); data != nil {
			l.take(data)
		}
	}
	l.c.hangUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	for id, answer := range l.waiting {
		answer <- fmt.Errorf("connection ended: %w", err)
		delete(l.waiting, id)
	}
}

// take hands an answer to the CALL that waits for it.
func (l *Line) take(data []byte) {
	frame, bad := ocpp.Parse(data)
	if bad != nil {
		return
	}
	switch frame.Type {
	case ocpp.TypeCall:
		if l.c.mute.Load() {
			return
		}
		l.c.write(opText, ocpp.AppendError(nil, l.s.id.Version, frame.ID, &ocpp.Error{Code: ocpp.NotSupported}))
	case ocpp.TypeResult, ocpp.TypeError:
		l.mu.Lock()
		answer := l.waiting[frame.ID]
		delete(l.waiting, frame.ID)
		l.mu.Unlock()
		if answer == nil {
			return
		}
		if frame.Err != nil {
			answer <- frame.Err
			return
		}
		answer <- nil
	}
}

// call sends a CALL and waits for its answer, at most Config.CallTimeout. A
// CALLERROR is an *ocpp.Error.
func (l *Line) call(ctx context.Context, action string, payload any) error {
	ctx, cancel := context.WithTimeout(ctx, l.s.f.cfg.CallTimeout)
	defer cancel()
	answer := make(chan error, 1)
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return fmt.Errorf("station %s: %s: %w", l.s.id.ID, action, l.err)
	}
	l.sent++
	id := ocpp.MessageID(strconv.FormatUint(l.sent, 10))
	l.waiting[id] = answer
	l.mu.Unlock()
	err := l.c.write(opText, ocpp.AppendCall(nil, id, action, encode(payload), false))
	if err == nil {
		select {
		case err = <-answer:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == nil {
		return nil
	}
	l.mu.Lock()
	delete(l.waiting, id)
	l.mu.Unlock()
	return fmt.Errorf("station %s: %s: %w", l.s.id.ID, action, err)
}

// Boot sends a BootNotification and waits for its answer, whatever that says.
func (l *Line) Boot(ctx context.Context) error {
	return l.answered(ctx, "BootNotification", l.s.speaks.boot(l.s))
}

// Heartbeat sends a Heartbeat and waits for its answer.
func (l *Line) Heartbeat(ctx context.Context) error {
	return l.answered(ctx, "Heartbeat", struct{}{})
}

// Status sends the StatusNotification of the first connector and waits for its
// answer.
func (l *Line) Status(ctx context.Context) error {
	return l.answered(ctx, "StatusNotification", l.s.speaks.statusNotification(l.s, 0, time.Now()))
}

// answered is call where a CALLERROR is an answer as good as any.
func (l *Line) answered(ctx context.Context, action string, payload any) error {
	err := l.call(ctx, action, payload)
	if _, ok := errors.AsType[*ocpp.Error](err); ok {
		return nil
	}
	return err
}

// Send sends a DataTransfer with so many bytes of data and does not wait.
func (l *Line) Send(size int) error {
	data := make([]byte, size)
	for i := range data {
		data[i] = 'x'
	}
	payload, _ := json.Marshal(map[string]string{"vendorId": "Holdfast", "data": string(data)}) // always encodes
	return l.c.write(opText, ocpp.AppendCall(nil, "large", "DataTransfer", payload, false))
}

// FallSilent answers nothing any more, as a station behind a NAT that forgot it.
func (l *Line) FallSilent() error { return l.c.fallSilent() }

// Ended is closed when the connection has ended.
func (l *Line) Ended() <-chan struct{} { return l.ended }

// Close ends the connection with a close frame and waits until the server has
// closed its side, three seconds at most.
func (l *Line) Close() {
	if l.c.writeClose(closeNormal, "") == nil {
		select {
		case <-l.ended:
			return
		case <-time.After(closeTimeout):
		}
	}
	l.Cut()
}

// Cut ends the connection with a TCP RST.
func (l *Line) Cut() {
	l.c.reset()
	<-l.ended
}
