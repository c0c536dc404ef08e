package authority

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/pki"
	"holdfast/store"
)

// published are the statements about certificates of ours that are signed and
// still fresh, by the CA's fingerprint: as many as there are CAs.
type published struct {
	mu         sync.Mutex
	lists      map[string]*revocationList
	responders map[string]*responder
}

// revocationList is a signed revocation list.
type revocationList struct {
	der        []byte
	generation int64
	made, next time.Time
}

// responder is a delegated OCSP responder of a CA. Its key is only in memory.
type responder struct {
	cert  *pki.CA // a certificate with its key; no CA
	renew time.Time
}

const (
	crlLifetime = 24 * time.Hour // when the reader of a revocation list should have asked again
	crlRenewal  = crlLifetime / 2

	ocspLifetime = time.Hour // of a response: how late a revocation can be noticed

	// statedEarlier is how long ago a list or a response says that it was made, for
	// readers whose clock is slow; but not before what it reports.
	statedEarlier = 10 * time.Minute
)

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// maxCRL is the most entries of a revocation list. A list with more is an error:
// a part of it would be a false statement.
const maxCRL = 500_000

// CRL returns the signed revocation list of one of our CAs in DER, and when the
// next one is due. name is the CA's key identifier in hex, or its kind, such as
// station-ecdsa, for the one that issues. It lists what was revoked and has not
// expired. ErrNotFound without such a CA, or if its key is kept elsewhere: whoever
// has the key publishes its list.
func (a *Authority) CRL(ctx context.Context, name string) (der []byte, next time.Time, err error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	ca := h.publishing(name)
	if ca == nil {
		return nil, time.Time{}, fmt.Errorf("revocation list of CA %.64q: %w", name, ErrNotFound)
	}
	a.published.mu.Lock()
	defer a.published.mu.Unlock() // one at a time signs
	now := a.cfg.Now()
	if l := a.published.lists[ca.record.Fingerprint]; l != nil && l.generation >= h.generation && now.Before(l.made.Add(crlRenewal)) {
		return l.der, l.next, nil
	}
	revoked, err := a.store.Revocations(ctx, ca.key(), now, maxCRL+1)
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(revoked) > maxCRL {
		return nil, time.Time{}, fmt.Errorf("revocation list of CA %s: more than %d entries: let another CA issue and retire this one", ca.name, maxCRL)
	}
	entries := make([]pki.Revoked, len(revoked))
	from := now.Add(-statedEarlier)
	for i, r := range revoked {
		entries[i] = pki.Revoked{Serial: r.Serial, At: r.At, Reason: pki.Reason(r.Reason)}
		from = later(from, r.At)
	}
	l := &revocationList{generation: h.generation, made: now, next: now.Add(crlLifetime)}
	// Numbers by the clock grow over restarts and replicas, too.
	if l.der, err = ca.RevocationList(entries, now.UnixMicro(), from, l.next); err != nil {
		return nil, time.Time{}, err
	}
	if a.published.lists == nil {
		a.published.lists = make(map[string]*revocationList)
	}
	for fingerprint := range a.published.lists {
		if h.cas[fingerprint] == nil {
			delete(a.published.lists, fingerprint) // retired
		}
	}
	a.published.lists[ca.record.Fingerprint] = l
	return l.der, l.next, nil
}

// publishing finds a CA whose key is here.
func (h *hierarchy) publishing(name string) *issuer {
	name = strings.ToLower(name)
	if i := h.issuing[nameOf(name)]; i != nil && i.Key != nil {
		return i
	}
	for _, i := range h.cas {
		if i.name.role != roleCross && i.Key != nil && i.key() == name {
			return i
		}
	}
	return nil
}

// OCSP answers an OCSP request (RFC 6960, in the lightweight way of RFC 5019)
// about a certificate that one of our CAs issued. It always returns a response,
// if need be one that says why there is no answer; until is how long that may be
// cached, zero: not at all.
func (a *Authority) OCSP(ctx context.Context, request []byte) (der []byte, until time.Time) {
	q, err := pki.ParseOCSPRequest(request)
	if err != nil {
		return pki.OCSPMalformed, time.Time{}
	}
	der, until, err = a.ocsp(ctx, q)
	if err != nil {
		a.log.Error("answer an OCSP request", "err", err)
		return pki.OCSPInternal, time.Time{}
	}
	return der, until
}

func (a *Authority) ocsp(ctx context.Context, q *pki.CertID) ([]byte, time.Time, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	var ca *issuer
	for _, i := range h.cas {
		if i.name.role != roleCross && i.Key != nil && q.IssuedBy(i.Cert) {
			ca = i
		}
	}
	if ca == nil {
		return pki.OCSPUnauthorized, time.Time{}, nil
	}
	s := pki.OCSPStatus{Known: true}
	status, r, err := a.store.CertificateOfIssuer(ctx, ca.key(), q.Serial.Text(16))
	switch {
	case errors.Is(err, ErrNotFound):
		s.Known = ca.certified(h, q.Serial.Text(16))
	case err != nil:
		return nil, time.Time{}, err
	case status == store.StatusRevoked:
		s.Revoked = &pki.Revoked{Serial: r.Serial, At: r.At, Reason: pki.Reason(r.Reason)}
	}
	now := a.cfg.Now()
	responder, err := a.responder(ctx, h, ca, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	from, until := now.Add(-statedEarlier), now.Add(ocspLifetime)
	if s.Revoked != nil {
		from = later(from, s.Revoked.At)
	}
	der, err := pki.OCSPResponse(ca.Cert, responder.Cert, responder.Key, q, s, from, until)
	return der, until, err
}

// certified reports whether a root issued a CA of ours.
func (i *issuer) certified(h *hierarchy, serial string) bool {
	for _, c := range h.cas {
		if pki.SerialHex(c.Cert) == serial && c.Cert.CheckSignatureFrom(i.Cert) == nil {
			return true
		}
	}
	return false
}

// responder returns the delegated responder of a CA, a new one after half of its
// life or a restart.
func (a *Authority) responder(ctx context.Context, h *hierarchy, ca *issuer, now time.Time) (*pki.CA, error) {
	a.published.mu.Lock()
	defer a.published.mu.Unlock()
	if r := a.published.responders[ca.record.Fingerprint]; r != nil && now.Before(r.renew) {
		return r.cert, nil
	}
	key, err := pki.GenerateKey(ca.name.algorithm) // who can verify the CA can verify the responder
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue(pki.OCSPResponder, pki.Subject{CommonName: "OCSP responder of " + clipName(ca.Cert.Subject.CommonName), Organization: a.cfg.Operator}, key.Public(), now)
	if err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	c := inventoryEntry(cert, store.KindOCSP, "")
	c.Issued, c.Created, c.PEM = true, now, pki.EncodeCertificates(cert)
	if _, err := a.store.AddCertificate(ctx, c, a.entry("authority", "certificate.ocsp", "", c.Serial, ca.name.String())); err != nil {
		return nil, fmt.Errorf("OCSP responder: %w", err)
	}
	if a.published.responders == nil {
		a.published.responders = make(map[string]*responder)
	}
	for fingerprint := range a.published.responders {
		if h.cas[fingerprint] == nil {
			delete(a.published.responders, fingerprint) // retired
		}
	}
	r := &responder{cert: &pki.CA{Cert: cert, Key: key}, renew: now.Add(cert.NotAfter.Sub(now) / 2)}
	a.published.responders[ca.record.Fingerprint] = r
	return r.cert, nil
}

// clipName keeps a common name within what fits beside other words.
func clipName(s string) string {
	r := []rune(s)
	return string(r[:min(len(r), 40)])
}

// caCertificate is the certificate of one of our CAs in DER; name as for CRL.
func (a *Authority) caCertificate(ctx context.Context, name string) ([]byte, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	name = strings.ToLower(name)
	if i := h.issuing[nameOf(name)]; i != nil {
		return i.Cert.Raw, nil
	}
	for _, i := range h.cas {
		if i.name.role != roleCross && i.key() == name {
			return i.Cert.Raw, nil
		}
	}
	return nil, fmt.Errorf("CA %.64q: %w", name, ErrNotFound)
}
