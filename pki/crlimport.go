package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxCRL is the longest revocation list of another CA that is read, in bytes of
// DER: some 20,000 entries.
const MaxCRL = 768 << 10

// Extensions of revocation lists and of their entries (RFC 5280 §5.2, §5.3).
var (
	oidDeltaCRL          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidReasonCode        = asn1.ObjectIdentifier{2, 5, 29, 21}
)

// otherReasons are what only other CAs' lists have: RFC 5280 §5.3.1.
var otherReasons = map[int]Reason{2: "ca_compromise", 6: "certificate_hold", 10: "aa_compromise"}

// removeFromCRL is the reason code of an entry that is none.
const removeFromCRL = 8

// ReasonOf names the code in a list's entry; what is not known is Unspecified.
func ReasonOf(code int) Reason {
	for reason, c := range reasonCodes {
		if c == code {
			return reason
		}
	}
	if r, ok := otherReasons[code]; ok {
		return r
	}
	return Unspecified
}

// distributionPoint is the extension that narrows what a list is about.
type distributionPoint struct {
	Point      asn1.RawValue  `asn1:"optional,tag:0"`
	Users      bool           `asn1:"optional,tag:1"`
	CAs        bool           `asn1:"optional,tag:2"`
	Reasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect   bool           `asn1:"optional,tag:4"`
	Attributes bool           `asn1:"optional,tag:5"`
}

// ParseCRL reads a revocation list of another CA, as PEM. One that tells only a
// part of what the CA revoked among its users' certificates is an error: delta
// lists, lists of some reasons, lists for others. The signature is the caller's
// to check.
func ParseCRL(text []byte) (*x509.RevocationList, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != "X509 CRL":
		return nil, errors.New("no revocation list in PEM")
	case len(block.Bytes) > MaxCRL:
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(block.Bytes), MaxCRL)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("more than one PEM block: give one list at a time")
	}
	l, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, err
	}
	if weakSignature(l.SignatureAlgorithm) {
		return nil, fmt.Errorf("signed with %s", l.SignatureAlgorithm)
	}
	for _, e := range l.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			return nil, errors.New("a delta list: give the complete one")
		case e.Id.Equal(oidDistributionPoint):
			var p distributionPoint
			if rest, err := asn1.Unmarshal(e.Value, &p); err != nil || len(rest) > 0 {
				return nil, errors.New("issuing distribution point: not valid")
			}
			if p.CAs || p.Indirect || p.Attributes || p.Reasons.BitLength > 0 {
				return nil, errors.New("it lists only a part of what the CA revoked (issuing distribution point): give the complete list")
			}
		case e.Critical:
			return nil, fmt.Errorf("critical extension %s", e.Id)
		}
	}
	entries := l.RevokedCertificateEntries[:0]
	for _, e := range l.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical && !x.Id.Equal(oidReasonCode) {
				return nil, fmt.Errorf("entry %s: critical extension %s", e.SerialNumber.Text(16), x.Id)
			}
		}
		if e.ReasonCode != removeFromCRL {
			entries = append(entries, e)
		}
	}
	l.RevokedCertificateEntries = entries
	return l, nil
}
