package fleet

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"hash"
	"slices"
	"strings"
	"time"

	"holdfast/ocpp"
)

// maxInstalled is how many CA certificates a station keeps.
const maxInstalled = 16

// The longest certificate that InstallCertificate may bring, in bytes of PEM
// (OCPP 1.6 and 2.0.1: 5500; 2.1: 10000).
const (
	maxCertificate   = 5500
	maxCertificate21 = 10_000
)

// Types of CA certificates that this code has to know apart.
const (
	useCSMSRoot          = "CSMSRootCertificate"
	useCentralSystemRoot = "CentralSystemRootCertificate" // its 1.6 name
	useManufacturerRoot  = "ManufacturerRootCertificate"
)

// installed is one CA certificate of a station's trust store.
type installed struct {
	use         string // certificateType
	certificate *x509.Certificate
	fallback    bool // a CSMS root that is kept until its successor has proved itself
}

// hashData is how OCPP names a certificate: as OCSP does.
type hashData struct {
	Algorithm  string `json:"hashAlgorithm"`
	IssuerName string `json:"issuerNameHash"`
	IssuerKey  string `json:"issuerKeyHash"`
	Serial     string `json:"serialNumber"`
}

// rootUse is the type of a CSMS root.
func (s *station) rootUse() string {
	if s.id.Version.Is2x() {
		return useCSMSRoot
	}
	return useCentralSystemRoot
}

// store is the station's trust store: its own once the server changed it, else
// the roots of the fleet.
func (s *station) store() []installed {
	if s.extra != nil && s.extra.trust != nil {
		return s.extra.trust
	}
	all := make([]installed, len(s.f.cfg.Roots))
	for i, c := range s.f.cfg.Roots {
		all[i] = installed{use: s.rootUse(), certificate: c}
	}
	return all
}

// keep makes all the station's own trust store.
func (s *station) keep(all []installed) {
	if all == nil {
		all = []installed{}
	}
	s.more().trust = all
}

// roots are what the server's certificate is verified against; own reports that
// the station's own store has them.
func (s *station) roots() (roots []*x509.Certificate, own bool) {
	if s.extra == nil || s.extra.trust == nil {
		return s.f.cfg.Roots, false
	}
	return csmsRoots(s.extra.trust), true
}

// ParseRoots reads the trust anchors of Config.Roots from PEM. What is not a
// certificate is skipped; that there is none at all is an error.
func ParseRoots(text []byte) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		roots = append(roots, c)
	}
	if len(roots) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return roots, nil
}

func csmsRoots(all []installed) (roots []*x509.Certificate) {
	for _, x := range all {
		if x.use == useCSMSRoot || x.use == useCentralSystemRoot {
			roots = append(roots, x.certificate)
		}
	}
	return roots
}

// trustsSomebody reports whether a server's certificate can be verified at all.
func (s *station) trustsSomebody() bool {
	roots, own := s.roots()
	return len(roots) > 0 || !own && s.f.cfg.Roots == nil
}

// usesOf are the types that InstallCertificate may name.
func usesOf(v ocpp.Version) []string {
	switch v {
	case ocpp.V16:
		return []string{useCentralSystemRoot, useManufacturerRoot}
	case ocpp.V201:
		return []string{"V2GRootCertificate", "MORootCertificate", useCSMSRoot, useManufacturerRoot}
	}
	return []string{"V2GRootCertificate", "MORootCertificate", useCSMSRoot, useManufacturerRoot, "OEMRootCertificate"}
}

// install applies InstallCertificate (OCPP 2.x M05, 1.6 security extension).
func (s *station) install(use, text string) (status, why string) {
	limit := maxCertificate
	if s.id.Version == ocpp.V21 {
		limit = maxCertificate21
	}
	if !slices.Contains(usesOf(s.id.Version), use) {
		return "Rejected", "InvalidValue"
	}
	if len(text) > limit {
		return "Rejected", "InvalidCertificate"
	}
	if s.quirks.has(FixedRoot) {
		return "Rejected", "ReadOnly"
	}
	parsed, err := parseChain(text)
	if err != nil || len(parsed) != 1 || !parsed[0].IsCA || time.Now().After(parsed[0].NotAfter) || time.Now().Before(parsed[0].NotBefore) {
		return "Rejected", "InvalidCertificate"
	}
	fresh := parsed[0]
	all := s.store()
	for _, old := range all {
		if old.use == use && old.certificate.Equal(fresh) {
			return "Accepted", "" // M05: present already
		}
	}
	all = slices.Clone(all)
	if use == s.rootUse() && s.f.behave.AdditionalRootCheck {
		// One root at a time: signed by the one in force, which stays as a fallback.
		all = slices.DeleteFunc(all, func(x installed) bool { return x.use == use && x.fallback })
		signed := false
		for i := range all {
			if all[i].use != use {
				continue
			}
			if fresh.CheckSignatureFrom(all[i].certificate) == nil {
				signed, all[i].fallback = true, true
			}
		}
		if !signed {
			return "Rejected", "InvalidCertificate"
		}
	}
	if len(all) >= maxInstalled {
		return "Rejected", "StorageFull"
	}
	s.keep(append(all, installed{use: use, certificate: fresh}))
	if use == s.rootUse() {
		s.securityEvent(eventReconfiguration, use+" installed")
	}
	return "Accepted", ""
}

// serverProved drops the fallback root if the connection's server certificate
// verifies without it (AdditionalRootCertificateCheck).
func (s *station) serverProved() {
	if s.extra == nil || !slices.ContainsFunc(s.extra.trust, func(x installed) bool { return x.fallback }) {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(s.extra.trust), func(x installed) bool { return x.fallback })
	if !s.strands(rest) {
		s.keep(rest)
	}
}

// strands reports whether the connection's server certificate would not verify
// with the given store.
func (s *station) strands(store []installed) bool {
	if s.conn == nil {
		return false
	}
	tc, ok := s.conn.nc.(*tls.Conn)
	return ok && verifyServer(tc.ConnectionState().PeerCertificates, s.endpoint().target.host, poolOf(csmsRoots(store), true), time.Now()) != nil
}

// deleteCertificate applies DeleteCertificate. The station's own
// certificate stays, and so does the root without which the station would not
// believe the server that it is connected to.
func (s *station) deleteCertificate(h hashData) string {
	all := s.store()
	matches := func(c *x509.Certificate) bool {
		own, err := hashOf(c, s.issuerOf(c, all), h.Algorithm)
		return err == nil && strings.EqualFold(own.IssuerName, h.IssuerName) &&
			strings.EqualFold(own.IssuerKey, h.IssuerKey) && strings.EqualFold(own.Serial, strings.TrimLeft(h.Serial, "0"))
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(x installed) bool { return matches(x.certificate) })
	if len(rest) == len(all) {
		if leaf := s.leaf(); leaf != nil && matches(leaf) {
			return "Failed" // the station's own
		}
		return "NotFound"
	}
	if s.strands(rest) {
		return "Failed"
	}
	s.keep(rest)
	return "Accepted"
}

// issuerOf finds who signed a certificate, among the store and the station's own
// chain; the certificate itself if nobody is found.
func (s *station) issuerOf(c *x509.Certificate, all []installed) *x509.Certificate {
	if c.CheckSignatureFrom(c) == nil {
		return c
	}
	for _, x := range all {
		if c.CheckSignatureFrom(x.certificate) == nil {
			return x.certificate
		}
	}
	if own := s.id.Certificate; own != nil {
		for _, der := range own.Certificate[1:] {
			if parent, err := x509.ParseCertificate(der); err == nil && c.CheckSignatureFrom(parent) == nil {
				return parent
			}
		}
	}
	return c
}

// installedIDs lists the CA certificates of the given types, all if there are none.
func (s *station) installedIDs(uses []string) (types []string, hashes []hashData) {
	all := s.store()
	for _, x := range all {
		if len(uses) > 0 && !slices.Contains(uses, x.use) {
			continue
		}
		if h, err := hashOf(x.certificate, s.issuerOf(x.certificate, all), "SHA256"); err == nil {
			types, hashes = append(types, x.use), append(hashes, h)
		}
	}
	return types, hashes
}

// hashOf is the CertID of a certificate as OCSP computes it (RFC 6960 §4.1.1).
func hashOf(c, issuer *x509.Certificate, algorithm string) (hashData, error) {
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
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return hashData{}, err
	}
	h.Write(c.RawIssuer)
	name := h.Sum(nil)
	h.Reset()
	h.Write(key.Bits.RightAlign())
	return hashData{algorithm, hex.EncodeToString(name), hex.EncodeToString(h.Sum(nil)), c.SerialNumber.Text(16)}, nil
}
