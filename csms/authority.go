package csms

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

// Authority is what operations need of the service that decides who may
// connect. by is who asks, for its audit record. Errors: store.ErrNotFound,
// those of Config.Invalid, which no repetition mends, and any other when it does
// not answer.
type Authority interface {
	Station(ctx context.Context, id ocpp.StationID) (store.Station, error)
	Stations(ctx context.Context, f store.StationFilter, p store.Page) (store.List[store.Station], error)
	// Attempts are a station's last attempts to connect, newest first.
	Attempts(ctx context.Context, id ocpp.StationID) ([]store.Attempt, error)

	// SignRequest signs a station's certificate signing request. The same request
	// again gets the same certificate; its PEM is the chain for the station.
	SignRequest(ctx context.Context, by string, id ocpp.StationID, csr string) (store.Certificate, error)
	// Certificate finds by serial number or fingerprint, in hex.
	Certificate(ctx context.Context, fingerprint string) (store.Certificate, error)
	Certificates(ctx context.Context, f store.CertificateFilter, p store.Page) (store.List[store.Certificate], error)

	// NewPassword makes a password that is accepted beside the old one until its
	// first success.
	NewPassword(ctx context.Context, by string, id ocpp.StationID) (password string, err error)
	CancelRotation(ctx context.Context, by string, id ocpp.StationID) (store.Station, error)

	// ChangeProfile has a station admitted with another security profile, and with
	// the one before until its first success.
	ChangeProfile(ctx context.Context, by string, id ocpp.StationID, profile ocpp.SecurityProfile) (store.Station, error)
	// CancelProfileChange takes that back.
	CancelProfileChange(ctx context.Context, by string, id ocpp.StationID) (store.Station, error)

	// ServerRoots are what stations need to trust gateways, PEM.
	ServerRoots(ctx context.Context) (string, error)
	// Operator is the organization (O) in stations' certificates.
	Operator(ctx context.Context) (string, error)
}
