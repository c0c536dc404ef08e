package authority

import (
	"time"

	"holdfast/ocpp"
)

// ChangeKind says what changed.
type ChangeKind string

const (
	ChangeStation     ChangeKind = "station"     // added or changed; forget its verdicts
	ChangeBlocked     ChangeKind = "blocked"     // must not be connected
	ChangeRemoved     ChangeKind = "removed"     // must not be connected
	ChangePassword    ChangeKind = "password"    // forget its verdicts
	ChangeCertificate ChangeKind = "certificate" // revoked: no connection may rest on it
	ChangeTrust       ChangeKind = "trust"       // fetch Trust again
	ChangeTickets     ChangeKind = "tickets"     // fetch TicketKeys again
)

// Change is told to Config.Publish after its commit. A gateway that missed one
// learns from Trust who is blocked, removed or revoked.
type Change struct {
	Kind        ChangeKind     `json:"kind"`
	Station     ocpp.StationID `json:"station,omitempty"`
	Fingerprint string         `json:"fingerprint,omitempty"` // of the certificate, for ChangeCertificate
	Generation  int64          `json:"generation,omitempty"`  // of Trust, if it grew
	// Drop says that live connections of Station must end; with a Fingerprint,
	// those that rest on that certificate.
	Drop bool      `json:"drop,omitempty"`
	At   time.Time `json:"at"`
}

func (a *Authority) publish(c Change) {
	c.At = a.cfg.Now()
	a.cfg.Publish(c)
}
