package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/est"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// Issued is a certificate with the key that was made for it.
type Issued struct {
	Certificate store.Certificate `json:"certificate"`
	Chain       string            `json:"chain" doc:"Certificate and issuing CA, PEM: ID.crt"`
	Key         string            `json:"key" doc:"Private key, PEM (PKCS#8); shown only now: ID.key"`
	CA          string            `json:"ca" doc:"What the station trusts servers with, PEM: ca.crt"`
}

// Signed is a certificate for a key that somebody else has.
type Signed struct {
	Certificate store.Certificate `json:"certificate"`
	Chain       string            `json:"chain" doc:"Certificate and issuing CA, without the root, PEM"`
}

// issue has a station's key certified; the PEM is the chain that the station
// presents: itself and the issuing CA. Some stations refuse a bare certificate.
func (a *Authority) issue(ctx context.Context, s store.Station, csr *x509.CertificateRequest, now time.Time) (store.Certificate, error) {
	chain, err := a.stationCA.certify(ctx, s, csr, now)
	if err != nil {
		return store.Certificate{}, fmt.Errorf("certificate of station %s: %w", s.ID, err)
	}
	c := inventoryEntry(chain[0], store.KindStation, s.ID)
	c.Issued, c.Created, c.ExternalCA = true, now, a.stationCA.address()
	c.PublicKey = pki.KeyFingerprint(chain[0].RawSubjectPublicKeyInfo)
	c.PEM = pki.EncodeCertificates(chain...)
	return c, nil
}

func (a *Authority) issueWithKey(ctx context.Context, s store.Station, algorithm pki.Algorithm, now time.Time) (*Issued, error) {
	key, err := pki.GenerateKey(algorithm)
	if err != nil {
		return nil, invalid("algorithm", "use ecdsa or rsa", "%v", err)
	}
	csr, err := pki.NewStationRequest(pki.StationSubject(s.Serial, a.cfg.Operator), key)
	if err != nil {
		return nil, err
	}
	c, err := a.issue(ctx, s, csr, now)
	if e, ok := errors.AsType[*ExternalCAError](err); ok && e.Kind == est.Pending {
		e.Fix = "this key is gone: have it issue without approval, or register the station without a certificate and send a signing request (holdfast cert sign)"
		e.RetryAfter = 0
		return nil, fmt.Errorf("certificate of station %s: %w", s.ID, e)
	}
	if err != nil {
		return nil, err
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	return &Issued{Certificate: c, Chain: c.PEM, Key: text, CA: pki.EncodeCertificates(h.roots()...)}, nil
}

// addIssued adds an issued certificate to the inventory.
func (a *Authority) addIssued(ctx context.Context, c store.Certificate, audit store.AuditEntry) (store.Certificate, error) {
	recorded, err := a.store.AddCertificate(ctx, c, audit)
	if c.ExternalCA != "" && (err != nil || recorded.Fingerprint != c.Fingerprint) {
		a.unused(c, err)
	}
	return recorded, err
}

// unused tells of a certificate of the external CA that did not reach the
// inventory: because another replica had one for the same key first, or by err.
func (a *Authority) unused(c store.Certificate, err error) {
	a.metrics.external.WithLabelValues(externalUnused).Inc()
	a.log.Warn("a certificate of the external CA is not used: revoke it there", "ca", c.ExternalCA, "serial", c.Serial, "station", c.Station, "err", err)
}

// IssueStation makes a key and a certificate for a station. Whoever can should
// use SignCSR instead, so that the private key never leaves the station.
func (a *Authority) IssueStation(ctx context.Context, by string, id ocpp.StationID, algorithm pki.Algorithm) (Issued, error) {
	if algorithm == "" {
		algorithm = pki.ECDSA
	}
	r, err := a.store.Station(ctx, id)
	if err != nil {
		return Issued{}, err
	}
	issued, err := a.issueWithKey(ctx, r.Station, algorithm, a.cfg.Now())
	if err != nil {
		return Issued{}, err
	}
	issued.Certificate, err = a.addIssued(ctx, issued.Certificate, a.entry(by, "certificate.issue", r.ID, issued.Certificate.Serial, "with a key made here"))
	if err != nil {
		return Issued{}, err
	}
	return *issued, nil
}

// SignCSR signs a station's PKCS#10 request (PEM): its signature, key strength,
// CN (the station's serial number) and O (the operator, if given) are checked,
// requested extensions are ignored. A request for a key that was certified
// already gets the same certificate again, so that a repeated request, on
// whichever replica, makes no second one; in the last third of its life, a new one.
func (a *Authority) SignCSR(ctx context.Context, by string, id ocpp.StationID, text string) (Signed, error) {
	r, err := a.store.Station(ctx, id)
	if err != nil {
		return Signed{}, err
	}
	csr, err := pki.ParseCSR([]byte(text))
	if err != nil {
		return Signed{}, invalid("csr", "send a PKCS#10 request as PEM with an RSA key of 2048 bits or more, or an ECDSA key such as P-256", "%v", err)
	}
	if err := pki.CheckSubject(csr, r.Serial, a.cfg.Operator); err != nil {
		return Signed{}, invalid("csr", "register the serial number that the station has, and set its organization name to the operator's", "%v", err)
	}
	publicKey := pki.KeyFingerprint(csr.RawSubjectPublicKeyInfo)
	drop, err := a.stationCA.claim(ctx, publicKey)
	if err != nil {
		return Signed{}, fmt.Errorf("certificate of station %s: %w", r.ID, err)
	}
	defer drop()
	now := a.cfg.Now()
	have, err := a.store.CertificateOfKey(ctx, r.ID, publicKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return Signed{}, err
	case have.Status == store.StatusRevoked && have.Reason == string(pki.KeyCompromise):
		return Signed{}, invalid("csr", "make a new key", "the certificate of this key was revoked because the key was compromised")
	case have.Status != store.StatusRevoked && now.Before(have.Created.Add(have.NotAfter.Sub(have.Created)*2/3)) && sameName(have, r.Serial):
		return Signed{Certificate: have, Chain: have.PEM}, nil
	default:
		if err := a.store.ReleaseKey(ctx, r.ID, have.Fingerprint); err != nil {
			return Signed{}, err
		}
	}
	c, err := a.issue(ctx, r.Station, csr, now)
	if err != nil {
		return Signed{}, err
	}
	if c, err = a.addIssued(ctx, c, a.entry(by, "certificate.sign", r.ID, c.Serial, "")); err != nil {
		return Signed{}, err
	}
	return Signed{Certificate: c, Chain: c.PEM}, nil
}

// sameName reports whether a certificate is still for the station's serial number.
func sameName(c store.Certificate, serial string) bool {
	certs, err := pki.ParseCertificates([]byte(c.PEM))
	return err == nil && strings.EqualFold(certs[0].Subject.CommonName, serial)
}

// maxServerNames is the most names in a server's certificate.
const maxServerNames = 32

// ServerCertificate signs a gateway's request for the given host names and IP
// addresses, for a short life: ask again after half of it. Its chain ends below
// the root. What the request itself asks for is ignored but for its key.
func (a *Authority) ServerCertificate(ctx context.Context, by, text string, names []string) (Signed, error) {
	csr, err := pki.ParseCSR([]byte(text))
	if err != nil {
		return Signed{}, invalid("csr", "", "%v", err)
	}
	if len(names) > maxServerNames {
		return Signed{}, invalid("names", "", "%d names, at most %d are allowed", len(names), maxServerNames)
	}
	subject, err := pki.ServerSubject(names, a.cfg.Operator)
	if err != nil {
		return Signed{}, invalid("names", "give the names in the stations' URLs", "%v", err)
	}
	if err := checkName("names", subject.CommonName); err != nil {
		return Signed{}, err
	}
	algorithm, err := pki.AlgorithmOf(csr.PublicKey)
	if err != nil {
		return Signed{}, invalid("csr", "", "%v", err)
	}
	profile := pki.Server
	profile.Lifetime, profile.Backdate = a.cfg.ServerLifetime, a.cfg.Backdate
	h, err := a.hierarchy(ctx)
	if err != nil {
		return Signed{}, err
	}
	ca, err := a.issuer(ctx, caName{roleServer, algorithm})
	if err != nil {
		return Signed{}, fmt.Errorf("server certificate: %w", err)
	}
	now := a.cfg.Now()
	cert, err := ca.Issue(profile, subject, csr.PublicKey, now)
	if err != nil {
		return Signed{}, fmt.Errorf("server certificate: %w", err)
	}
	c := inventoryEntry(cert, store.KindServer, "")
	c.Issued, c.Created = true, now
	c.PEM = pki.EncodeCertificates(append([]*x509.Certificate{cert}, h.presented(ca)...)...)
	detail := strings.Join(names, " ")
	if c, err = a.store.AddCertificate(ctx, c, a.entry(by, "certificate.server", "", c.Serial, clip(detail))); err != nil {
		return Signed{}, err
	}
	return Signed{Certificate: c, Chain: c.PEM}, nil
}

// RevokeCertificate revokes a certificate, named by its serial number or
// fingerprint in hex, and ends the connections that rest on it. reason is one of
// pki's; empty means unspecified. Revoking again changes nothing.
func (a *Authority) RevokeCertificate(ctx context.Context, by, serial, reason string) (store.Certificate, error) {
	why := pki.Reason(strings.ReplaceAll(strings.ToLower(reason), "-", "_"))
	if why == "" {
		why = pki.Unspecified
	}
	if !why.Valid() {
		return store.Certificate{}, invalid("reason", "use unspecified, key_compromise, affiliation_changed, superseded, cessation_of_operation or privilege_withdrawn",
			"%.40q is not a reason for revocation", reason)
	}
	c, err := a.Certificate(ctx, serial)
	if err != nil {
		return c, err
	}
	c, generation, err := a.store.Revoke(ctx, c.Fingerprint, string(why), a.cfg.Now(), a.entry(by, "certificate.revoke", c.Station, c.Serial, string(why)))
	if err != nil {
		return c, err
	}
	a.publish(Change{Kind: ChangeCertificate, Station: c.Station, Fingerprint: c.Fingerprint, Generation: generation, Drop: true})
	return c, nil
}

// Certificate returns a certificate by its serial number or fingerprint in hex;
// colons and leading zeros do not matter. ErrNotFound without it.
func (a *Authority) Certificate(ctx context.Context, serial string) (store.Certificate, error) {
	name := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(serial), ":", ""))
	if len(name) != 64 { // not a fingerprint
		name = strings.TrimLeft(name, "0")
	}
	list, err := a.store.FindCertificates(ctx, name)
	switch {
	case err != nil:
		return store.Certificate{}, err
	case len(list) == 0:
		return store.Certificate{}, fmt.Errorf("certificate %.80s: %w", serial, store.ErrNotFound)
	case len(list) > 1:
		return store.Certificate{}, invalid("serial", "name it by its fingerprint", "%d certificates of different issuers have serial number %s", len(list), name)
	}
	return list[0], nil
}

// Certificates lists the inventory, newest first, at most 200 at a time, without
// the PEM text.
func (a *Authority) Certificates(ctx context.Context, f store.CertificateFilter, p store.Page) (store.List[store.Certificate], error) {
	l, err := a.store.Certificates(ctx, f, bounded(p))
	for i := range l.Items {
		l.Items[i].PEM = ""
	}
	return l, err
}
