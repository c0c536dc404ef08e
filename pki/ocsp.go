package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"
)

// MaxOCSPRequest is the longest OCSP request that is read, in bytes. One for a
// single certificate has about a hundred.
const MaxOCSPRequest = 4 << 10

// OCSPQuestion is what an OCSP request asks about: one certificate. Of a request
// for several, the first counts (RFC 5019 §2.1.1: there is one).
type OCSPQuestion struct {
	Serial             *big.Int
	hash               crypto.Hash
	nameHash, issuerID []byte
}

// ParseOCSPRequest reads an OCSP request. Signatures and nonces are ignored:
// responses are the same for everybody and may be cached (RFC 5019).
func ParseOCSPRequest(der []byte) (*OCSPQuestion, error) {
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
	return &OCSPQuestion{Serial: r.SerialNumber, hash: r.HashAlgorithm, nameHash: r.IssuerNameHash, issuerID: r.IssuerKeyHash}, nil
}

// Of reports whether the question is about a certificate of issuer.
func (q *OCSPQuestion) Of(issuer *x509.Certificate) bool {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return false
	}
	sum := func(b []byte) []byte {
		h := q.hash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	return bytes.Equal(sum(issuer.RawSubject), q.nameHash) && bytes.Equal(sum(spki.Key.RightAlign()), q.issuerID)
}

// OCSPStatus is what is known of a certificate.
type OCSPStatus struct {
	Known   bool     // issued by the CA; else the answer is "unknown"
	Revoked *Revoked // nil: good
}

// OCSPResponse signs an answer about a certificate of ca with a delegated
// responder's key. It holds from now until next.
func OCSPResponse(ca, responder *x509.Certificate, key crypto.Signer, q *OCSPQuestion, s OCSPStatus, now, next time.Time) ([]byte, error) {
	t := ocsp.Response{Status: ocsp.Unknown, SerialNumber: q.Serial, ThisUpdate: now, NextUpdate: next, Certificate: responder, IssuerHash: q.hash}
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
