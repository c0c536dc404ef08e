package fleet

import (
	"encoding/json"
	"strconv"
	"time"

	"holdfast/ocpp"
)

// rebootDelay is the time between the answer to a Reset and the end of the
// connection, so that the ends of transactions may still go.
const rebootDelay = 200 * time.Millisecond

// boot sends a BootNotification. Until it is answered nothing else is sent.
func (s *station) boot() {
	s.cancel(taskBoot, 0)
	if s.bootReason == "" {
		s.bootReason = "Triggered"
	}
	s.state = unregistered
	s.callEarly("BootNotification", s.speaks.boot(s), s.booted)
}

func (s *station) booted(result json.RawMessage, err error) {
	now := s.f.elapsed()
	wait := s.f.behave.BootRetry
	if err == nil {
		type bootAnswer struct {
			Status   string `json:"status"`
			Interval int32  `json:"interval"`
		}
		var answer bootAnswer
		if answer, err = decode[bootAnswer](s, "BootNotification", result); err == nil {
			interval := time.Duration(answer.Interval) * time.Second
			switch answer.Status {
			case "Accepted":
				s.accepted(interval)
				return
			case "Pending", "Rejected":
				if s.quirks.has(IgnoresPending) {
					s.accepted(interval)
					return
				}
				if s.state = rejected; answer.Status == "Pending" {
					s.state = pending
				}
				if s.quirks.has(StatusWhilePending) {
					for i := range s.connectors {
						s.sendStatus(i, true)
					}
				}
				if s.quirks.has(WaitsOnPending) {
					return
				}
			default:
				s.state = rejected
			}
			if interval > 0 {
				wait = interval
			}
		}
	}
	if s.conn != nil { // else the next connection begins with it
		s.schedule(taskBoot, 0, now+wait)
	}
}

// accepted begins normal service.
func (s *station) accepted(interval time.Duration) {
	switch s.bootReason {
	case "PowerUp", "RemoteReset", "ScheduledReset", "FirmwareUpdate":
		s.securityEvent(eventStartup, "")
	}
	s.state, s.bootReason = accepted, ""
	if interval <= 0 || s.f.behave.IgnoreInterval {
		interval = s.f.behave.HeartbeatInterval
	}
	switch {
	case s.quirks.has(HeartbeatStorm):
		interval = time.Second
	case s.quirks.has(RareHeartbeats):
		interval = rareHeartbeat
	}
	if s.quirks.has(EventStorm) {
		for i := range stormOfEvents {
			s.securityEvent(eventClock, strconv.Itoa(i)+" s")
		}
	}
	s.interval = interval
	s.reportConnectors(true)
	s.scheduleHeartbeat()
	s.scheduleRenewal()
	now := s.f.elapsed()
	for i := range s.connectors {
		if c := &s.connectors[i]; c.phase == free && !s.scheduled(taskConnector, i) {
			s.planVisit(i, now)
		}
	}
}

func (s *station) scheduled(kind taskKind, n int) bool {
	for _, t := range s.tasks {
		if t.kind == kind && int(t.n) == n {
			return true
		}
	}
	return false
}

func (s *station) scheduleHeartbeat() {
	if s.conn != nil && s.state == accepted && s.interval > 0 {
		s.schedule(taskHeartbeat, 0, s.f.elapsed()+s.interval)
	}
}

func (s *station) heartbeat() {
	s.call("Heartbeat", struct{}{}, s.heartbeatAnswered)
}

func (s *station) heartbeatAnswered(result json.RawMessage, err error) {
	if err != nil {
		return
	}
	answer, err := decode[struct {
		CurrentTime string `json:"currentTime"`
	}](s, "Heartbeat", result)
	if err != nil {
		return
	}
	if _, err := time.Parse(time.RFC3339, answer.CurrentTime); err != nil {
		s.f.stats.fail(errorProtocol)
		s.f.log.Warn("server sent an invalid time", "station", s.id.ID, "action", "Heartbeat", "err", err)
	}
}

// reset restarts the station after the answer to the CALL being handled.
func (s *station) reset(reason endReason) {
	s.then(func() {
		s.securityEvent(eventReset, "by the server")
		now := s.f.elapsed()
		for i := range s.connectors {
			s.end(i, now, reason)
		}
		s.restart(rebootRemote)
	})
}

// Why a station restarts: n of taskReboot.
const (
	rebootRemote    = iota
	rebootScheduled // by a Reset that waited for the transactions
	rebootUpdate    // with new firmware
)

var bootReasons = [...]string{rebootRemote: "RemoteReset", rebootScheduled: "ScheduledReset", rebootUpdate: "FirmwareUpdate"}

// restart reboots in a moment. One reboot is enough for several reasons.
func (s *station) restart(why int) {
	for other := range bootReasons {
		s.cancel(taskReboot, other)
	}
	s.schedule(taskReboot, why, s.f.elapsed()+rebootDelay)
}

// reboot ends the connection; the next one begins with a BootNotification. The
// transaction messages survive.
func (s *station) reboot(why int) {
	s.bootReason = bootReasons[why]
	if s.extra != nil {
		s.extra.installing = false // the reports after the boot say so
	}
	s.state = unregistered
	s.restartNetwork()
	if s.conn != nil {
		s.disconnect(func(c *conn) { c.close(closeNormal, "reboot") })
	}
	s.reconnect(s.f.behave.RebootTime)
}

// reconnectNow closes the connection to come back at once, with a new password
// or certificate.
func (s *station) reconnectNow(reason string) {
	if s.conn != nil {
		s.disconnect(func(c *conn) { c.close(closeNormal, reason) })
	}
	s.reconnect(0)
}

// trigger sends the message that the server asked for by TriggerMessage, after
// the answer, and reports whether the station can. It may be sent before the
// station is registered. connector is 1 up, 0 for all that apply.
func (s *station) trigger(message string, connector int) string {
	if connector < 0 || connector > len(s.connectors) {
		return "Rejected"
	}
	each := func(f func(i int)) {
		for i := range s.connectors {
			if connector == 0 || connector == i+1 {
				f(i)
			}
		}
	}
	switch message {
	case "BootNotification":
		if s.state == accepted {
			return "Rejected" // F06.FR.17; 1.6 errata
		}
		s.then(s.boot)
	case "Heartbeat":
		s.then(func() { s.callEarly("Heartbeat", struct{}{}, s.heartbeatAnswered) })
	case "StatusNotification":
		s.then(func() { each(func(i int) { s.sendStatus(i, true) }) })
	case "MeterValues":
		s.then(func() {
			each(func(i int) {
				action, payload := s.speaks.meterValues(s, i, s.clock(s.f.elapsed()))
				s.callEarly(action, payload, nil)
			})
		})
	case "TransactionEvent":
		if !s.id.Version.Is2x() || !s.busy() {
			return "Rejected"
		}
		s.then(func() {
			each(func(i int) {
				if s.connectors[i].tx != nil {
					s.speaks.meter(s, i, s.sample(i, s.f.elapsed()))
				}
			})
		})
	case "FirmwareStatusNotification":
		s.then(func() { s.reportJob(jobFirmware, message) })
	case "DiagnosticsStatusNotification", "LogStatusNotification":
		s.then(func() { s.reportJob(jobLog, message) })
	case "SignChargePointCertificate", "SignChargingStationCertificate":
		if s.id.Version == ocpp.V16 != (message == "SignChargePointCertificate") {
			return "NotImplemented"
		}
		s.then(s.beginRenewal)
	default:
		return "NotImplemented"
	}
	return "Accepted"
}
