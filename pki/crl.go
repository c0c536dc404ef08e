package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// Revoked is one entry of a revocation list.
type Revoked struct {
	Serial string // hex
	At     time.Time
	Reason Reason
}

// Reason is why a certificate was revoked, as RFC 5280 §5.3.1 names it.
type Reason string

const (
	Unspecified          Reason = "unspecified"
	KeyCompromise        Reason = "key_compromise"
	AffiliationChanged   Reason = "affiliation_changed"
	Superseded           Reason = "superseded"
	CessationOfOperation Reason = "cessation_of_operation"
	PrivilegeWithdrawn   Reason = "privilege_withdrawn"
)

var reasonCodes = map[Reason]int{
	Unspecified: 0, KeyCompromise: 1, AffiliationChanged: 3, Superseded: 4, CessationOfOperation: 5, PrivilegeWithdrawn: 9,
}

// Code is the reason's number in revocation lists and OCSP responses.
func (r Reason) Code() int { return reasonCodes[r] }

// Valid reports whether r is one of the reasons above.
func (r Reason) Valid() bool { _, ok := reasonCodes[r]; return ok }

// RevocationList signs a complete list. number must grow from list to list;
// next is when the reader should fetch another. An entry with a serial that is
// not hex, or with an unknown reason, is an error.
func (ca *CA) RevocationList(entries []Revoked, number int64, now, next time.Time) ([]byte, error) {
	if ca.Key == nil {
		return nil, fmt.Errorf("issuer %s: its key is not here", ca.Cert.Subject)
	}
	t := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now.UTC(), NextUpdate: next.UTC(), SignatureAlgorithm: ca.signature(),
	}
	for _, e := range entries {
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		code, known := reasonCodes[e.Reason]
		if !ok || !known {
			return nil, fmt.Errorf("revocation list: entry %.64q with reason %.32q", e.Serial, e.Reason)
		}
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: e.At.UTC(), ReasonCode: code,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign revocation list of %s: %w", ca.Cert.Subject, err)
	}
	return der, nil
}

// EncodeCRL returns a revocation list as PEM.
func EncodeCRL(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
