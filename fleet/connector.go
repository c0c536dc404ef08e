package fleet

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"holdfast/ocpp"
)

// phase is how far a car's visit at a connector is.
type phase uint8

const (
	free    phase = iota
	plugged       // and the driver is being authorized
	charging
	finishing // the session is over, the car still there
)

// connector is one connector of a 1.6 station, or one EVSE of a 2.x station.
type connector struct {
	random      rand.PCG // used by plan only
	plan        session  // the next visit, or the current one
	phase       phase
	visit       uint32  // counts visits: an answer that comes too late belongs to another
	inoperative bool    // by ChangeAvailability
	reported    string  // the status that was reported last
	register    float64 // energy meter, in Wh
	power       float64 // W, now
	tx          *transaction
}

// transaction is a charging transaction that is running.
type transaction struct {
	entry   *entry // of the ledger
	id      string // made by a 2.x station; given by the 1.6 server, empty until it answered
	tag     string
	seq     int           // next seqNo, 2.x
	began   time.Duration // since Run began
	length  time.Duration // real time
	metered time.Duration // up to when the register is right
	sampled int64         // time of the last sample, Unix milliseconds; no two have the same
}

// partKind says what a transaction message is about.
type partKind uint8

const (
	partStart partKind = iota
	partUpdate
	partEnd
)

// txPart is what a transaction message tells the server, for the ledger.
type txPart struct {
	entry  *entry
	kind   partKind
	seq    int // 2.x
	sample sample
	reason string // of an end
}

func newConnector(seed, own uint64) connector {
	c := connector{random: *rand.NewPCG(seed, own)}
	c.register = float64(1000 + c.random.Uint64()%100_000)
	return c
}

// planVisit draws the next visit of a free connector.
func (s *station) planVisit(i int, now time.Duration) {
	c := &s.connectors[i]
	c.plan = s.f.behave.plan(&c.random)
	if s.f.behave.SessionGap < 0 || s.settled {
		s.cancel(taskConnector, i)
		return
	}
	gap := s.f.behave.wait(time.Duration(float64(now)*s.f.behave.TimeFactor), c.plan.gap)
	s.schedule(taskConnector, i, max(now+s.f.real(gap), s.f.elapsed()+time.Millisecond))
}

// connectorStep does what is due at a connector: a car comes, has charged
// enough, or leaves.
func (s *station) connectorStep(i int, now time.Duration) {
	switch c := &s.connectors[i]; c.phase {
	case free:
		if s.settled {
			return
		}
		if s.state != accepted || s.full() || s.inoperative(i) || s.reservedForOther(i, c.plan.tag) {
			s.planVisit(i, now)
			return
		}
		s.plugIn(i)
		s.authorize(i)
	case charging:
		s.end(i, now, endLocal)
	case finishing:
		s.unplug(i, now)
	}
}

func (s *station) plugIn(i int) {
	c := &s.connectors[i]
	c.phase = plugged
	c.visit++
	s.reportConnector(i)
}

// unplug frees a connector.
func (s *station) unplug(i int, now time.Duration) {
	s.connectors[i].phase = free
	s.reportConnector(i)
	s.planVisit(i, now)
}

// authorize asks the server whether the driver may charge, unless the station
// knows; offline it decides itself (OCPP 1.6 §3.4, §4.2, 2.x AuthCtrlr).
func (s *station) authorize(i int) {
	c := &s.connectors[i]
	visit, tag := c.visit, c.plan.tag
	if s.conn != nil && s.preAuthorized(tag) {
		s.begin(i, start{tag: tag})
		return
	}
	s.call("Authorize", s.speaks.authorize(tag), func(result json.RawMessage, err error) {
		if c.visit != visit || c.phase != plugged {
			return
		}
		if err == nil {
			var info tokenInfo
			if info, err = s.speaks.authorized(s, result); err == nil {
				info.tag = tag
				s.remember(info)
				if info.status != "Accepted" {
					err = errDriver
				}
			}
		}
		if errors.Is(err, errOffline) && s.trusted(tag) {
			err = nil
		}
		if err != nil || s.settled {
			s.unplug(i, s.f.elapsed())
			return
		}
		s.begin(i, start{tag: tag})
	})
}

var errDriver = errors.New("driver not accepted")

// start is how a transaction begins.
type start struct {
	tag      string
	remoteID *int             // of the server that asked for it, 2.x
	profile  *chargingProfile // for it; nil: none
}

// begin starts a transaction at connector i.
func (s *station) begin(i int, how start) {
	c := &s.connectors[i]
	now := s.f.elapsed()
	c.phase = charging
	if how.profile != nil {
		how.profile.connector = i + 1
		s.keepProfile(*how.profile)
	}
	c.tx = &transaction{tag: how.tag, began: now, metered: now, length: max(time.Millisecond, s.f.real(c.plan.length))}
	c.power = s.power(i, now)
	if s.id.Version.Is2x() {
		s.txIDs++
		c.tx.id = s.f.run + "-" + strconv.FormatUint(uint64(s.txIDs), 36)
	}
	first := s.sample(i, now)
	c.tx.entry = s.f.ledger.open(entry{
		station:    s.id.ID,
		version:    s.id.Version,
		id:         c.tx.id,
		connector:  int32(i + 1),
		tag:        how.tag,
		start:      first.at,
		meterStart: first.energy,
	})
	s.useReservation(i, how.tag)
	s.f.stats.transactions.Add(1)
	s.speaks.start(s, i, first, how.remoteID)
	s.reportConnector(i)
	s.schedule(taskConnector, i, now+c.tx.length)
	s.schedule(taskMeter, i, now+s.meterInterval())
}

// endReason is why a transaction ends, as each version names it.
type endReason struct {
	v16             string // reason
	v2x, v2xTrigger string // stoppedReason, triggerReason
}

var (
	endLocal        = endReason{"Local", "Local", "StopAuthorized"}
	endRemote       = endReason{"Remote", "Remote", "RemoteStop"}
	endDeauthorized = endReason{"DeAuthorized", "DeAuthorized", "Deauthorized"}
	endSoftReset    = endReason{"SoftReset", "ImmediateReset", "ResetCommand"}
	endHardReset    = endReason{"HardReset", "ImmediateReset", "ResetCommand"}
	endUnlock       = endReason{"UnlockCommand", "Other", "UnlockCommand"}
)

// end stops the transaction at connector i.
func (s *station) end(i int, now time.Duration, reason endReason) {
	c := &s.connectors[i]
	if c.tx == nil {
		return
	}
	s.cancel(taskMeter, i)
	final := s.sample(i, now)
	c.power = 0
	s.speaks.stop(s, i, final, reason)
	c.tx = nil
	s.endTxProfiles(i)
	c.phase = finishing
	s.f.stats.transactions.Add(-1)
	s.reportConnector(i)
	s.schedule(taskConnector, i, now+s.f.real(s.f.behave.UnplugDelay))
	if s.resetWhenIdle && !s.busy() {
		s.resetWhenIdle = false
		s.restart(rebootScheduled)
	}
}

// meterStep reports a meter value of the running transaction.
func (s *station) meterStep(i int, now time.Duration) {
	c := &s.connectors[i]
	if c.tx == nil {
		return
	}
	if s.meterInterval() <= 0 { // switched off by the server
		return
	}
	s.speaks.meter(s, i, s.sample(i, now))
	s.schedule(taskMeter, i, max(now+s.meterInterval(), s.f.elapsed()))
}

// sample reads the meter of connector i: the register grows by the mean of the
// power at both ends of the time since the last reading.
func (s *station) sample(i int, now time.Duration) sample {
	c := &s.connectors[i]
	now = max(now, c.tx.metered) // a task may be late, and something else have read the meter
	power := s.power(i, now)
	hours := float64(now-c.tx.metered) * s.f.behave.TimeFactor / float64(time.Hour)
	c.register += (c.power + power) / 2 * hours
	c.power, c.tx.metered = power, now
	c.tx.sampled = max(s.clock(now).UnixMilli(), c.tx.sampled+1)
	return sample{at: c.tx.sampled, energy: int32(c.register), power: int32(power)}
}

// reportConnector sends the connector's status if it changed. Offline, the last
// one is reported after the reconnect.
func (s *station) reportConnector(i int) {
	c := &s.connectors[i]
	status := s.speaks.status(s, i)
	if c.reported == status || s.conn == nil || s.state != accepted {
		return
	}
	c.reported = status
	s.sendStatus(i, false)
}

// sendStatus reports connector i; 1.6 numbers the station itself 0, here -1.
func (s *station) sendStatus(i int, early bool) {
	payload := s.speaks.statusNotification(s, i, s.clock(s.f.elapsed()))
	if early {
		s.callEarly("StatusNotification", payload, nil)
		return
	}
	s.call("StatusNotification", payload, nil)
}

// reportConnectors reports every connector, or those whose status changed.
func (s *station) reportConnectors(all bool) {
	if all && s.id.Version == ocpp.V16 {
		s.sendStatus(-1, false)
	}
	for i := range s.connectors {
		if all {
			s.connectors[i].reported = ""
		}
		s.reportConnector(i)
	}
}

// busy reports whether a transaction runs.
func (s *station) busy() bool {
	for i := range s.connectors {
		if s.connectors[i].tx != nil {
			return true
		}
	}
	return false
}

// settle ends every session for good. A silent station finds its network working
// again; one that would come back later, by its back-off, tries now.
func (s *station) settle() {
	s.settled = true
	if s.conn != nil && s.conn.mute.Load() {
		s.abandon()
	}
	now := s.f.elapsed()
	for i := range s.tasks {
		if s.tasks[i].kind == taskConnect {
			s.tasks[i].at = min(s.tasks[i].at, now)
		}
	}
	for i := range s.connectors {
		switch s.connectors[i].phase {
		case free:
			s.cancel(taskConnector, i)
		case plugged:
			s.unplug(i, now)
		case charging:
			s.end(i, now, endLocal)
		}
	}
}

// connectorOf finds the running transaction with this id; -1 if there is none.
func (s *station) connectorOf(transactionID string) int {
	for i := range s.connectors {
		if tx := s.connectors[i].tx; tx != nil && tx.id != "" && tx.id == transactionID {
			return i
		}
	}
	return -1
}

// startRemotely begins a transaction that the server asked for, at the given
// connector (1 up) or, if that is 0, at the first free one, and reports whether
// it will. It starts after the answer.
func (s *station) startRemotely(connector int, how start) bool {
	if s.state != accepted || s.full() || s.settled || connector < 0 || connector > len(s.connectors) {
		return false // B02: not before registration
	}
	for i := range s.connectors {
		c := &s.connectors[i]
		if connector != 0 && connector != i+1 {
			continue
		}
		if c.phase != free || s.inoperative(i) || s.reservedForOther(i, how.tag) {
			continue
		}
		c.phase = plugged // taken, even before the answer is written
		c.visit++
		if s.f.behave.SessionGap < 0 {
			c.plan = s.f.behave.plan(&c.random)
		}
		s.then(func() {
			s.reportConnector(i)
			s.begin(i, how)
		})
		return true
	}
	return false
}

// changeAvailability applies to connector i, or to all if i is -1. A transaction
// that runs or is about to delays it (status Scheduled: OCPP 1.6 §5.2, 2.x
// ChangeAvailability); a car that only stands there does not.
func (s *station) changeAvailability(i int, operative bool) string {
	status := "Accepted"
	for j := range s.connectors {
		if i >= 0 && i != j {
			continue
		}
		c := &s.connectors[j]
		c.inoperative = !operative
		if (c.phase == plugged || c.phase == charging) && !operative {
			status = "Scheduled"
		}
		s.then(func() { s.reportConnector(j) })
	}
	return status
}
