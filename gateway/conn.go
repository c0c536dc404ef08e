package gateway

import (
	"context"
	"errors"
	"math"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/ocpp"
	"holdfast/ws"
)

const (
	maxWaiting      = 32      // CALLs of one station that wait while one is answered
	maxWaitingBytes = 1 << 20 // their bytes; past either, nothing more is read from the station
)

// conn is one station's connection: the ws.Session that the gateway gives to
// ws. It has no goroutine while no CALL is open. There is one for every station,
// so its size counts (docs/memory.md): 128 bytes are the next size class of the
// allocator.
type conn struct {
	// Set before Opened, then read-only.
	g         *Gateway
	id        ocpp.StationID // registered spelling
	leaf      [16]byte       // of the client certificate's SHA-256; zero without one
	hold, gap milliseconds   // see Config.HoldCalls; least time between two CALLs to the station
	profile   ocpp.SecurityProfile
	version   versionCode

	// Guarded by mu.
	gone      bool // let go of: nothing it says counts any more
	answering bool // a CALL of the station is being answered
	answered  bool // at least one was
	paused    bool
	timeouts  uint8 // CALLs to the station in a row without an answer

	charging atomic.Bool // seems to be in a transaction: closed last

	mu       sync.Mutex
	queues   *queues // nil while no CALL waits or is open downwards; guarded by mu
	lastCall int64   // when the last CALL to the station ended, Unix milliseconds; guarded by mu

	// Set by Opened.
	ws         *ws.Conn
	epoch      uint64     // guarded by g.mu
	attachment Attachment // read-only once registered
	since      int64      // Unix microseconds; before Opened, when it asked to be admitted
}

// queues are what a connection has only while CALLs are open.
type queues struct {
	waiting []ocpp.Frame // CALLs of the station behind the one being answered
	bytes   int          // their payloads
	calls   []*pending   // CALLs to the station, the first one in flight
}

// busy returns the queues, with c.mu held.
func (c *conn) busy() *queues {
	if c.queues == nil {
		c.queues = &queues{}
	}
	return c.queues
}

// idle lets go of empty queues, with c.mu held.
func (c *conn) idle() {
	if q := c.queues; q != nil && len(q.waiting)+len(q.calls) == 0 {
		c.queues = nil
	}
}

// current returns the CALL to the station that is in flight or next, with c.mu
// held; nil if there is none.
func (c *conn) current() *pending {
	if c.queues == nil || len(c.queues.calls) == 0 {
		return nil
	}
	return c.queues.calls[0]
}

// milliseconds is a duration below 49 days.
type milliseconds uint32

func inMilliseconds(d time.Duration) milliseconds {
	return milliseconds(min(max(d.Milliseconds(), 0), math.MaxUint32))
}

func (m milliseconds) duration() time.Duration { return time.Duration(m) * time.Millisecond }

// versionCode is a version in one byte: its place in ocpp.Versions, from 1; 0 is none.
type versionCode uint8

func codeOf(v ocpp.Version) versionCode { return versionCode(slices.Index(ocpp.Versions, v) + 1) }

func (v versionCode) version() ocpp.Version {
	if v == 0 {
		return ""
	}
	return ocpp.Versions[v-1]
}

func (c *conn) start() time.Time { return time.UnixMicro(c.since).UTC() }

func (c *conn) connected() ocpp.Connected {
	return ocpp.Connected{
		Station: c.id, Gateway: c.g.cfg.ID, Epoch: c.epoch, Version: c.version.version(), Profile: c.profile,
		Remote: c.ws.Info().Remote.Addr().Unmap().String(), At: c.start(),
	}
}

// Opened registers the station, before anything is read from it: a
// BootNotification right behind the upgrade finds everybody listening.
func (c *conn) Opened(w *ws.Conn) {
	asked := c.since
	c.ws, c.since = w, time.Now().UnixMicro()
	if err := c.g.register(c); err != nil {
		c.g.cfg.Logger.Error("register station", "station", c.id, "err", err)
		c.retire()
		w.Close(closeTryAgain, "try again", closeBus)
		return
	}
	if text := c.g.forbidden(c, asked); text != "" { // it came in between
		w.Close(closePolicy, text, CloseRevoked)
		return
	}
	if c.g.draining.Load() { // as above
		w.Close(closeGoingAway, "gateway is shutting down", closeDrain)
	}
}

// Closed is the end of the connection.
func (c *conn) Closed(w *ws.Conn, reason ws.CloseReason) {
	current := c.g.unregister(c)
	c.retire()
	c.g.metrics.close(c.profile, reason)
	ws.Retire(w, objectStation, c)
	if c.ws == nil || c.epoch == 0 {
		return
	}
	c.g.cfg.Logger.Info("disconnected", "station", c.id, "reason", reason, "after", time.Since(c.start()).Round(time.Second))
	if current || reason == closeReplaced {
		c.g.cfg.Publish(&ocpp.Disconnected{Station: c.id, Gateway: c.g.cfg.ID, Epoch: c.epoch, Reason: string(reason), At: time.Now().UTC()})
	}
}

// retire lets go of everything that the connection holds. It may be called twice.
func (c *conn) retire() {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.gone = true
	q := c.queues
	c.queues = nil
	c.mu.Unlock()
	if q != nil {
		for _, p := range q.calls {
			p.finish(result{err: ocpp.ErrConnectionLost})
		}
	}
	if c.attachment != nil {
		c.attachment.Unsubscribe()
	}
}

// Message takes one OCPP-J message of the station.
func (c *conn) Message(w *ws.Conn, data []byte) {
	c.log(ocpp.Up, data)
	f, bad := ocpp.Parse(data)
	if bad == nil && (f.Type == ocpp.TypeResultError || f.Type == ocpp.TypeSend) && c.version.version() != ocpp.V21 {
		bad = &ocpp.FrameError{Type: f.Type, ID: f.ID, Code: ocpp.MessageTypeNotSupported, What: "message type of OCPP 2.1"}
	}
	if bad != nil {
		c.refuse(bad, data)
		return
	}
	switch f.Type {
	case ocpp.TypeCall, ocpp.TypeSend:
		c.enqueue(f)
	case ocpp.TypeResult:
		c.deliver(f.ID, result{payload: f.Payload})
	case ocpp.TypeError:
		c.deliver(f.ID, result{err: f.Err})
	case ocpp.TypeResultError:
		c.g.metrics.bad.WithLabelValues("result_error").Inc()
	}
}

// refuse answers a message that is not OCPP-J, as far as it can be answered.
// The connection stays: one bad message is no reason to lose a station.
func (c *conn) refuse(bad *ocpp.FrameError, data []byte) {
	if s := strings.ToLower(strings.TrimSpace(string(data[:min(len(data), 16)]))); s == "ping" || s == "pong" || s == "" {
		c.g.metrics.bad.WithLabelValues("ping_text").Inc() // some stations ping in text
		return
	}
	c.g.metrics.bad.WithLabelValues(string(bad.Code)).Inc()
	if c.g.refused.Allow() {
		c.g.cfg.Logger.Warn("bad message", "station", c.id, "message_id", bad.ID, "err", bad)
	}
	e := &ocpp.Error{Code: bad.Code, Description: bad.What}
	switch {
	case bad.Code == ocpp.MessageTypeNotSupported && c.version.version() != ocpp.V201:
		// Ignored (OCPP-J 1.6 §4.1.3, 2.1 part 4 §4.1.3); 2.0.1 part 4 §4.4 wants an answer.
	case bad.Type == ocpp.TypeResult || bad.Type == ocpp.TypeError:
		known := c.deliver(bad.ID, result{err: ocpp.ErrInvalidAnswer})
		if known && c.version.version() == ocpp.V21 {
			c.send(ocpp.AppendResultError(nil, bad.ID, e)) // OCPP 2.1 part 4 FR.06
		}
	case bad.ID == "-1" && !c.version.version().Is2x():
		// 1.6 has no answer to a message without an id.
	default:
		c.send(ocpp.AppendError(nil, c.version.version(), bad.ID, e))
	}
}

// enqueue starts answering a CALL, or lets it wait behind the one that is being
// answered. OCPP forbids more than one at a time; some stations send them.
func (c *conn) enqueue(f ocpp.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.hint(f)
	if !c.answering {
		c.answering = true
		c.g.answering.Add(1)
		c.g.running.Go(func() {
			defer c.g.answering.Add(-1)
			pprof.SetGoroutineLabels(answeringLabels)
			c.answer(f)
		})
		return
	}
	q := c.busy()
	q.waiting = append(q.waiting, f)
	q.bytes += len(f.Payload)
	if !c.paused && (len(q.waiting) >= maxWaiting || q.bytes >= maxWaitingBytes) {
		c.paused = true
		c.g.metrics.paused.Inc()
		c.ws.Pause()
	}
}

// RoleAnswering is the role of the goroutines that answer a station's CALL, in
// goroutine profiles (label "role").
const RoleAnswering = "CALL of a station"

var answeringLabels = pprof.WithLabels(context.Background(), pprof.Labels("role", RoleAnswering))

// answer answers CALLs until none waits.
func (c *conn) answer(f ocpp.Frame) {
	for {
		c.answerOne(f)
		c.mu.Lock()
		c.answered = true
		if p := c.current(); p != nil {
			p.wake() // it may have waited for this answer
		}
		q := c.queues
		if c.gone || q == nil || len(q.waiting) == 0 {
			c.answering = false
		} else {
			f, q.waiting = q.waiting[0], q.waiting[1:]
			q.bytes -= len(f.Payload)
		}
		resume := c.paused && (q == nil || len(q.waiting) < maxWaiting/2 && q.bytes < maxWaitingBytes/2)
		c.idle()
		if resume {
			c.paused = false
		}
		more := c.answering
		c.mu.Unlock()
		if resume {
			c.ws.Resume()
		}
		if !more {
			return
		}
	}
}

func (c *conn) answerOne(f ocpp.Frame) {
	ctx, cancel := context.WithTimeout(context.Background(), c.g.cfg.CallTime)
	defer cancel()
	call := ocpp.Call{Version: c.version.version(), ID: f.ID, Action: f.Action, Payload: f.Payload, Send: f.Type == ocpp.TypeSend}
	payload, err := c.g.cfg.Bus.Call(ctx, c.id, call)
	if call.Send {
		return
	}
	if err == nil {
		c.send(ocpp.AppendResult(make([]byte, 0, len(payload)+len(f.ID)+8), f.ID, payload))
		return
	}
	e, ok := errors.AsType[*ocpp.Error](err)
	switch {
	case ok:
		c.send(ocpp.AppendError(nil, c.version.version(), f.ID, e))
	case errors.Is(err, ocpp.ErrUnavailable), errors.Is(err, ocpp.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		// Nothing: the station repeats its message, and loses none.
		c.g.metrics.unanswered.Inc()
	default:
		c.g.cfg.Logger.Error("carry call", "station", c.id, "action", f.Action, "message_id", f.ID, "err", err)
		c.send(ocpp.AppendError(nil, c.version.version(), f.ID, &ocpp.Error{Code: ocpp.InternalError}))
	}
}

// hint guesses whether the station is in a transaction, for the order of a drain.
func (c *conn) hint(f ocpp.Frame) {
	switch f.Action {
	case "StartTransaction":
		c.charging.Store(true)
	case "StopTransaction":
		c.charging.Store(false)
	case "TransactionEvent":
		c.charging.Store(!strings.Contains(string(f.Payload), `"Ended"`))
	}
}

// send writes a message unless the connection was let go of.
func (c *conn) send(frame []byte) error {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone {
		return ocpp.ErrConnectionLost
	}
	c.log(ocpp.Down, frame)
	return c.ws.Send(frame)
}

// maxLogged is how much of a message the message log keeps.
const maxLogged = 64 << 10

func (c *conn) log(direction ocpp.Direction, frame []byte) {
	if c.g.cfg.LogFrame == nil {
		return
	}
	frame = ocpp.Redact(frame)
	c.g.cfg.LogFrame(c.id, direction, frame[:min(len(frame), maxLogged)])
}
