package fleet

import (
	"errors"
	"time"

	"holdfast/ocpp"
)

// Outcome is how a CALL of a station ended.
type Outcome string

const (
	Answered Outcome = "result"  // CALLRESULT
	Refusing Outcome = "error"   // CALLERROR
	TimedOut Outcome = "timeout" // no answer in Config.CallTimeout
	CutOff   Outcome = "offline" // the connection ended first
)

// CallRecord is what became of one CALL that a station sent. A message that is
// sent again makes another record.
type CallRecord struct {
	Station ocpp.StationID
	ID      ocpp.MessageID
	Action  string
	// Due, Sent and Done count from the beginning of Run. Due is when the CALL was
	// to be sent: when its cause came, or the connection it needs, or the time of
	// its repetition. A station that has to wait for the answer to an earlier CALL
	// sends later than that, so latency counts from Due (no coordinated omission).
	Due, Sent, Done time.Duration
	Outcome         Outcome
	Code            ocpp.ErrorCode // of a CALLERROR
}

// Latency is from the time the CALL was to be sent to its end.
func (r CallRecord) Latency() time.Duration { return r.Done - r.Due }

// ConnectRecord is what became of one attempt to connect.
type ConnectRecord struct {
	Station ocpp.StationID
	Profile ocpp.SecurityProfile
	// Due is when the station was to dial; Began when it did, after it waited for
	// one of Config.Handshakes.
	Due, Began, Done time.Duration
	// Failure is the kind of error as in Stats.Errors; empty: connected.
	Failure string
}

// recordCall tells Config.OnCall what became of m.
func (s *station) recordCall(m *message, err error) {
	record := s.f.cfg.OnCall
	if record == nil {
		return
	}
	r := CallRecord{Station: s.id.ID, ID: m.id, Action: m.action, Due: min(m.due, m.sent), Sent: m.sent, Done: s.f.elapsed(), Outcome: Answered}
	switch refusal, refused := errors.AsType[*ocpp.Error](err); {
	case refused:
		r.Outcome, r.Code = Refusing, refusal.Code
	case errors.Is(err, errTimeout):
		r.Outcome = TimedOut
	case err != nil:
		r.Outcome = CutOff
	}
	record(r)
}

// recordConnect tells Config.OnConnect what became of an attempt.
func (s *station) recordConnect(due, began time.Duration, err error) {
	record := s.f.cfg.OnConnect
	if record == nil || err != nil && s.f.stopping() {
		return
	}
	r := ConnectRecord{Station: s.id.ID, Profile: s.id.Profile, Due: min(due, began), Began: began, Done: s.f.elapsed()}
	if err != nil {
		r.Failure = errorNames[kindOf(err)]
	}
	record(r)
}

// kindOf is the kind of a failed attempt to connect.
func kindOf(err error) errorKind {
	if e, ok := errors.AsType[*connectError](err); ok {
		return e.kind
	}
	return errorDial
}
