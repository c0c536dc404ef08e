package api

import (
	"context"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
)

// Authority is what the API needs of the service that decides who may connect.
// by is who asks, for its audit record. Errors: store.ErrNotFound,
// store.ErrExists, store.ErrBadCursor, those of Config.Invalid, and
// ocpp.ErrUnavailable or ocpp.ErrTimeout when nobody answers.
type Authority interface {
	// Stations, Certificates and Audit may return shorter pages than they are asked for.
	Stations(ctx context.Context, f store.StationFilter, p store.Page) (store.List[store.Station], error)
	Station(ctx context.Context, id ocpp.StationID) (store.Station, error)
	AddStation(ctx context.Context, by string, n NewStation) (AddedStation, error)
	UpdateStation(ctx context.Context, by string, id ocpp.StationID, c StationChange) (store.Station, error)
	RemoveStation(ctx context.Context, by string, id ocpp.StationID) error
	BlockStation(ctx context.Context, by string, id ocpp.StationID, reason string) (store.Station, error)
	UnblockStation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error)
	// RotatePassword sets a password, or generates and returns one if it is empty.
	RotatePassword(ctx context.Context, by string, id ocpp.StationID, password string) (NewPassword, error)
	CancelRotation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error)
	// Attempts returns those of all stations that are not registered for the empty id.
	Attempts(ctx context.Context, id ocpp.StationID) ([]store.Attempt, error)

	Certificates(ctx context.Context, f store.CertificateFilter, p store.Page) (store.List[store.Certificate], error)
	// Certificate finds by serial number or fingerprint, in hex.
	Certificate(ctx context.Context, serial string) (store.Certificate, error)
	RevokeCertificate(ctx context.Context, by, serial, reason string) (store.Certificate, error)
	// IssueStation makes a key and a certificate for a station.
	IssueStation(ctx context.Context, by string, id ocpp.StationID, algorithm string) (IssuedCertificate, error)
	SignCSR(ctx context.Context, by string, id ocpp.StationID, csr string) (SignedCertificate, error)

	CAs(ctx context.Context) ([]store.CA, error)
	ImportCA(ctx context.Context, by, pem string) ([]store.CA, error)
	RemoveCA(ctx context.Context, by, fingerprint string) error
	// PrepareRoot makes a root beside the one that issues, and the CAs below it.
	PrepareRoot(ctx context.Context, by, algorithm string) (PreparedRoot, error)
	ActivateCAs(ctx context.Context, by string, fingerprints ...string) ([]store.CA, error)
	RetireCA(ctx context.Context, by, fingerprint string, force bool) ([]store.CA, error)
	// RequestCA makes a key and a signing request for a CA that a root elsewhere
	// certifies; ImportSigned brings in what it signed.
	RequestCA(ctx context.Context, by, role, algorithm string) (RequestedCA, error)
	ImportSigned(ctx context.Context, by, pem string) ([]store.CA, error)

	// ExternalCA is the CA that issues stations' certificates in the place of
	// Holdfast's own; store.ErrNotFound: there is none. It, IssueStation, SignCSR and
	// AddStation can also fail with errors of Config.Upstream.
	ExternalCA(ctx context.Context) (ExternalCA, error)

	// CRLs are the revocation lists of imported CAs.
	CRLs(ctx context.Context) ([]store.CRL, error)
	ImportCRL(ctx context.Context, by, pem string) (store.CRL, error)
	RemoveCRL(ctx context.Context, by, ca string) error

	Audit(ctx context.Context, f store.AuditFilter, p store.Page) (store.List[store.AuditEntry], error)
}

// Messages is the log of OCPP messages.
type Messages interface {
	// Frames returns up to limit messages of a station after a position, oldest
	// first; with last, the newest limit ones.
	Frames(ctx context.Context, station ocpp.StationID, after uint64, limit int, last bool) ([]Frame, error)
	// FollowFrames calls do for each message after a position, and for new ones
	// as they come, until ctx ends or do fails.
	FollowFrames(ctx context.Context, station ocpp.StationID, after uint64, do func(Frame) error) error
}

// Frame is one message of the message log.
type Frame struct {
	Seq       uint64         `json:"seq" doc:"Position in the log; pass the last one as after to go on"`
	At        time.Time      `json:"at"`
	Station   ocpp.StationID `json:"station"`
	Direction ocpp.Direction `json:"direction" enum:"up,down" doc:"up: from the station"`
	Gateway   string         `json:"gateway"`
	Frame     string         `json:"frame" doc:"The OCPP-J message, secrets redacted, cut at 64 KiB"`
}

// Events calls do for each event of any csms process as it happens, until ctx
// ends or the subscription breaks.
type Events func(ctx context.Context, do func(csms.Event)) error

// Disconnect closes a station's connection, on whichever gateway it is.
// ocpp.ErrOffline if it has none.
type Disconnect func(ctx context.Context, station ocpp.StationID) error

// NewStation is a station to be registered.
type NewStation struct {
	ID            ocpp.StationID       `json:"id" minLength:"1" maxLength:"255" doc:"Identity, the last segment of the URL that the station connects to"`
	Serial        string               `json:"serial,omitempty" maxLength:"64" doc:"Serial number, the CN of the station's certificates; absent: the identity"`
	Profile       ocpp.SecurityProfile `json:"profile,omitempty" enum:"1,2,3" doc:"Security profile: 1 plain with a password, 2 TLS with a password, 3 mutual TLS; absent: 2"`
	Version       ocpp.Version         `json:"version,omitempty" enum:"1.6,2.0.1,2.1" doc:"The only OCPP version the station may speak; absent: any"`
	Quirks        ocpp.Quirks          `json:"quirks,omitzero" doc:"Settings that differ because the station's firmware does"`
	Labels        map[string]string    `json:"labels,omitempty" maxProperties:"16" doc:"Names and values of your own"`
	User          string               `json:"user,omitempty" maxLength:"128" doc:"Basic user name, if the station does not use its identity"`
	Password      string               `json:"password,omitempty" maxLength:"80" doc:"Password that the station has already; absent: one is generated for profiles 1 and 2"`
	Algorithm     string               `json:"algorithm,omitempty" enum:"ecdsa,rsa" doc:"Kind of key made for profile 3; absent: ecdsa"`
	NoCertificate bool                 `json:"no_certificate,omitempty" doc:"Profile 3: make no key and certificate, because the station has one or sends a signing request"`
}

// AddedStation is a registered station with the secrets that are shown only now.
type AddedStation struct {
	Station     store.Station      `json:"station"`
	Password    string             `json:"password,omitempty" doc:"Shown only now; absent with profile 3, or if you chose it"`
	Certificate *IssuedCertificate `json:"certificate,omitempty" doc:"With profile 3"`
}

// StationChange is what changes of a station; absent fields stay.
type StationChange struct {
	Serial          *string               `json:"serial,omitempty" maxLength:"64" doc:"Serial number; certificates with the old one stop working"`
	Profile         *ocpp.SecurityProfile `json:"profile,omitempty" enum:"1,2,3" doc:"Security profile to change to; the old one is accepted, too, until the station has connected with the new one"`
	PreviousProfile *ocpp.SecurityProfile `json:"previous_profile,omitempty" enum:"0" doc:"0 refuses the old profile from now on"`
	Version         *ocpp.Version         `json:"version,omitempty" maxLength:"8" doc:"The only OCPP version the station may speak; empty: any"`
	Quirks          *ocpp.Quirks          `json:"quirks,omitempty" doc:"Replaces all quirks"`
	Labels          *map[string]string    `json:"labels,omitempty" maxProperties:"16" doc:"Replaces all labels"`
	User            *string               `json:"user,omitempty" maxLength:"128" doc:"Basic user name; empty: the identity"`
}

// NewPassword is a station's new password. The old one is accepted, too, until
// the first success of the new one.
type NewPassword struct {
	Station  store.Station `json:"station"`
	Password string        `json:"password,omitempty" doc:"Shown only now; absent if you chose it"`
}

// IssuedCertificate is a certificate with the key that was made for it.
type IssuedCertificate struct {
	Certificate store.Certificate `json:"certificate"`
	Chain       string            `json:"chain" doc:"Certificate and issuing CA, PEM: ID.crt"`
	Key         string            `json:"key" doc:"Private key, PEM (PKCS #8), shown only now: ID.key"`
	CA          string            `json:"ca" doc:"What the station trusts servers with, PEM: ca.crt"`
}

// SignedCertificate is a certificate for a key that the station has.
type SignedCertificate struct {
	Certificate store.Certificate `json:"certificate"`
	Chain       string            `json:"chain" doc:"Certificate and issuing CA, without the root, PEM"`
}

// PreparedRoot is a root that can take the place of the one that issues, and the
// CAs below it.
type PreparedRoot struct {
	Root    store.CA  `json:"root"`
	Station store.CA  `json:"station"`
	Server  store.CA  `json:"server"`
	Cross   *store.CA `json:"cross,omitempty" doc:"The new root, certified by the old one; absent if the old root's key is kept elsewhere"`
}

// ExternalCA is a CA that issues stations' certificates in the place of Holdfast's own.
type ExternalCA struct {
	Address string           `json:"address"`
	CAs     []ExternalCACert `json:"cas" doc:"Its CA certificates, as it says"`
}

// ExternalCACert is a CA certificate that an external CA says it has.
type ExternalCACert struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256, hex: compare it with what the CA's operator says"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	Trusted     bool      `json:"trusted" doc:"Whether it is trusted for stations here"`
	PEM         string    `json:"pem"`
}

// RequestedCA is a CA that a root kept elsewhere is asked to certify.
type RequestedCA struct {
	Kind string `json:"kind" enum:"station-ecdsa,station-rsa,server-ecdsa,server-rsa"`
	CSR  string `json:"csr" doc:"Signing request, PEM"`
	File string `json:"file" doc:"File in the CA directory that holds the CA's key"`
}
