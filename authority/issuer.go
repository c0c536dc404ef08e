package authority

import (
	"context"
	"crypto/x509"
	"time"

	"holdfast/pki"
	"holdfast/store"
)

// stationCA certifies the keys of stations: ownCAs, or externalCA.
type stationCA interface {
	// certify returns a certificate for the key of csr with the station's serial
	// number (CN) and the operator (O), and after it what a station presents with
	// it: the CAs between it and its root. The request was checked; what it asks for
	// beside its key counts for nothing.
	certify(ctx context.Context, s store.Station, csr *x509.CertificateRequest, now time.Time) ([]*x509.Certificate, error)
	// claim has one process at a time ask for a certificate of a public key, and
	// waits until it is this one; drop lets the next one. What the one before got is
	// in the inventory by then.
	claim(ctx context.Context, publicKey string) (drop func(), err error)
	// address is where an external CA is; empty: it is ours.
	address() string
}

// ownCAs are the station CAs of our hierarchy.
type ownCAs struct{ a *Authority }

func (o ownCAs) address() string { return "" }

// claim does nothing: of two certificates that are made at once one is forgotten
// before anybody sees it.
func (o ownCAs) claim(context.Context, string) (func(), error) { return func() {}, nil }

func (o ownCAs) certify(ctx context.Context, s store.Station, csr *x509.CertificateRequest, now time.Time) ([]*x509.Certificate, error) {
	algorithm, err := pki.AlgorithmOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	profile := pki.Station
	profile.Lifetime, profile.Backdate = o.a.cfg.StationLifetime, o.a.cfg.Backdate
	ca, err := o.a.issuer(ctx, caName{roleStation, algorithm})
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(profile, pki.StationSubject(s.Serial, o.a.cfg.Operator), csr.PublicKey, now)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{cert, ca.Cert}, nil
}
