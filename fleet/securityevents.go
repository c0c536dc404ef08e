package fleet

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// securityEvent names an event as OCPP 2.x does; see in16.
type securityEvent string

// The security events that stations have (OCPP 2.x appendices, 1.6 security
// white paper).
const (
	eventStartup              securityEvent = "StartupOfTheDevice"
	eventReset                securityEvent = "ResetOrReboot"
	eventClock                securityEvent = "SettingSystemTime"
	eventFirmwareUpdated      securityEvent = "FirmwareUpdated"
	eventInvalidSignature     securityEvent = "InvalidFirmwareSignature"
	eventInvalidSigner        securityEvent = "InvalidFirmwareSigningCertificate"
	eventInvalidServer        securityEvent = "InvalidCsmsCertificate"
	eventInvalidCertificate   securityEvent = "InvalidChargingStationCertificate"
	eventInvalidTLSVersion    securityEvent = "InvalidTLSVersion"
	eventInvalidTLSCipher     securityEvent = "InvalidTLSCipherSuite"
	eventDiscardedCertificate securityEvent = "DiscardedRenewedClientCertificate"
	eventUnauthorized         securityEvent = "FailedToAuthenticateAtCsms"
	eventReconfiguration      securityEvent = "ReconfigurationOfSecurityParameters"
)

// in16 is the event's name in OCPP 1.6.
func (e securityEvent) in16() string {
	switch e {
	case eventInvalidServer:
		return "InvalidCentralSystemCertificate"
	case eventInvalidCertificate:
		return "InvalidChargePointCertificate"
	case eventUnauthorized:
		return "FailedToAuthenticateAtCentralSystem"
	}
	return string(e)
}

// critical events are sent to the server, queued while there is no connection
// (A04.FR.02); the others only go into the security log.
func (e securityEvent) critical() bool { return e != eventUnauthorized && e != eventReconfiguration }

// maxSecurityLog is how many events a station's security log holds; the oldest
// make room.
const maxSecurityLog = 64

// maxTechInfo is the longest techInfo, in bytes (the schemas' 255 characters).
const maxTechInfo = 255

type securityEntry struct {
	at   time.Time
	what string
	tech string
}

type securityNotification struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	TechInfo  string `json:"techInfo,omitempty"`
}

// securityEvent logs an event and, if it is critical, reports it.
func (s *station) securityEvent(event securityEvent, tech string) {
	entry := securityEntry{s.clock(s.f.elapsed()), string(event), tech}
	if !s.id.Version.Is2x() {
		entry.what = event.in16()
	}
	if len(entry.tech) > maxTechInfo {
		entry.tech = entry.tech[:maxTechInfo]
		for !utf8.ValidString(entry.tech) {
			entry.tech = entry.tech[:len(entry.tech)-1]
		}
	}
	if event != eventStartup { // every station has that one
		x := s.more()
		if len(x.securityLog) >= maxSecurityLog {
			x.securityLog = slices.Delete(x.securityLog, 0, 1)
		}
		x.securityLog = append(x.securityLog, entry)
	}
	if !event.critical() {
		return
	}
	s.enqueue(&message{
		action:  "SecurityEventNotification",
		payload: encode(securityNotification{entry.what, wireTime(entry.at), entry.tech}),
		kept:    true,
	})
}

// connectionRefused notes why a connection was refused by either side, once per
// series of failures (A00, A04).
func (s *station) connectionRefused(kind errorKind, err error) {
	event, tech := securityEvent(""), err.Error()
	switch {
	case kind == errorUnauthorized:
		event, tech = eventUnauthorized, ""
	case kind != errorTLS:
		return
	case isServerCertificateError(err):
		event = eventInvalidServer
	case strings.Contains(tech, "protocol version"):
		event = eventInvalidTLSVersion
	case strings.Contains(tech, "cipher suite"):
		event = eventInvalidTLSCipher
	default:
		return
	}
	if x := s.more(); x.refusal != event {
		x.refusal = event
		s.securityEvent(event, tech)
	}
}
