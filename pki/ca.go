package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// CA is a certificate with the key that signs for it.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer // nil: kept elsewhere, this CA cannot sign here
	PSS  bool          // sign with RSA-PSS; not for ECDSA keys

	// Where what this CA says about its certificates can be fetched; empty: they
	// do not name a place. CA certificates never do.
	CRLURL, OCSPURL, IssuerURL string
}

// Subject is what a certificate says about its owner.
type Subject struct {
	CommonName   string
	Organization string
	DNSNames     []string
	IPAddresses  []net.IP
}

// maxName is the longest CN or O of X.509 (ub-common-name), in characters.
const maxName = 64

// CheckName reports why s cannot stand as CN or O in a certificate.
func CheckName(s string) error {
	switch n := len([]rune(s)); {
	case strings.TrimSpace(s) == "":
		return errors.New("is empty")
	case n > maxName:
		return fmt.Errorf("has %d characters, a certificate has room for %d", n, maxName)
	}
	return nil
}

// NewRoot makes a self-signed CA certificate for key.
func NewRoot(p Profile, s Subject, key crypto.Signer, now time.Time) (*CA, error) {
	ca := &CA{Key: key}
	cert, err := ca.issue(p, s, key.Public(), now)
	if err != nil {
		return nil, err
	}
	ca.Cert = cert
	return ca, nil
}

// Issue signs a certificate for a public key. It is valid from now less the
// profile's Backdate until now plus its Lifetime, within the CA's own life.
func (ca *CA) Issue(p Profile, s Subject, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if err := ca.able(now); err != nil {
		return nil, err
	}
	if err := CheckKey(public); err != nil {
		return nil, err
	}
	return ca.issue(p, s, public, now)
}

// able reports why the CA cannot sign certificates now.
func (ca *CA) able(now time.Time) error {
	switch {
	case ca.Key == nil:
		return fmt.Errorf("issuer %s: its key is not here", ca.Cert.Subject)
	case now.After(ca.Cert.NotAfter):
		return fmt.Errorf("issuer %s: expired on %s", ca.Cert.Subject, ca.Cert.NotAfter.Format(time.DateOnly))
	case now.Before(ca.Cert.NotBefore):
		return fmt.Errorf("issuer %s: not valid before %s, is this machine's clock right?", ca.Cert.Subject, ca.Cert.NotBefore.Format(time.DateTime))
	}
	return nil
}

func (ca *CA) issue(p Profile, s Subject, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if err := CheckName(s.CommonName); err != nil {
		return nil, fmt.Errorf("common name %.80q %w", s.CommonName, err)
	}
	if err := CheckName(s.Organization); err != nil {
		return nil, fmt.Errorf("organization %.80q %w", s.Organization, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	usage := p.KeyUsage
	if a, err := AlgorithmOf(public); err != nil {
		return nil, err
	} else if a == RSA {
		usage |= p.RSA
	} else {
		usage |= p.EC
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: s.CommonName, Organization: []string{s.Organization}},
		NotBefore:             now.Add(-p.Backdate).Truncate(time.Second).UTC(),
		NotAfter:              now.Add(p.Lifetime).Truncate(time.Second).UTC(),
		KeyUsage:              usage,
		BasicConstraintsValid: true,
		IsCA:                  p.CA,
		DNSNames:              s.DNSNames,
		IPAddresses:           s.IPAddresses,
		SignatureAlgorithm:    ca.signature(),
	}
	switch {
	case p.CA:
		t.MaxPathLen, t.MaxPathLenZero = p.PathLen, p.PathLen == 0
	case p.OCSP:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		t.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}
	default:
		t.CRLDistributionPoints, t.OCSPServer, t.IssuingCertificateURL = filled(ca.CRLURL), filled(ca.OCSPURL), filled(ca.IssuerURL)
	}
	return ca.sign(t, public)
}

// oidNoCheck is id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1).
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

func filled(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// sign signs a template, within the CA's own life; without a certificate of its
// own, the CA signs itself.
func (ca *CA) sign(t *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	parent := ca.Cert
	if parent == nil {
		parent = t
	} else {
		if t.NotBefore.Before(parent.NotBefore) {
			t.NotBefore = parent.NotBefore
		}
		if t.NotAfter.After(parent.NotAfter) {
			t.NotAfter = parent.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// CrossSign certifies another root's key and name, so that who trusts only this
// root can verify what is below the other one. The cross certificate is valid
// while both are; it takes the place of the other root in a chain.
func (ca *CA) CrossSign(other *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	if err := ca.able(now); err != nil {
		return nil, err
	}
	if !other.IsCA {
		return nil, fmt.Errorf("certificate of %s is not of a CA", other.Subject)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	return ca.sign(&x509.Certificate{
		SerialNumber: serial, RawSubject: other.RawSubject, Subject: other.Subject, SubjectKeyId: other.SubjectKeyId,
		NotBefore: other.NotBefore, NotAfter: other.NotAfter, KeyUsage: Root.KeyUsage,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: other.MaxPathLen, MaxPathLenZero: other.MaxPathLenZero,
		SignatureAlgorithm: ca.signature(),
	}, other.PublicKey)
}

func (ca *CA) signature() x509.SignatureAlgorithm {
	if _, ok := ca.Key.Public().(*rsa.PublicKey); !ok {
		return x509.UnknownSignatureAlgorithm // by the curve
	}
	if ca.PSS {
		return x509.SHA256WithRSAPSS
	}
	return x509.SHA256WithRSA
}

// newSerial returns a random serial number of 128 bits, positive as X.509 wants it.
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	b[0] |= 0x80 // always 128 bits, never zero
	return new(big.Int).SetBytes(b), nil
}

// StationSubject is the subject of a station's certificate: CN is its serial
// number, O the operator (OCPP 2.0.1 A00.FR.511). A serial that reads as a host
// name stands in the SAN, too, for verifiers that no longer look at CN.
func StationSubject(serial, operator string) Subject {
	s := Subject{CommonName: serial, Organization: operator}
	if isHostName(serial) {
		s.DNSNames = []string{serial}
	}
	return s
}

// ServerSubject is the subject of a server's certificate for host names and IP
// addresses. CN is the first of them (OCPP 2.0.1 A00.FR.512), all are in the SAN.
// Wildcards are refused, as OCPP does.
func ServerSubject(names []string, operator string) (Subject, error) {
	if len(names) == 0 {
		return Subject{}, errors.New("no host name or IP address")
	}
	s := Subject{CommonName: names[0], Organization: operator}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			s.IPAddresses = append(s.IPAddresses, ip)
		} else if isHostName(n) {
			s.DNSNames = append(s.DNSNames, n)
		} else {
			return Subject{}, fmt.Errorf("%.80q is neither a host name nor an IP address", n)
		}
	}
	return s, nil
}

// isHostName reports whether s can be a dNSName: labels of letters, digits,
// hyphens and (as found in the field) underscores.
func isHostName(s string) bool {
	if len(s) > 253 || net.ParseIP(s) != nil {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
