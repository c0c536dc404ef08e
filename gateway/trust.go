package gateway

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/ocpp"
	"holdfast/ws"
)

// Trust is what a gateway verifies client certificates with. The authority
// gives it, and gives a new one when something changes.
type Trust struct {
	Roots         []*x509.Certificate
	Intermediates []*x509.Certificate // complete the chains of stations that send only their leaf
	Revoked       map[[32]byte]bool   // SHA-256 of revoked client certificates
	Barred        []ocpp.StationID    // must not be connected
}

// tlsState holds what handshakes are made with. All of it can be replaced
// without closing a connection.
type tlsState struct {
	now atomic.Pointer[tlsNow]

	mu       sync.Mutex
	salt     [32]byte           // makes hashes of chains unpredictable, so that half of one is enough
	verified map[[16]byte]int64 // presented chains that verified, and until when that holds, in Unix seconds; guarded by mu
	of       *tlsNow            // which verified belongs to; guarded by mu
}

type tlsNow struct {
	profiles     [4]*tls.Config // by security profile
	certificates []tls.Certificate
	tickets      [][32]byte
	roots, inter *x509.CertPool
	known        map[[32]byte]bool // SHA-256 of what is in the two pools
	expires      time.Time         // of the first of these
	revoked      map[[32]byte]bool
	dead         map[[16]byte]bool // the same, as connections remember their certificate
	barred       []ocpp.StationID
}

// maxVerified bounds the verified chains that are remembered.
const maxVerified = 100_000

// suites are offered below TLS 1.3: the four that OCPP requires of a CSMS
// (A00.FR.318, 2.x part 2; two of them need an RSA certificate and have no
// forward secrecy, so they come last) and what clients commonly prefer.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
}

// TLS is everything that handshakes are made with.
type TLS struct {
	// Certificates are the server's, ECDSA first; the first one also serves
	// clients that send no server name.
	Certificates []tls.Certificate
	Trust        Trust
	// Tickets are the session ticket keys that all gateways share, newest first.
	// Empty: this process makes its own.
	Tickets [][32]byte
}

// SetTLS replaces everything that handshakes are made with. Connections stay.
func (g *Gateway) SetTLS(t TLS) { g.tls.set(t) }

func (s *tlsState) set(t TLS) {
	n := &tlsNow{
		certificates: t.Certificates, tickets: t.Tickets, revoked: t.Trust.Revoked,
		roots: x509.NewCertPool(), inter: x509.NewCertPool(), known: make(map[[32]byte]bool),
		dead: make(map[[16]byte]bool, len(t.Trust.Revoked)), barred: t.Trust.Barred,
	}
	for sum := range t.Trust.Revoked {
		n.dead[[16]byte(sum[:16])] = true
	}
	for pool, list := range map[*x509.CertPool][]*x509.Certificate{n.roots: t.Trust.Roots, n.inter: t.Trust.Intermediates} {
		for _, c := range list {
			pool.AddCert(c)
			n.known[sha256.Sum256(c.Raw)] = true
			if n.expires.IsZero() || c.NotAfter.Before(n.expires) {
				n.expires = c.NotAfter
			}
		}
	}
	base := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		Certificates: t.Certificates,
		NextProtos:   []string{"http/1.1"},
	}
	mutual := base.Clone()
	// Any certificate, then our own check: it gives the reason, and the standard
	// one would insist on an extended key usage that OCPP advises against (A00.FR.514).
	mutual.ClientAuth = tls.RequireAnyClientCert
	// Called on resumption, too, so that a revoked certificate cannot resume.
	mutual.VerifyConnection = func(cs tls.ConnectionState) error { return s.verify(n, cs, time.Now()) }
	if len(t.Tickets) > 0 {
		base.SetSessionTicketKeys(t.Tickets)
		mutual.SetSessionTicketKeys(ticketsOf(t.Trust, t.Tickets))
	}
	n.profiles[ocpp.ProfileTLS], n.profiles[ocpp.ProfileMTLS] = base, mutual
	s.now.Store(n)
}

// ticketsOf binds the ticket keys to the CAs that are trusted: a ticket that
// opens was given by a gateway that verified the same chain against the same
// CAs, so the chain's signatures need no second look. All gateways with the same
// trust have the same keys; another trust makes every ticket void.
func ticketsOf(trust Trust, tickets [][32]byte) [][32]byte {
	var cas [][]byte
	for _, list := range [][]*x509.Certificate{trust.Roots, trust.Intermediates} {
		part := make([][]byte, 0, len(list))
		for _, c := range list {
			sum := sha256.Sum256(c.Raw)
			part = append(part, sum[:])
		}
		slices.SortFunc(part, bytes.Compare)
		cas = append(append(cas, part...), nil) // a border between the lists
	}
	bound := make([][32]byte, len(tickets))
	for i, key := range tickets {
		h := hmac.New(sha256.New, key[:])
		h.Write([]byte("session ticket of a verified client"))
		for _, sum := range cas {
			h.Write([]byte{byte(len(sum))})
			h.Write(sum)
		}
		bound[i] = [32]byte(h.Sum(nil))
	}
	return bound
}

// config is the configuration of a listener: it looks up the current one at
// each handshake.
func (s *tlsState) config(profile ocpp.SecurityProfile) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			n := s.now.Load()
			if n == nil || len(n.certificates) == 0 {
				return nil, errors.New("no server certificate yet")
			}
			return n.profiles[profile], nil
		},
	}
}

// certificateError says why a client certificate was refused in the handshake.
type certificateError struct {
	reason  ocpp.Reason
	subject string
	err     error
}

func (e *certificateError) Error() string {
	return fmt.Sprintf("client certificate of %q: %s: %v", e.subject, e.reason, e.err)
}

func (e *certificateError) Unwrap() error { return e.err }

// HandshakeFailure is the metric label of the failure.
func (e *certificateError) HandshakeFailure() string { return string(e.reason) }

// verify checks the presented chain: revocation and dates each time, signatures
// once per chain for as long as all its certificates are valid, and not again
// for a resumed session, whose ticket proves that they were checked (ticketsOf).
func (s *tlsState) verify(n *tlsNow, cs tls.ConnectionState, now time.Time) error {
	chain := cs.PeerCertificates
	if len(chain) == 0 {
		return &certificateError{reason: ocpp.ReasonNoCertificate, err: errors.New("none presented")}
	}
	leaf := chain[0]
	fail := func(reason ocpp.Reason, err error) error {
		subject := leaf.Subject.CommonName
		return &certificateError{reason: reason, subject: subject[:min(len(subject), 64)], err: err}
	}
	if n.revoked[sha256.Sum256(leaf.Raw)] {
		return fail(ocpp.ReasonRevoked, errors.New("revoked"))
	}
	h := hmac.New(sha256.New, s.salt[:])
	for _, c := range chain {
		h.Write(c.Raw)
	}
	key := [16]byte(h.Sum(nil))
	s.mu.Lock()
	until, ok := s.verified[key]
	ok = ok && s.of == n && now.Unix() < until
	s.mu.Unlock()
	if ok {
		return nil
	}
	if now.Before(leaf.NotBefore) {
		return fail(ocpp.ReasonNotYetValid, fmt.Errorf("valid in %s", leaf.NotBefore.Sub(now).Round(time.Second)))
	}
	if now.After(leaf.NotAfter) {
		return fail(ocpp.ReasonExpired, fmt.Errorf("expired %s ago", now.Sub(leaf.NotAfter).Round(time.Second)))
	}
	// Once a CA has expired, chains are looked at again: a ticket does not say to which CA it belongs.
	expired := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	if cs.DidResume && len(n.tickets) > 0 && now.Before(n.expires) && !slices.ContainsFunc(chain[1:], expired) {
		return nil
	}
	inter := n.inter
	for _, c := range chain[1:] {
		// A CA that is in both pools would have its signature on the leaf checked twice.
		if n.known[sha256.Sum256(c.Raw)] {
			continue
		}
		if inter == n.inter {
			inter = n.inter.Clone()
		}
		inter.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: n.roots, Intermediates: inter, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return fail(ocpp.ReasonExpired, err)
		}
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			for _, c := range chain { // crypto/x509 does not tell it from a CA that is not known
				if outdated(c.SignatureAlgorithm) && !bytes.Equal(c.RawIssuer, c.RawSubject) {
					return fail(ocpp.ReasonBadCertificate, fmt.Errorf("%.64q is signed with %s", c.Subject.CommonName, c.SignatureAlgorithm))
				}
			}
			return fail(ocpp.ReasonUnknownCA, err)
		}
		return fail(ocpp.ReasonBadCertificate, err)
	}
	until = leaf.NotAfter.Unix()
	for _, c := range chains[0] {
		until = min(until, c.NotAfter.Unix())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load() != n {
		return nil // trust changed meanwhile: nothing to remember
	}
	if s.of != n || len(s.verified) >= maxVerified {
		s.of, s.verified = n, make(map[[16]byte]int64)
	}
	s.verified[key] = until
	return nil
}

// outdated reports signatures that crypto/x509 believes no more.
func outdated(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// Enforce closes the connections that the current trust forbids and forgets what
// is remembered of barred stations.
func (g *Gateway) Enforce() {
	n := g.tls.now.Load()
	if n == nil || len(n.revoked)+len(n.barred) == 0 {
		return
	}
	barred := make(map[string]bool, len(n.barred))
	for _, station := range n.barred {
		g.admit.drop(station)
		barred[station.Fold()] = true
	}
	for _, c := range g.all() {
		if len(barred) > 0 && barred[c.id.Fold()] {
			c.ws.Close(closePolicy, "no longer admitted", CloseRevoked)
		} else if n.dead[c.leaf] {
			c.ws.Close(closePolicy, "certificate revoked", CloseRevoked)
		}
	}
}

// forbidden says why a connection that was just registered must end: its station
// was dropped or its certificate revoked after it asked (Unix microseconds).
// Empty: it may go on.
func (g *Gateway) forbidden(c *conn, asked int64) string {
	if n := g.tls.now.Load(); n != nil && n.dead[c.leaf] {
		return "certificate revoked"
	}
	if g.admit.isDropped(c.id, asked) {
		return "no longer admitted"
	}
	return ""
}

// Drop closes a station's connection and forgets its admission; with the
// fingerprint of a certificate (SHA-256, hex), the connection only if it rests on
// that.
func (g *Gateway) Drop(station ocpp.StationID, fingerprint string, reason ws.CloseReason) {
	if fingerprint == "" {
		g.admit.drop(station) // first: a connection that is not registered yet finds it when it is
	} else {
		g.admit.forget(station)
	}
	c := g.lookup(station)
	if c == nil {
		return
	}
	if sum, err := hex.DecodeString(fingerprint); fingerprint != "" && (err != nil || len(sum) < 16 || c.leaf != [16]byte(sum[:16])) {
		return
	}
	c.ws.Close(closePolicy, "no longer admitted", reason)
}
