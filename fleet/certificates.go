package fleet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
)

// maxChain is the longest certificate chain that a station takes, in bytes of
// PEM (CertificateSignedMaxChainSize, MaxCertificateChainSize).
const maxChain = 10_000

// Defaults of the variables of SecurityCtrlr that rule repeated requests.
const (
	certSigningWait    = 60 * time.Second // CertSigningWaitMinimum
	certSigningRepeats = 3                // CertSigningRepeatTimes
)

// renewal is what a station knows of the certificate that is to come.
type renewal struct {
	key       *ecdsa.PrivateKey // of the CSR that waits for CertificateSigned
	requestID *int              // of the last SignCertificate, 2.1
	requests  int               // SignCertificate sent in this renewal
	previous  *tls.Certificate  // until the new one made a connection
	future    *tls.Certificate  // accepted, but not valid yet (1.6)
}

// leaf is the station's own certificate; nil if there is none.
func (s *station) leaf() *x509.Certificate {
	if s.id.Certificate == nil || len(s.id.Certificate.Certificate) == 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(s.id.Certificate.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

// scheduleRenewal plans the request for the next certificate: a month before
// this one ends (A03), or when a third of its life is left if that is later.
func (s *station) scheduleRenewal() {
	before := s.f.behave.RenewBefore
	leaf := s.leaf()
	if before < 0 || leaf == nil || s.profile != ocpp.ProfileMTLS || s.scheduled(taskRenew, 0) {
		return
	}
	before = min(before, leaf.NotAfter.Sub(leaf.NotBefore)/3)
	s.schedule(taskRenew, 0, s.f.elapsed()+time.Until(leaf.NotAfter.Add(-before)))
}

// renew begins a renewal, now or, without a registration, a little later.
func (s *station) renew() {
	if s.conn == nil || s.state != accepted {
		s.schedule(taskRenew, 0, s.f.elapsed()+certSigningWait)
		return
	}
	s.beginRenewal()
}

// beginRenewal asks for a certificate; a request that waits for its answer is
// forgotten.
func (s *station) beginRenewal() {
	s.more().renewal.requests = 0
	s.requestCertificate()
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
	} else if leaf := s.leaf(); leaf != nil {
		subject.Organization, subject.CommonName = leaf.Subject.Organization, leaf.Subject.CommonName
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		s.f.log.Warn("certificate request", "station", s.id.ID, "err", err)
		return
	}
	r := &s.more().renewal
	r.key = key
	r.requests++
	request := struct {
		CSR       string `json:"csr"`
		Type      string `json:"certificateType,omitempty"`
		RequestID *int   `json:"requestId,omitempty"`
	}{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}
	if s.id.Version.Is2x() {
		request.Type = "ChargingStationCertificate"
		// A02.FR.17: CertificateSigned may stay out. 1.6 does not ask again.
		s.schedule(taskSign, 0, s.f.elapsed()+s.signingWait()<<(r.requests-1))
	}
	if s.id.Version == ocpp.V21 {
		id := int(s.newNumber())
		r.requestID, request.RequestID = &id, &id
	}
	s.callEarly("SignCertificate", request, func(result json.RawMessage, err error) {
		if err == nil {
			var answer simple
			if answer, err = decode[simple](s, "SignCertificate", result); err == nil && answer.Status != "Accepted" {
				err = errors.New("the server does not sign")
			}
		}
		if err != nil && r.key == key && !errors.Is(err, errOffline) && !errors.Is(err, errTimeout) {
			s.forgetRequest() // it will not come
		}
	})
}

func (s *station) signingWait() time.Duration {
	if n, ok := s.changed("SecurityCtrlr.CertSigningWaitMinimum."); ok {
		return time.Duration(n) * time.Second
	}
	return certSigningWait
}

func (s *station) forgetRequest() {
	r := &s.extra.renewal
	r.key, r.requestID, r.requests = nil, nil, 0
	s.cancel(taskSign, 0)
}

// signingOverdue asks again, after a doubled wait, and gives up after
// CertSigningRepeatTimes (A02.FR.18, FR.19).
func (s *station) signingOverdue() {
	if s.extra == nil || s.extra.renewal.key == nil {
		return
	}
	repeats := certSigningRepeats
	if n, ok := s.changed("SecurityCtrlr.CertSigningRepeatTimes."); ok {
		repeats = n
	}
	if s.extra.renewal.requests > repeats {
		s.forgetRequest()
		return
	}
	if s.conn == nil {
		s.schedule(taskSign, 0, s.f.elapsed()+s.signingWait())
		return
	}
	s.requestCertificate()
}

// certificateSigned takes the certificate for the key of the last CSR, and comes
// back with it. The old one stays until the new one made a connection.
func (s *station) certificateSigned(chain string, requestID *int) string {
	if s.id.Version == ocpp.V21 && (requestID == nil || s.extra == nil || s.extra.renewal.requestID == nil || *s.extra.renewal.requestID != *requestID) {
		return "Rejected" // the answer to another request, or to none
	}
	fresh, notBefore, err := s.checkSigned(chain)
	if err != nil {
		s.cancel(taskSign, 0) // A02.FR.20: not asked for again
		s.securityEvent(eventInvalidCertificate, err.Error())
		return "Rejected"
	}
	s.forgetRequest()
	s.cancel(taskRenew, 0)
	if time.Now().Before(notBefore) { // 1.6: from then on
		s.extra.renewal.future = fresh
		s.schedule(taskSwitch, 0, s.f.elapsed()+time.Until(notBefore))
		return "Accepted"
	}
	s.then(func() { s.useCertificate(fresh) })
	return "Accepted"
}

// checkSigned reads the chain of a CertificateSigned and says what is wrong with it.
func (s *station) checkSigned(chain string) (fresh *tls.Certificate, notBefore time.Time, err error) {
	parsed, err := parseChain(chain)
	if err != nil {
		return nil, time.Time{}, err
	}
	leaf := parsed[0]
	switch now := time.Now(); {
	case s.extra == nil || s.extra.renewal.key == nil:
		return nil, time.Time{}, errors.New("no certificate was asked for")
	case !s.extra.renewal.key.PublicKey.Equal(leaf.PublicKey):
		return nil, time.Time{}, errors.New("for another key")
	case now.After(leaf.NotAfter):
		return nil, time.Time{}, errors.New("expired")
	case now.Before(leaf.NotBefore) && s.id.Version.Is2x():
		return nil, time.Time{}, errors.New("not valid yet")
	}
	if own := s.leaf(); own != nil && own.Subject.CommonName != leaf.Subject.CommonName || own == nil && leaf.Subject.CommonName != s.id.Serial {
		return nil, time.Time{}, fmt.Errorf("for %q", leaf.Subject.CommonName)
	}
	fresh = &tls.Certificate{PrivateKey: s.extra.renewal.key}
	for i, part := range parsed {
		if i > 0 {
			if err := parsed[i-1].CheckSignatureFrom(part); err != nil {
				return nil, time.Time{}, fmt.Errorf("certificate %d of the chain: %w", i+1, err)
			}
		}
		fresh.Certificate = append(fresh.Certificate, part.Raw)
	}
	return fresh, leaf.NotBefore, nil
}

// useCertificate makes a new certificate the station's own, and comes back with
// it if certificates are what it connects with.
func (s *station) useCertificate(fresh *tls.Certificate) {
	r := &s.more().renewal
	if r.previous == nil {
		r.previous = s.id.Certificate
	}
	s.id.Certificate, r.future = fresh, nil
	s.extra.sessions = nil // a resumed session would be one with the old certificate
	s.securityEvent(eventReconfiguration, "client certificate")
	if s.profile == ocpp.ProfileMTLS {
		s.reconnectNow("new certificate")
	}
}

// switchCertificate uses a certificate from its notBefore on.
func (s *station) switchCertificate() {
	if s.extra != nil && s.extra.renewal.future != nil {
		s.useCertificate(s.extra.renewal.future)
	}
}

// certificateWorks forgets the old certificate: the new one made a connection.
func (s *station) certificateWorks() {
	if s.extra != nil && s.conn.profile == ocpp.ProfileMTLS {
		s.extra.renewal.previous = nil
	}
}

// certificateFailed returns to the old certificate if the server refused the new
// one; a server that is away has not refused it.
func (s *station) certificateFailed(kind errorKind, why error) {
	if s.extra == nil || s.extra.renewal.previous == nil || isServerCertificateError(why) {
		return
	}
	if kind != errorUnauthorized && kind != errorNotFound && kind != errorRefused && !isRemoteAlert(why) {
		return
	}
	s.id.Certificate, s.extra.renewal.previous, s.extra.sessions = s.extra.renewal.previous, nil, nil
	s.securityEvent(eventDiscardedCertificate, why.Error())
}

func isServerCertificateError(err error) bool {
	_, ok := errors.AsType[*serverCertificateError](err)
	return ok
}

// parseChain reads PEM certificates.
func parseChain(text string) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fmt.Errorf("%d bytes: at most %d", len(text), maxChain)
	}
	var chain []*x509.Certificate
	rest := bytes.TrimSpace([]byte(strings.ReplaceAll(text, "\r", "")))
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
