package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxCSR is the longest signing request that is read, in bytes. OCPP allows
// 5500 characters.
const MaxCSR = 16 << 10

// ParseCSR reads a PKCS#10 request as PEM (with any line ends) and checks its
// key's strength and its signature. What the request wants beside its key is
// for the caller to judge.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > MaxCSR {
		return nil, fmt.Errorf("signing request of %d bytes: at most %d are read", len(text), MaxCSR)
	}
	list, err := blocks(bytes.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(b *pem.Block) bool {
		return b.Type == typeRequest || b.Type == "NEW CERTIFICATE REQUEST"
	})
	if i < 0 {
		return nil, errors.New("no PEM block of type CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(list[i].Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	// The key first: checking a signature of a huge key is work for us.
	if err := CheckKey(csr.PublicKey); err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	if weakSignature(csr.SignatureAlgorithm) {
		return nil, fmt.Errorf("signing request: signed with %s", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	return csr, nil
}

// CheckSubject reports how a station's signing request differs from what the
// station's record says: CN is the serial number, and O the operator, if the
// request names one. Requested extensions are not looked at: the profile says
// what a certificate holds.
func CheckSubject(csr *x509.CertificateRequest, serial, operator string) error {
	if !strings.EqualFold(csr.Subject.CommonName, serial) {
		return fmt.Errorf("signing request is for serial number (CN) %.64q, this station's is %q", csr.Subject.CommonName, serial)
	}
	o := csr.Subject.Organization
	if len(o) > 0 && !slices.ContainsFunc(o, func(s string) bool {
		return strings.EqualFold(strings.TrimSpace(s), operator) || strings.TrimSpace(s) == ""
	}) {
		return fmt.Errorf("signing request names organization (O) %.64q, the operator is %q", o[0], operator)
	}
	return nil
}

// NewCARequest makes a PKCS#10 request (PEM) for a CA that somebody else
// certifies. It asks to be a CA without CAs below it.
func NewCARequest(s Subject, key crypto.Signer) (string, error) {
	if err := CheckName(s.CommonName); err != nil {
		return "", fmt.Errorf("common name %.80q %w", s.CommonName, err)
	}
	constraints, err := asn1.Marshal(struct {
		IsCA       bool
		MaxPathLen int
	}{true, 0})
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: s.CommonName, Organization: []string{s.Organization}},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints}},
	}, key)
	if err != nil {
		return "", fmt.Errorf("signing request of %s: %w", s.CommonName, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: typeRequest, Bytes: der})), nil
}

// NewStationRequest makes a PKCS#10 request for a station's certificate.
func NewStationRequest(s Subject, key crypto.Signer) (*x509.CertificateRequest, error) {
	if err := CheckName(s.CommonName); err != nil {
		return nil, fmt.Errorf("common name %.80q %w", s.CommonName, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: s.CommonName, Organization: []string{s.Organization}}, DNSNames: s.DNSNames,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("signing request of %s: %w", s.CommonName, err)
	}
	return x509.ParseCertificateRequest(der)
}

// EncodeRequest returns a signing request as PEM.
func EncodeRequest(csr *x509.CertificateRequest) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typeRequest, Bytes: csr.Raw}))
}

// Fingerprint is the lower-case hex SHA-256 of a certificate's DER form.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// KeyFingerprint is the lower-case hex SHA-256 of a public key as it stands in
// certificates and requests (SubjectPublicKeyInfo).
func KeyFingerprint(rawSubjectPublicKeyInfo []byte) string {
	return Fingerprint(rawSubjectPublicKeyInfo)
}

// SerialHex is how a certificate's serial number is written: lower-case hex
// without leading zeros, as OCPP's certificate hash data has it.
func SerialHex(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
