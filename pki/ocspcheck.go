package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// CertID names a certificate as OCSP does (RFC 6960 §4.1.1): by its issuer's
// hashes and its serial number.
type CertID struct {
	Hash       crypto.Hash
	IssuerName []byte // hash of the issuer's name, DER
	IssuerKey  []byte // hash of the issuer's public key, the bits alone
	Serial     *big.Int
}

// Request is the OCSP request for the certificate, DER. It has no nonce: answers
// may be cached.
func (id CertID) Request() ([]byte, error) {
	if id.Serial == nil || id.Serial.Sign() <= 0 || id.Serial.BitLen() > 160 {
		return nil, errors.New("OCSP request: not a serial number")
	}
	if !id.Hash.Available() || len(id.IssuerName) != id.Hash.Size() || len(id.IssuerKey) != id.Hash.Size() {
		return nil, errors.New("OCSP request: the issuer's hashes are not of the hash algorithm's length")
	}
	return (&ocsp.Request{HashAlgorithm: id.Hash, IssuerNameHash: id.IssuerName, IssuerKeyHash: id.IssuerKey, SerialNumber: id.Serial}).Marshal()
}

// IssuedBy reports whether issuer is the one that the hashes name.
func (id CertID) IssuedBy(issuer *x509.Certificate) bool {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return false
	}
	sum := func(b []byte) []byte {
		h := id.Hash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	return bytes.Equal(sum(issuer.RawSubject), id.IssuerName) && bytes.Equal(sum(spki.Key.RightAlign()), id.IssuerKey)
}

// OCSPAnswer is what an OCSP response says of a certificate, checked.
type OCSPAnswer struct {
	Status     OCSPCode
	ThisUpdate time.Time
	NextUpdate time.Time // zero: newer information may be there at any time
}

// OCSPCode is the status in an OCSP response.
type OCSPCode string

const (
	OCSPGood    OCSPCode = "good"
	OCSPRevoked OCSPCode = "revoked"
	OCSPUnknown OCSPCode = "unknown" // the responder does not know of the certificate
)

const (
	// ocspSkew is how far the responder's clock may be ahead.
	ocspSkew = 5 * time.Minute
	// ocspUndated is how old a response without nextUpdate may be.
	ocspUndated = 24 * time.Hour
	// maxOCSPCertificates is how many certificates of a response are looked at.
	maxOCSPCertificates = 10
)

// CheckOCSP reads the response to id.Request and checks that it is about that
// certificate, holds now, and is signed by the certificate's issuer or by a
// responder that the issuer certified for it (RFC 6960 §4.2.2.2). The issuer is
// one of issuers or, if the response brings it along, any: its name and key
// have to have the hashes of id, so nobody else can pose as it.
func CheckOCSP(der []byte, id CertID, issuers []*x509.Certificate, now time.Time) (OCSPAnswer, error) {
	parts, err := readOCSP(der)
	if err != nil {
		return OCSPAnswer{}, err
	}
	if !slices.ContainsFunc(parts.ids, func(other CertID) bool { return id.equal(other) }) {
		return OCSPAnswer{}, errors.New("OCSP response: not about the certificate that was asked for")
	}
	// With the certificate, ocsp finds its own of several responses.
	r, err := ocsp.ParseResponseForCert(der, &x509.Certificate{SerialNumber: id.Serial}, nil)
	if err != nil {
		return OCSPAnswer{}, fmt.Errorf("OCSP response: %w", err)
	}
	i := slices.IndexFunc(issuers, id.IssuedBy)
	var issuer *x509.Certificate
	if i >= 0 {
		issuer = issuers[i]
	} else if i = slices.IndexFunc(parts.certificates, id.IssuedBy); i >= 0 {
		issuer = parts.certificates[i]
	} else {
		return OCSPAnswer{}, errors.New("OCSP response: the certificate of the issuer, with which it could be checked, is not known")
	}
	if weakSignature(r.SignatureAlgorithm) {
		return OCSPAnswer{}, fmt.Errorf("OCSP response: signed with %s", r.SignatureAlgorithm)
	}
	if err := checkResponder(r, issuer, parts.certificates, now); err != nil {
		return OCSPAnswer{}, fmt.Errorf("OCSP response: %w", err)
	}
	a := OCSPAnswer{ThisUpdate: r.ThisUpdate, NextUpdate: r.NextUpdate}
	switch r.Status {
	case ocsp.Good:
		a.Status = OCSPGood
	case ocsp.Revoked:
		a.Status = OCSPRevoked
	default:
		a.Status = OCSPUnknown
	}
	switch {
	case a.ThisUpdate.After(now.Add(ocspSkew)):
		return OCSPAnswer{}, fmt.Errorf("OCSP response: holds from %s, which is to come", a.ThisUpdate.UTC().Format(time.RFC3339))
	case a.NextUpdate.IsZero() && now.Sub(a.ThisUpdate) > ocspUndated:
		return OCSPAnswer{}, fmt.Errorf("OCSP response: of %s, without a next update", a.ThisUpdate.UTC().Format(time.RFC3339))
	case !a.NextUpdate.IsZero() && !now.Before(a.NextUpdate):
		return OCSPAnswer{}, fmt.Errorf("OCSP response: held until %s", a.NextUpdate.UTC().Format(time.RFC3339))
	}
	return a, nil
}

// checkResponder checks the signature of a response: by the issuer, or by a
// certificate that the issuer signed for that purpose.
func checkResponder(r *ocsp.Response, issuer *x509.Certificate, brought []*x509.Certificate, now time.Time) error {
	if r.CheckSignatureFrom(issuer) == nil {
		return nil
	}
	for _, c := range brought {
		if r.CheckSignatureFrom(c) != nil {
			continue
		}
		switch {
		case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || weakSignature(c.SignatureAlgorithm) ||
			issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil:
			return fmt.Errorf("the responder %s is not one of the issuer", c.Subject)
		case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return fmt.Errorf("the certificate of %s does not allow it to sign OCSP responses", c.Subject)
		case now.Before(c.NotBefore) || now.After(c.NotAfter):
			return fmt.Errorf("the certificate of the responder %s is not valid now", c.Subject)
		}
		return nil
	}
	return errors.New("not signed by the issuer or a responder of it")
}

func (id CertID) equal(other CertID) bool {
	return id.Hash == other.Hash && bytes.Equal(id.IssuerName, other.IssuerName) && bytes.Equal(id.IssuerKey, other.IssuerKey) &&
		other.Serial != nil && id.Serial.Cmp(other.Serial) == 0
}

// ocspParts are of a response what x/crypto/ocsp keeps to itself.
type ocspParts struct {
	ids          []CertID
	certificates []*x509.Certificate // that the response brings along
}

// The structure of RFC 6960 §4.2.1, as far as it is read here.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	ocspBasic struct {
		Data struct {
			Version    int `asn1:"explicit,tag:0,optional,default:0"`
			Responder  asn1.RawValue
			ProducedAt time.Time `asn1:"generalized"`
			Responses  []struct {
				ID struct {
					Hash      pkix.AlgorithmIdentifier
					Name, Key []byte
					Serial    *big.Int
				}
				Status     asn1.RawValue
				ThisUpdate time.Time        `asn1:"generalized"`
				NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
				Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
			}
			Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
)

// hashesByOID are the hash algorithms of OCPP's certificate hash data.
var hashesByOID = map[string]crypto.Hash{
	"2.16.840.1.101.3.4.2.1": crypto.SHA256, "2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

func readOCSP(der []byte) (ocspParts, error) {
	var p ocspParts
	var r ocspResponse
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		return p, errors.New("not an OCSP response")
	}
	if r.Status != asn1.Enumerated(ocsp.Success) {
		return p, fmt.Errorf("the OCSP responder answers: %s", ocsp.ResponseStatus(r.Status))
	}
	var b ocspBasic
	if rest, err := asn1.Unmarshal(r.Bytes.Response, &b); err != nil || len(rest) > 0 {
		return p, errors.New("not a basic OCSP response")
	}
	for _, s := range b.Data.Responses {
		p.ids = append(p.ids, CertID{Hash: hashesByOID[s.ID.Hash.Algorithm.String()], IssuerName: s.ID.Name, IssuerKey: s.ID.Key, Serial: s.ID.Serial})
	}
	for _, raw := range b.Certificates[:min(len(b.Certificates), maxOCSPCertificates)] {
		c, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return p, fmt.Errorf("OCSP response: a certificate in it: %w", err)
		}
		p.certificates = append(p.certificates, c)
	}
	return p, nil
}
