package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// maxQueue bounds the messages other than transaction messages that wait for
// the CALL in flight to be answered.
const maxQueue = 256

// What became of a CALL that got no CALLRESULT and no CALLERROR.
var (
	errOffline   = errors.New("station is offline")
	errTimeout   = errors.New("no answer in time")
	errQueueFull = errors.New("too many messages waiting")
)

// message is one CALL of a station, from the wish to send it to its answer.
type message struct {
	action string
	// payload is encoded at the first sending, by make if that is set: a 1.6
	// StopTransaction needs the id that the answer to its StartTransaction brings.
	// A repetition has the same content.
	payload json.RawMessage
	make    func() any
	id      ocpp.MessageID
	early   bool // may be sent before the station is registered
	kept    bool // waits for the next connection if need be
	tx      *txPart
	due     time.Duration // when its cause came, see CallRecord
	sent    time.Duration
	tries   int
	done    func(result json.RawMessage, err error) // nil: nobody cares
}

func (m *message) unanswered(err error) {
	if m.tx == nil && m.done != nil {
		m.done(nil, err)
	}
}

// call sends a CALL as soon as the one in flight is answered. It is lost with the
// connection, and done learns so.
func (s *station) call(action string, payload any, done func(json.RawMessage, error)) {
	s.enqueue(&message{action: action, payload: encode(payload), done: done})
}

// callEarly is call for a station that is not registered yet.
func (s *station) callEarly(action string, payload any, done func(json.RawMessage, error)) {
	s.enqueue(&message{action: action, payload: encode(payload), done: done, early: true})
}

func (s *station) enqueue(m *message) {
	m.due = s.cause()
	switch {
	case s.conn == nil && !m.kept:
		m.unanswered(errOffline)
	case len(s.queue) >= maxQueue:
		s.f.stats.fail(errorQueueFull)
		m.unanswered(errQueueFull)
	default:
		s.queue = append(s.queue, m)
	}
}

// callTransaction keeps a transaction message until it is answered, in order
// (OCPP 1.6 §4.1, 2.x E04). If the backlog is full, every second meter value
// makes room, never a start or a stop.
func (s *station) callTransaction(m *message) {
	m.due = s.cause()
	if len(s.backlog) >= s.f.cfg.QueueLimit {
		kept, drop := s.backlog[:0], false
		for i, old := range s.backlog {
			if old.tx.kind == partUpdate && !(i == 0 && s.open == old) {
				if drop = !drop; drop {
					s.f.stats.queued.Add(-1)
					s.f.stats.fail(errorQueueFull)
					continue
				}
			}
			kept = append(kept, old)
		}
		clear(s.backlog[len(kept):])
		s.backlog = kept
	}
	s.backlog = append(s.backlog, m)
	s.f.stats.queued.Add(1)
}

// cause is when what is being done was to be done.
func (s *station) cause() time.Duration {
	if s.due > 0 {
		return s.due
	}
	return s.f.elapsed()
}

// full reports whether the backlog has no room for another transaction: with no
// more transactions begun, their starts and ends cannot grow it without bound.
func (s *station) full() bool { return len(s.backlog) >= s.f.cfg.QueueLimit }

// pump sends the next message if none is in flight. Transaction messages keep
// their order among themselves; where others wait, too, they take turns, so that
// neither a long backlog holds up a driver nor status reports the backlog.
func (s *station) pump() {
	for s.conn != nil && s.open == nil && !s.conn.mute.Load() {
		m := s.next()
		if m == nil {
			return
		}
		if m.payload == nil {
			m.payload = encode(m.make())
		}
		if s.quirks != 0 && m.tries == 0 {
			m.payload = s.twist(m.action, m.payload)
		}
		m.id = s.newID() // also for a repetition: its first sending may still be answered late
		m.tries++
		m.sent = s.f.elapsed()
		m.due = max(m.due, s.since, s.resendAt)
		s.open = m
		s.f.stats.outstanding.Add(1)
		s.f.stats.sent.Add(1)
		s.schedule(taskCallTimeout, 0, m.sent+s.f.cfg.CallTimeout)
		s.write(ocpp.AppendCall(nil, m.id, m.action, m.payload, false))
		s.sendTwice(m)
	}
}

func (s *station) next() *message {
	kept := s.nextKept()
	if kept != nil && s.keptFirst {
		s.keptFirst = false
		return kept
	}
	for i, m := range s.queue {
		if m.early || s.state == accepted {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			if len(s.queue) == 0 {
				s.queue = nil
			}
			s.keptFirst = kept != nil
			return m
		}
	}
	return kept
}

// nextKept is the transaction message that may be sent now; nil: none.
func (s *station) nextKept() *message {
	if s.state != accepted || len(s.backlog) == 0 {
		return nil
	}
	if now := s.f.elapsed(); s.resendAt > now {
		s.schedule(taskResend, 0, s.resendAt)
		return nil
	}
	return s.backlog[0]
}

func (s *station) write(frame []byte) {
	if s.conn == nil || s.conn.mute.Load() {
		return
	}
	if err := s.conn.write(opText, frame); err != nil {
		s.lost(err)
	}
}

// callTimedOut gives up waiting for an answer. A late one is ignored.
func (s *station) callTimedOut() {
	if s.open == nil {
		return
	}
	s.f.stats.fail(errorTimeout)
	s.answered(nil, errTimeout)
}

// answered ends the CALL in flight.
func (s *station) answered(result json.RawMessage, err error) {
	m := s.open
	s.open = nil
	s.answering = m.id
	s.cancel(taskCallTimeout, 0)
	s.f.stats.outstanding.Add(-1)
	s.recordCall(m, err)
	if err != nil {
		s.f.log.Debug("call not answered well", "station", s.id.ID, "action", m.action, "message_id", m.id, "err", err)
	}
	if m.tx == nil {
		if m.done != nil {
			m.done(result, err)
		}
		return
	}
	now := s.f.elapsed()
	if err != nil && m.tries < s.resendAttempts() {
		s.resendAt = now + time.Duration(m.tries)*s.resendInterval()
		return
	}
	s.backlog = s.backlog[1:]
	if len(s.backlog) == 0 {
		s.backlog = nil
	}
	s.resendAt = 0
	if err != nil {
		s.f.stats.fail(errorDiscarded)
	} else {
		s.f.ledger.acknowledge(m.tx)
	}
	if m.done != nil {
		m.done(result, err)
	}
	s.f.stats.queued.Add(-1)
}

// handle deals with one OCPP-J message.
func (s *station) handle(data []byte) {
	if s.quirks.has(NoFractions) && fractions.Match(data) {
		s.lost(errFraction)
		return
	}
	frame, bad := ocpp.Parse(data)
	if bad != nil {
		s.f.stats.fail(errorProtocol)
		s.f.log.Warn("server sent a malformed message", "station", s.id.ID, "message_id", bad.ID, "err", bad)
		if bad.Type == ocpp.TypeCall || bad.Type == 0 && s.id.Version.Is2x() {
			s.write(ocpp.AppendError(nil, s.id.Version, bad.ID, &ocpp.Error{Code: bad.Code, Description: bad.What}))
		}
		return
	}
	switch frame.Type {
	case ocpp.TypeCall:
		s.answer(frame)
	case ocpp.TypeResult, ocpp.TypeError:
		if s.open == nil || s.open.id != frame.ID {
			s.f.stats.fail(errorStray)
			return
		}
		s.f.stats.callTime.add(s.f.elapsed() - min(s.open.due, s.open.sent))
		if frame.Type == ocpp.TypeError {
			s.f.stats.fail(errorCall)
			s.answered(nil, frame.Err)
			return
		}
		s.answered(append(json.RawMessage(nil), frame.Payload...), nil)
	}
}

// answer answers a CALL of the server.
func (s *station) answer(frame ocpp.Frame) {
	s.f.stats.commands.Add(1)
	if err := s.minds(); err != nil {
		s.lost(err)
		return
	}
	if s.deaf() {
		return
	}
	if s.state == rejected {
		if s.id.Version.Is2x() { // B03.FR.08; 1.6 stays silent
			s.refuse(frame.ID, &ocpp.Error{Code: ocpp.SecurityError, Description: "not registered"})
		}
		return
	}
	command, known := s.speaks.commands[frame.Action]
	if !known {
		s.refuse(frame.ID, &ocpp.Error{Code: ocpp.NotImplemented, Description: "unknown action"})
		return
	}
	s.after = nil
	reply, err := command(s, frame.Payload)
	if err != nil {
		s.refuse(frame.ID, err)
		return
	}
	s.f.stats.sent.Add(1)
	s.sendAnswer(ocpp.AppendResult(nil, frame.ID, encode(reply)))
	follow := s.after
	s.after = nil
	for _, f := range follow {
		f()
	}
}

func (s *station) refuse(id ocpp.MessageID, e *ocpp.Error) {
	s.f.stats.sent.Add(1)
	s.write(ocpp.AppendError(nil, s.id.Version, id, e))
}

// then does f once the answer to the CALL being handled is written: a station
// answers first and acts afterwards (OCPP 2.0.1 FR.05).
func (s *station) then(f func()) { s.after = append(s.after, f) }

// command handles one action that the server may call.
type command func(s *station, payload json.RawMessage) (reply any, err *ocpp.Error)

// on makes a command of a function of the decoded request.
func on[Request any](handle func(*station, Request) any) command {
	return func(s *station, payload json.RawMessage) (any, *ocpp.Error) {
		var request Request
		if err := json.Unmarshal(payload, &request); err != nil {
			code := ocpp.FormatViolation
			if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				code = ocpp.TypeConstraintViolation
			}
			return nil, &ocpp.Error{Code: code, Description: err.Error()}
		}
		return handle(s, request), nil
	}
}

// decode reads an answer; what cannot be decoded is the server's fault.
func decode[T any](s *station, action string, result json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(result, &v); err != nil {
		s.f.stats.fail(errorProtocol)
		s.f.log.Warn("server sent an invalid answer", "station", s.id.ID, "action", action, "message_id", s.answering, "err", err)
		if s.id.Version == ocpp.V21 { // part 4, FR.06
			s.write(ocpp.AppendResultError(nil, s.answering, &ocpp.Error{Code: ocpp.FormatViolation, Description: err.Error()}))
		}
		return v, fmt.Errorf("answer to %s: %w", action, err)
	}
	return v, nil
}

func encode(payload any) json.RawMessage {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err) // our own structs always encode
	}
	return b
}
