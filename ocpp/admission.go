package ocpp

import (
	"context"
	"net/netip"
	"time"
)

// Credentials are what a station presented when it asked to connect.
type Credentials struct {
	Station     StationID       `json:"station"`         // as in the URL
	Profile     SecurityProfile `json:"profile"`         // of the port it came in on
	Basic       []byte          `json:"basic,omitempty"` // decoded Basic credentials, "user:password"; nil: none sent
	Chain       [][]byte        `json:"chain,omitempty"` // DER client certificates, leaf first, already verified by the gateway
	Remote      netip.AddrPort  `json:"remote"`
	Subprotocol []string        `json:"subprotocols,omitempty"` // offered, in the station's order
	// Serial is the CN of a client certificate that failed in the handshake, before
	// the station could say who it is. Nothing has verified it.
	Serial string `json:"serial,omitempty"`
}

// Reason says why a station was not admitted. The list is closed: it is a
// metric label, a log value and an API value.
type Reason string

const (
	ReasonAdmitted       Reason = "admitted"
	ReasonNoIdentity     Reason = "no_identity"
	ReasonUnknownStation Reason = "unknown_station"
	ReasonBlocked        Reason = "blocked"
	ReasonWrongProfile   Reason = "wrong_profile"
	ReasonNoCredentials  Reason = "no_credentials"
	ReasonWrongPassword  Reason = "wrong_password"
	ReasonLockedOut      Reason = "locked_out"
	ReasonNoCertificate  Reason = "no_certificate"
	ReasonUnknownCA      Reason = "unknown_ca"
	ReasonExpired        Reason = "certificate_expired"
	ReasonNotYetValid    Reason = "certificate_not_yet_valid"
	ReasonBadCertificate Reason = "bad_certificate"
	ReasonWrongSerial    Reason = "wrong_serial"
	ReasonWrongOwner     Reason = "wrong_organization"
	ReasonRevoked        Reason = "certificate_revoked"
	ReasonNoSubprotocol  Reason = "no_common_subprotocol"
	ReasonTLS            Reason = "tls_version_or_suite"
	ReasonServerRefused  Reason = "server_certificate_refused" // by the station
	ReasonTooOften       Reason = "connects_too_often"
	ReasonUnavailable    Reason = "authority_unavailable"
	ReasonOverload       Reason = "overload"
	ReasonBadRequest     Reason = "bad_request"
)

// Decision is the authority's answer to Credentials.
type Decision struct {
	Allowed bool          `json:"allowed"`
	Reason  Reason        `json:"reason"`
	Detail  string        `json:"detail,omitempty"` // for operators, never sent to the station
	Station StationID     `json:"station"`          // registered spelling
	Pin     Version       `json:"pin,omitempty"`    // the only version this station may speak; empty: any
	Quirks  Quirks        `json:"quirks"`
	TTL     time.Duration `json:"ttl"`   // how long a gateway may answer the same credentials itself
	Grace   time.Duration `json:"grace"` // how much longer, while the authority is away
}

// Quirks are settings of one station that differ from the default because its
// firmware does. The zero value is the default behaviour.
type Quirks struct {
	// AssumeV16 accepts a handshake without Sec-WebSocket-Protocol as ocpp1.6.
	AssumeV16 bool `json:"assume_v16,omitempty" doc:"Accept a handshake without Sec-WebSocket-Protocol as OCPP 1.6"`
	// Ping is "auto" (or empty), "off" or "require": whether the gateway pings
	// the station, and whether a missing pong ends the connection. auto requires
	// pongs from a station that has ponged before.
	Ping string `json:"ping,omitempty" enum:"auto,off,require" doc:"Server pings: auto, off, or require a pong"`
	// PingInterval is the time between pings in seconds; zero means the gateway's default.
	PingInterval int `json:"ping_interval,omitempty" minimum:"0" maximum:"86400" doc:"Seconds between pings; 0 is the gateway's default"`
	// NoCompression never negotiates permessage-deflate with the station.
	NoCompression bool `json:"no_compression,omitempty" doc:"Never negotiate permessage-deflate"`
	// HoldCalls is how many seconds after connecting the first CALL to the
	// station waits at most for the station's own first CALL to be answered;
	// zero means the gateway's default.
	HoldCalls int `json:"hold_calls,omitempty" minimum:"0" maximum:"600" doc:"Seconds to wait for the station's first CALL before sending one; 0 is the gateway's default"`
	// CallGap is the least time between two CALLs to the station, in milliseconds.
	CallGap int `json:"call_gap,omitempty" minimum:"0" maximum:"60000" doc:"Milliseconds between two CALLs to the station"`
}

// AdmitFunc asks who may connect. An error means that nobody could be asked; a
// refusal is a Decision.
type AdmitFunc func(ctx context.Context, c Credentials) (Decision, error)
