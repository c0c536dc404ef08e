package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// What a station presents is bounded before it is parsed.
const (
	maxChain      = 10       // certificates
	maxChainBytes = 64 << 10 // of all of them
)

// presented is a client certificate chain as it came in.
type presented struct {
	leaf        *x509.Certificate // nil: see problem
	others      []*x509.Certificate
	fingerprint string // of the leaf
	problem     string
}

func readChain(chain [][]byte) *presented {
	p := &presented{}
	size := 0
	for _, der := range chain {
		size += len(der)
	}
	if len(chain) > maxChain || size > maxChainBytes {
		p.problem = fmt.Sprintf("chain of %d certificates and %d bytes", len(chain), size)
		return p
	}
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			p.problem = fmt.Sprintf("certificate %d of the chain: %v", i+1, err)
			return p
		}
		if i == 0 {
			p.leaf, p.fingerprint = c, pki.Fingerprint(c.Raw)
		} else {
			p.others = append(p.others, c)
		}
	}
	return p
}

// checkCertificate decides on a client certificate (OCPP 2.0.1 A00.FR.428 and
// its neighbours). known is its record in the inventory, if there is one.
//
// The CN must be the station's serial number as a whole. "Contains", as OCPP
// has it, would open station 12 to the certificate of station 123; a maker's
// longer CN is registered as the station's serial instead.
func (a *Authority) checkCertificate(ctx context.Context, r store.StationRecord, p *presented, known *store.Certificate, now time.Time) (verdict, error) {
	leaf := p.leaf
	switch {
	case p.problem != "":
		return refuse(ocpp.ReasonBadCertificate, "%s", p.problem), nil
	case leaf == nil:
		return refuse(ocpp.ReasonNoCertificate, "no client certificate"), nil
	case known != nil && known.Status == store.StatusRevoked:
		return refuse(ocpp.ReasonRevoked, "certificate %s was revoked: %s", pki.SerialHex(leaf), known.Reason), nil
	case now.Before(leaf.NotBefore):
		return refuse(ocpp.ReasonNotYetValid, "certificate is valid from %s, in %s", leaf.NotBefore.Format(time.RFC3339), leaf.NotBefore.Sub(now).Round(time.Second)), nil
	case now.After(leaf.NotAfter):
		return refuse(ocpp.ReasonExpired, "certificate expired on %s, %s ago", leaf.NotAfter.Format(time.RFC3339), now.Sub(leaf.NotAfter).Round(time.Second)), nil
	}
	if err := pki.CheckStrength(leaf); err != nil {
		return refuse(ocpp.ReasonBadCertificate, "certificate: %v", err), nil
	}
	// What is in the inventory as issued here is, by its fingerprint, the very
	// certificate that our CA signed.
	issued := known != nil && known.Issued
	if issued {
		trusted, err := a.pool(ctx)
		if err != nil {
			return verdict{}, err
		}
		if !trusted.keys[fmt.Sprintf("%x", leaf.AuthorityKeyId)] {
			return refuse(ocpp.ReasonUnknownCA, "the CA of the certificate, %s, was retired or has expired", leaf.Issuer), nil
		}
	} else {
		ours, err := a.verifyChain(ctx, p, now)
		if l, ok := errors.AsType[*listedError](err); ok {
			return refuse(ocpp.ReasonRevoked, "%v", l), nil
		}
		if v, ok := chainVerdict(err); ok {
			return v, nil
		}
		if err != nil {
			return verdict{}, err
		}
		if ours && !slices.ContainsFunc(leaf.Subject.Organization, func(o string) bool { return strings.EqualFold(o, a.cfg.Operator) }) {
			return refuse(ocpp.ReasonWrongOwner, "certificate is of organization (O) %q, the operator is %q", leaf.Subject.Organization, a.cfg.Operator), nil
		}
	}
	if !strings.EqualFold(leaf.Subject.CommonName, r.Serial) {
		return refuse(ocpp.ReasonWrongSerial, "certificate is of serial number (CN) %.64q, this station's is %q", leaf.Subject.CommonName, r.Serial), nil
	}
	if issued && known.Station.Fold() != r.ID.Fold() {
		return refuse(ocpp.ReasonWrongSerial, "certificate was issued to station %s", known.Station), nil
	}
	if known == nil || known.FirstUsed.IsZero() || known.Station.Fold() != r.ID.Fold() {
		if err := a.certificateUsed(ctx, r, p, now); err != nil {
			return verdict{}, err
		}
	}
	return verdict{reason: ocpp.ReasonAdmitted, until: leaf.NotAfter}, nil
}

// certificateUsed records a certificate's first use. A station is not admitted
// before that is written: that it came with the old one must show.
func (a *Authority) certificateUsed(ctx context.Context, r store.StationRecord, p *presented, now time.Time) error {
	c := inventoryEntry(p.leaf, store.KindStation, r.ID)
	c.PEM = pki.EncodeCertificates(append([]*x509.Certificate{p.leaf}, p.others...)...)
	if err := a.store.CertificateUsed(ctx, c, now); err != nil {
		return fmt.Errorf("record a certificate's first use: %w", err)
	}
	return nil
}

// inventoryEntry describes a certificate for the inventory.
func inventoryEntry(c *x509.Certificate, kind string, station ocpp.StationID) store.Certificate {
	return store.Certificate{
		Fingerprint: pki.Fingerprint(c.Raw), Serial: pki.SerialHex(c), Issuer: c.Issuer.String(), IssuerKey: fmt.Sprintf("%x", c.AuthorityKeyId),
		Subject: c.Subject.String(), Kind: kind, Station: station, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Status: store.StatusActive,
	}
}

// chainVerdict turns what verification found into a refusal; not ok means that
// nothing was found, or that err is of another kind.
func chainVerdict(err error) (v verdict, ok bool) {
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return refuse(ocpp.ReasonUnknownCA, "certificate is not of a CA that is trusted, or the CAs between were not sent"), true
	}
	if e, is := errors.AsType[x509.CertificateInvalidError](err); is {
		if e.Reason == x509.Expired {
			return refuse(ocpp.ReasonExpired, "a CA of the certificate's chain has expired or is not valid yet: %v", e), true
		}
		return refuse(ocpp.ReasonBadCertificate, "%v", e), true
	}
	if e, is := errors.AsType[x509.UnhandledCriticalExtension](err); is {
		return refuse(ocpp.ReasonBadCertificate, "%v", e), true
	}
	if e, is := errors.AsType[x509.ConstraintViolationError](err); is {
		return refuse(ocpp.ReasonBadCertificate, "%v", e), true
	}
	return verdict{}, false
}

// pools are the CAs that stations' certificates must chain to, of one trust generation.
type pools struct {
	mu sync.Mutex
	*pool
}

type pool struct {
	generation           int64
	roots, intermediates *x509.CertPool
	ours                 map[string]bool   // fingerprints of our station CAs
	keys                 map[string]bool   // key identifiers of all that are trusted, hex
	lists                map[string]string // fingerprints of imported CAs that have a revocation list, by issuerID
}

// verifyChain checks a chain against the trusted CAs, and reports whether it is
// of one of ours. Our CAs for stations are trusted themselves, not our root: a
// server's certificate is not one of a station.
func (a *Authority) verifyChain(ctx context.Context, p *presented, now time.Time) (ours bool, err error) {
	trusted, err := a.pool(ctx)
	if err != nil {
		return false, err
	}
	intermediates := trusted.intermediates.Clone()
	for _, c := range p.others {
		intermediates.AddCert(c)
	}
	chains, err := p.leaf.Verify(x509.VerifyOptions{
		Roots: trusted.roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // OCPP wants none in them
	})
	if err != nil {
		return false, err
	}
	var listed *listedError
	good := false
	for _, chain := range chains {
		c, e, err := a.listed(ctx, trusted, chain)
		switch {
		case err != nil:
			return false, err
		case c != nil:
			listed = &listedError{serial: pki.SerialHex(c), leaf: c == p.leaf, issuer: c.Issuer.String(), entry: e}
		case trusted.ours[pki.Fingerprint(chain[len(chain)-1].Raw)]:
			return true, nil
		default:
			good = true
		}
	}
	if !good && listed != nil {
		return false, listed
	}
	return false, nil
}

// listedError says that a certificate is on the revocation list of its CA.
type listedError struct {
	serial, issuer string
	leaf           bool
	entry          store.CRLEntry
}

func (e *listedError) Error() string {
	what := "certificate"
	if !e.leaf {
		what = "the CA certificate"
	}
	return fmt.Sprintf("%s %s was revoked by %s on %s: %s", what, e.serial, e.issuer, e.entry.At.UTC().Format(time.RFC3339), e.entry.Reason)
}

func (a *Authority) pool(ctx context.Context) (*pool, error) {
	generation, err := a.store.Generation(ctx)
	if err != nil {
		return nil, err
	}
	a.pools.mu.Lock()
	defer a.pools.mu.Unlock()
	if a.pools.pool != nil && a.pools.generation >= generation {
		return a.pools.pool, nil
	}
	cas, generation, err := a.store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	anchors, between, err := sortCAs(cas, a.cfg.Now())
	if err != nil {
		return nil, err
	}
	p := &pool{generation: generation, roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), ours: make(map[string]bool), keys: make(map[string]bool)}
	for _, c := range anchors {
		p.roots.AddCert(c)
		p.keys[fmt.Sprintf("%x", c.SubjectKeyId)] = true
	}
	for _, c := range between {
		p.intermediates.AddCert(c)
		p.keys[fmt.Sprintf("%x", c.SubjectKeyId)] = true
	}
	for _, c := range cas {
		p.ours[c.Fingerprint] = nameOf(c.Kind).role == roleStation
	}
	if err := a.findLists(ctx, p, anchors, between); err != nil {
		return nil, err
	}
	a.pools.pool = p
	return p, nil
}

// findLists finds out which imported CAs have a revocation list.
func (a *Authority) findLists(ctx context.Context, p *pool, cas ...[]*x509.Certificate) error {
	lists, err := a.store.CRLs(ctx, a.cfg.Now())
	if err != nil || len(lists) == 0 {
		return err
	}
	p.lists = make(map[string]string, len(lists))
	for _, c := range slices.Concat(cas...) {
		fingerprint := pki.Fingerprint(c.Raw)
		if slices.ContainsFunc(lists, func(l store.CRL) bool { return l.CA == fingerprint }) {
			p.lists[issuerID(c)] = fingerprint
		}
	}
	return nil
}
