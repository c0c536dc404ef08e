package fleet

import (
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"holdfast/ocpp"
)

// quirks is a set of the faults that are habits.
type quirks uint64

const _ = uint(64 - (faultCount - firstHabit)) // all of them have room

func (q quirks) has(f Fault) bool { return q&(1<<(f-firstHabit)) != 0 }

func quirksOf(list []Fault) (q quirks) {
	for _, f := range list {
		q |= 1 << (f - firstHabit)
	}
	return q
}

// What the habits' names promise.
const (
	needsPingsFor   = 30 * time.Second
	slowReturnAfter = 5 * time.Minute
	fastCall        = 200 * time.Millisecond
	rareHeartbeat   = 12 * time.Hour
	lateBy          = 5 * time.Second
	earlyBoot       = 300 * time.Millisecond // until a station that drops early CALLs boots
	aheadOfUTC      = 2 * time.Hour
	clockBehind     = time.Hour
	slowRead        = 100 * time.Millisecond
	slowWrite       = 5 * time.Millisecond
	smallPiece      = 32 // bytes
	stormOfEvents   = 50
)

// Why stations with habits drop their connection.
var (
	errEarlyCall = errors.New("a CALL before the answer to BootNotification")
	errFastCall  = errors.New("two CALLs too fast")
	errPinged    = errors.New("a ping")
	errUnpinged  = errors.New("no ping for too long")
	errFraction  = errors.New("a time with a fraction of a second")
)

// habits is the state of stations with such quirks.
type habits struct {
	deaf     *conn // answers no CALL of this connection
	leftOpen *conn // and unread
	lastCall time.Duration
	late     []lateAnswer // oldest first
	lastEnd  *message     // of a transaction
}

type lateAnswer struct {
	at     time.Duration
	answer []byte
}

// maxLate bounds the answers that a station has not sent yet.
const maxLate = 64

// tlsQuirks are the quirks that change how a station speaks TLS.
const tlsQuirks = 1<<(NoServerName-firstHabit) | 1<<(StaticRSA-firstHabit) | 1<<(LeafOnly-firstHabit) | 1<<(ClockBehind-firstHabit)

// clientTLS is how a station with TLS quirks speaks TLS.
func (q quirks) clientTLS(base *ClientTLS) *ClientTLS {
	var options ClientTLS
	if base != nil {
		options = *base
	}
	options.NoSNI = options.NoSNI || q.has(NoServerName)
	options.LeafOnly = options.LeafOnly || q.has(LeafOnly)
	if q.has(StaticRSA) {
		options.MaxVersion, options.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	}
	if q.has(ClockBehind) {
		options.behind = clockBehind
	}
	return &options
}

// clock is the station's time of day, see Fleet.clock.
func (s *station) clock(at time.Duration) time.Time {
	t := s.f.clock(at)
	switch {
	case s.quirks == 0:
	case s.quirks.has(LocalTime):
		return t.Add(aheadOfUTC)
	case s.quirks.has(ClockBehind):
		return t.Add(-clockBehind)
	case s.quirks.has(EpochClock):
		return time.Unix(0, 0).UTC().Add(t.Sub(s.f.start)).Truncate(time.Millisecond)
	}
	return t
}

// presents changes what a station with quirks presents when it connects.
func (h *handshake) presents(s *station) {
	switch q := s.quirks; {
	case q.has(NoVersion) && s.id.Version == ocpp.V16:
		h.protocols, h.want = "", ""
	case q.has(HexPassword) && s.id.Version == ocpp.V16:
		h.password = hex.EncodeToString([]byte(h.password))
	}
}

// leaveOpen leaves a connection open and unread, instead of the last such one.
func (s *station) leaveOpen(c *conn) {
	s.endLeftOpen()
	s.more().habits.leftOpen = c
}

func (s *station) endLeftOpen() {
	if s.extra != nil && s.extra.habits.leftOpen != nil {
		s.extra.habits.leftOpen.reset()
		s.extra.habits.leftOpen = nil
	}
}

// minds reports whether the station drops its connection because of a CALL, and
// leaves reports whether it gives no answer.
func (s *station) minds() error {
	switch q := s.quirks; {
	case q.has(DropsEarlyCalls) && s.state == unregistered:
		return errEarlyCall
	case q.has(DropsFastCalls):
		h, now := &s.more().habits, s.f.elapsed()
		last := h.lastCall
		if h.lastCall = now; last > 0 && now-last < fastCall {
			return errFastCall
		}
	}
	return nil
}

func (s *station) deaf() bool {
	return s.quirks.has(DeafToCalls) || s.extra != nil && s.extra.habits.deaf != nil && s.extra.habits.deaf == s.conn
}

// sendAnswer sends an answer in the way that the station has.
func (s *station) sendAnswer(answer []byte) {
	if s.quirks.has(LateAnswers) {
		h := &s.more().habits
		if len(h.late) < maxLate {
			h.late = append(h.late, lateAnswer{s.f.elapsed() + lateBy, answer})
		}
		s.schedule(taskLate, 0, h.late[0].at)
		return
	}
	s.write(answer)
	if s.quirks.has(DoubledAnswers) {
		s.write(answer)
	}
}

// sendLate sends the answers that are due.
func (s *station) sendLate() {
	h := &s.more().habits
	for len(h.late) > 0 && h.late[0].at <= s.f.elapsed() {
		s.write(h.late[0].answer)
		h.late = h.late[1:]
	}
	if len(h.late) == 0 {
		h.late = nil
		return
	}
	s.schedule(taskLate, 0, h.late[0].at)
}

// sendTwice repeats a message, if that is what the station does; the answer to
// the repetition is a stray one.
func (s *station) sendTwice(m *message) {
	if m.tx == nil || m.tries > 1 || s.conn == nil {
		return
	}
	id := m.id
	switch start, end := m.tx.kind == partStart, m.tx.kind == partEnd; {
	case start && s.quirks.has(DoubledStart), end && s.quirks.has(DoubledStop):
		id = s.newID()
	case start && s.quirks.has(RepeatedID):
	default:
		if end && s.quirks.has(StopAgain) {
			s.more().habits.lastEnd = m
		}
		return
	}
	s.f.stats.sent.Add(1)
	s.write(ocpp.AppendCall(nil, id, m.action, m.payload, false))
}

// connectedQuirks does what some stations do on every connection.
func (s *station) connectedQuirks() {
	q := s.quirks
	if (q.has(AlwaysBoots) || q.has(DropsEarlyCalls)) && s.bootReason == "" {
		s.bootReason = "Unknown"
	}
	if q.has(NeedsPings) {
		s.conn.pingedAt = time.Now()
		s.schedule(taskUnpinged, 0, s.f.elapsed()+s.f.cfg.needsPings)
	}
	if q.has(StopAgain) && s.extra != nil {
		if m := s.extra.habits.lastEnd; m != nil {
			s.call(m.action, json.RawMessage(m.payload), nil)
		}
	}
}

// unpinged drops the connection if the server has not pinged for too long.
func (s *station) unpinged() {
	if s.conn == nil {
		return
	}
	rest := s.f.cfg.needsPings - time.Since(s.conn.pingedAt)
	if rest <= 0 {
		s.lost(errUnpinged)
		return
	}
	s.schedule(taskUnpinged, 0, s.f.elapsed()+rest)
}
