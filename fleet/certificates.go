package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"hash"
	"math/big"
	"slices"
	"strings"
	"time"

	"holdfast/ocpp"
)

// maxInstalled is how many CA certificates a station keeps.
const maxInstalled = 8

// maxChain is the longest PEM text of certificates that is taken, in bytes.
const maxChain = 10_000

// certificates is a station's store, apart from the identity it began with.
type certificates struct {
	installed []installed
	key       *ecdsa.PrivateKey // of the CSR that waits for CertificateSigned
	previous  *tls.Certificate  // until the new one made a connection
}

type installed struct {
	use         string // certificateType
	certificate *x509.Certificate
}

type hashData struct {
	Algorithm  string `json:"hashAlgorithm"`
	IssuerName string `json:"issuerNameHash"`
	IssuerKey  string `json:"issuerKeyHash"`
	Serial     string `json:"serialNumber"`
}

// requestCertificate makes a key and sends its CSR (A02).
func (s *station) requestCertificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return // crypto/rand never fails
	}
	subject := pkix.Name{CommonName: s.id.Serial}
	if organization := s.value(settingByKey("CpoName")); organization != "" {
		subject.Organization = []string{organization}
	} else if own := s.id.Certificate; own != nil {
		if leaf, err := x509.ParseCertificate(own.Certificate[0]); err == nil {
			subject.Organization = leaf.Subject.Organization
			subject.CommonName = leaf.Subject.CommonName
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		s.f.log.Warn("certificate request", "station", s.id.ID, "err", err)
		return
	}
	s.more().certificates.key = key
	request := struct {
		CSR  string `json:"csr"`
		Type string `json:"certificateType,omitempty"`
	}{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}
	if s.id.Version.Is2x() {
		request.Type = "ChargingStationCertificate"
	}
	s.callEarly("SignCertificate", request, func(_ json.RawMessage, err error) {
		if err != nil && s.extra != nil {
			s.extra.certificates.key = nil
		}
	})
}

// certificateSigned takes the certificate for the key of the last CSR, and comes
// back with it. The old one stays until the new one made a connection.
func (s *station) certificateSigned(chain string) string {
	c := &s.more().certificates
	parsed, err := parseChain(chain)
	if err != nil || c.key == nil || !c.key.PublicKey.Equal(parsed[0].PublicKey) {
		return "Rejected"
	}
	now := time.Now()
	if leaf := parsed[0]; now.After(leaf.NotAfter) || s.id.Version.Is2x() && now.Before(leaf.NotBefore) {
		return "Rejected"
	}
	fresh := &tls.Certificate{PrivateKey: c.key}
	for _, part := range parsed {
		fresh.Certificate = append(fresh.Certificate, part.Raw)
	}
	c.previous, c.key = s.id.Certificate, nil
	s.id.Certificate = fresh
	if s.id.Profile == ocpp.ProfileMTLS {
		s.then(func() { s.reconnectNow("new certificate") })
	}
	return "Accepted"
}

// renewalDone forgets the old certificate: the new one works.
func (s *station) renewalDone() {
	if s.extra != nil {
		s.extra.certificates.previous = nil
	}
}

// renewalFailed returns to the old certificate: the new one does not work.
func (s *station) renewalFailed() {
	if s.extra == nil || s.extra.certificates.previous == nil {
		return
	}
	s.id.Certificate, s.extra.certificates.previous = s.extra.certificates.previous, nil
}

// ownRoots are the fleet's roots and those that the server installed here; nil
// if there are none of the latter.
func (s *station) ownRoots() *x509.CertPool {
	if s.extra == nil {
		return nil
	}
	var pool *x509.CertPool
	for _, x := range s.extra.certificates.installed {
		if x.use != "CentralSystemRootCertificate" && x.use != "CSMSRootCertificate" {
			continue
		}
		if pool == nil {
			pool = x509.NewCertPool()
			if s.f.cfg.Roots != nil {
				pool = s.f.cfg.Roots.Clone()
			}
		}
		pool.AddCert(x.certificate)
	}
	return pool
}

// install applies InstallCertificate.
func (s *station) install(use, text string) string {
	parsed, err := parseChain(text)
	if err != nil || len(parsed) != 1 || !parsed[0].IsCA || time.Now().After(parsed[0].NotAfter) {
		return "Rejected"
	}
	c := &s.more().certificates
	for _, old := range c.installed {
		if old.use == use && old.certificate.Equal(parsed[0]) {
			return "Accepted"
		}
	}
	if len(c.installed) >= maxInstalled {
		return "Rejected"
	}
	c.installed = append(c.installed, installed{use, parsed[0]})
	return "Accepted"
}

// deleteCertificate applies DeleteCertificate.
func (s *station) deleteCertificate(h hashData) string {
	if s.extra == nil {
		return "NotFound"
	}
	c := &s.extra.certificates
	before := len(c.installed)
	c.installed = slices.DeleteFunc(c.installed, func(x installed) bool {
		own, err := hashOf(x.certificate, h.Algorithm)
		return err == nil && strings.EqualFold(own.IssuerName, h.IssuerName) &&
			strings.EqualFold(own.IssuerKey, h.IssuerKey) && strings.EqualFold(own.Serial, strings.TrimLeft(h.Serial, "0"))
	})
	if len(c.installed) == before {
		return "NotFound"
	}
	return "Accepted"
}

// installedIDs lists the CA certificates of the given types, all if there are none.
func (s *station) installedIDs(uses []string) (types []string, hashes []hashData) {
	if s.extra == nil {
		return nil, nil
	}
	for _, x := range s.extra.certificates.installed {
		if len(uses) > 0 && !slices.Contains(uses, x.use) {
			continue
		}
		if h, err := hashOf(x.certificate, "SHA256"); err == nil {
			types, hashes = append(types, x.use), append(hashes, h)
		}
	}
	return types, hashes
}

// hashOf is the CertID of a self-signed certificate as OCSP computes it.
func hashOf(c *x509.Certificate, algorithm string) (hashData, error) {
	var h hash.Hash
	switch algorithm {
	case "SHA256":
		h = sha256.New()
	case "SHA384":
		h = sha512.New384()
	case "SHA512":
		h = sha512.New()
	default:
		return hashData{}, errors.New("unknown hash algorithm")
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &key); err != nil {
		return hashData{}, err
	}
	h.Write(c.RawIssuer)
	name := h.Sum(nil)
	h.Reset()
	h.Write(key.Bits.RightAlign())
	return hashData{algorithm, hex.EncodeToString(name), hex.EncodeToString(h.Sum(nil)), new(big.Int).Set(c.SerialNumber).Text(16)}, nil
}

// parseChain reads PEM certificates.
func parseChain(text string) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, errors.New("chain too long")
	}
	var chain []*x509.Certificate
	rest := bytes.TrimSpace([]byte(text))
	for len(rest) > 0 && len(chain) < 8 {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not a PEM certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain, rest = append(chain, c), bytes.TrimSpace(after)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}
