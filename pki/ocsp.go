package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// MaxOCSPRequest is the longest OCSP request that is read, in bytes. One for a
// single certificate has about a hundred.
const MaxOCSPRequest = 4 << 10

// ParseOCSPRequest reads an OCSP request: which certificate it asks about. Of a
// request for several, the first counts (RFC 5019 §2.1.1: there is one).
// Signatures and nonces are ignored: responses are the same for everybody and
// may be cached (RFC 5019).
func ParseOCSPRequest(der []byte) (*CertID, error) {
	if len(der) > MaxOCSPRequest {
		return nil, fmt.Errorf("OCSP request of %d bytes: at most %d are read", len(der), MaxOCSPRequest)
	}
	r, err := ocsp.ParseRequest(der)
	if err != nil {
		return nil, fmt.Errorf("OCSP request: %w", err)
	}
	if r.SerialNumber == nil || r.SerialNumber.Sign() <= 0 || r.SerialNumber.BitLen() > 160 {
		return nil, errors.New("OCSP request: not a serial number")
	}
	if !r.HashAlgorithm.Available() {
		return nil, errors.New("OCSP request: hash is not known")
	}
	return &CertID{Hash: r.HashAlgorithm, IssuerName: r.IssuerNameHash, IssuerKey: r.IssuerKeyHash, Serial: r.SerialNumber}, nil
}

// OCSPStatus is what is known of a certificate.
type OCSPStatus struct {
	Known   bool     // issued by the CA; else the answer is "unknown"
	Revoked *Revoked // nil: good
}

// OCSPResponse signs an answer about a certificate of ca with a delegated
// responder's key. It holds from now until next.
func OCSPResponse(ca, responder *x509.Certificate, key crypto.Signer, q *CertID, s OCSPStatus, now, next time.Time) ([]byte, error) {
	t := ocsp.Response{Status: ocsp.Unknown, SerialNumber: q.Serial, ThisUpdate: now, NextUpdate: next, Certificate: responder, IssuerHash: q.Hash}
	switch {
	case s.Revoked != nil:
		t.Status, t.RevokedAt, t.RevocationReason = ocsp.Revoked, s.Revoked.At.UTC(), s.Revoked.Reason.Code()
	case s.Known:
		t.Status = ocsp.Good
	}
	der, err := ocsp.CreateResponse(ca, responder, t, key)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP response of %s: %w", ca.Subject, err)
	}
	return der, nil
}

// The answers to requests that cannot be answered (RFC 6960 §2.3).
var (
	OCSPMalformed    = ocsp.MalformedRequestErrorResponse
	OCSPUnauthorized = ocsp.UnauthorizedErrorResponse // about a CA that is not ours
	OCSPTryLater     = ocsp.TryLaterErrorResponse
	OCSPInternal     = ocsp.InternalErrorErrorResponse
)
