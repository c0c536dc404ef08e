package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"holdfast/est"
	"holdfast/pki"
	"holdfast/store"
)

const (
	// externalTime bounds the wait for an external CA, its turn included; who asks
	// the authority over the bus waits 30 seconds.
	externalTime = 25 * time.Second
	// maxEnrolling is how many requests an external CA gets at a time; more wait.
	maxEnrolling = 8
	// claimTime is how long a replica that died keeps others from asking for a
	// certificate of the same key.
	claimTime = externalTime + 5*time.Second
	claimPoll = 100 * time.Millisecond
)

// ExternalCAError says why an external CA issued no certificate that can be used.
type ExternalCAError struct {
	CA      string   `json:"ca"` // its address
	Kind    est.Kind `json:"kind"`
	Problem string   `json:"problem"`
	Fix     string   `json:"fix"`
	// RetryAfter is when the same request has a chance; zero: not before Fix was done.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// What can become of a request to an external CA beside the kinds of est.
const (
	externalIssued = "issued"
	externalUnused = "unused"                      // issued, and not recorded
	externalFailed = "failed"                      // for a reason of our own, such as the database
	externalWrong  = est.Kind("wrong_certificate") // it issued another one than was asked for
)

func (e *ExternalCAError) Error() string {
	return "external CA " + e.CA + ": " + e.Problem + "; " + e.Fix
}

// externalRetry is when to ask a CA again that did not say.
const externalRetry = 30 * time.Second

// explain tells what can be done about an error of the CA.
func explain(ca string, err error) error {
	failed, ok := errors.AsType[*est.Error](err)
	if !ok {
		return fmt.Errorf("external CA %s: %w", ca, err)
	}
	e := &ExternalCAError{CA: ca, Kind: failed.Kind, Problem: failed.Problem, RetryAfter: failed.RetryAfter}
	switch failed.Kind {
	case est.Unavailable:
		e.Fix = "see that it runs and can be reached from the authority; stations that have a certificate are not concerned"
	case est.Unauthorized:
		e.Fix, e.RetryAfter = "check --est-user and --est-password-file, or --est-cert and --est-key, and what this client may do there", 0
	case est.Pending:
		e.Fix = "have the request approved there, then send the same one again"
	case est.Refused:
		e.Fix, e.RetryAfter = "check what the CA certifies: its policy must allow the serial number as CN, the operator as O, and the kind of key", 0
	default:
		e.Fix, e.RetryAfter = "check --est and --est-ca: openssl s_client and curl on the same address show more", 0
	}
	if e.RetryAfter == 0 && (failed.Kind == est.Unavailable || failed.Kind == est.Pending) {
		e.RetryAfter = externalRetry
	}
	return e
}

// externalCA has stations' keys certified by Config.EST.
type externalCA struct {
	a      *Authority
	client *est.Client
	turns  chan struct{}
}

func newExternalCA(a *Authority) *externalCA {
	return &externalCA{a: a, client: a.cfg.EST, turns: make(chan struct{}, maxEnrolling)}
}

func (x *externalCA) address() string { return x.client.Name() }

// claim keeps the other replicas, which share the database, from asking for the
// same: each certificate may cost money, and one would have to be revoked.
func (x *externalCA) claim(ctx context.Context, publicKey string) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, externalTime)
	defer cancel()
	holder := uuid.NewString()
	for {
		now := x.a.cfg.Now()
		claimed, err := x.a.store.ClaimKey(ctx, publicKey, holder, now, now.Add(claimTime))
		if claimed {
			return func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), externalTime)
				defer cancel()
				if err := x.a.store.DropClaim(ctx, publicKey, holder); err != nil {
					x.a.log.Warn("a claim stays until it ends by itself", "err", err)
				}
			}, nil
		}
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		select {
		case <-time.After(claimPoll):
		case <-ctx.Done():
			return nil, explain(x.address(), &est.Error{Kind: est.Unavailable, Problem: "another replica of the authority asks for a certificate of this key"})
		}
	}
}

func (x *externalCA) certify(ctx context.Context, s store.Station, csr *x509.CertificateRequest, now time.Time) ([]*x509.Certificate, error) {
	start := time.Now()
	chain, err := x.enroll(ctx, s, csr, now)
	x.a.metrics.enrolled(err, time.Since(start))
	return chain, err
}

func (x *externalCA) enroll(ctx context.Context, s store.Station, csr *x509.CertificateRequest, now time.Time) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, externalTime)
	defer cancel()
	select {
	case x.turns <- struct{}{}:
		defer func() { <-x.turns }()
	case <-ctx.Done():
		return nil, explain(x.address(), &est.Error{Kind: est.Unavailable, Problem: fmt.Sprintf("%d requests wait for it already", maxEnrolling)})
	}
	certs, err := x.client.Enroll(ctx, csr.Raw)
	if err != nil {
		return nil, explain(x.address(), err)
	}
	return x.check(ctx, s, csr, certs, now)
}

// check reports why the certificates that came are not what was asked for, or
// returns the chain of the one that is.
func (x *externalCA) check(ctx context.Context, s store.Station, csr *x509.CertificateRequest, certs []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	wrong := func(fix, format string, args ...any) error {
		return &ExternalCAError{CA: x.address(), Kind: externalWrong, Problem: "it issued a certificate that was not asked for: " + fmt.Sprintf(format, args...), Fix: fix}
	}
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo)
	})
	if i < 0 {
		i = 0 // its problem is the key
	}
	leaf := certs[i]
	const policy = "correct its certificate profile, and revoke there what it issued"
	if err := pki.CheckForeign(leaf, csr.PublicKey, pki.StationSubject(s.Serial, x.a.cfg.Operator), now); err != nil {
		return nil, wrong(policy, "serial number %s: %v", pki.SerialHex(leaf), err)
	}
	trusted, err := x.a.pool(ctx)
	if err != nil {
		return nil, err
	}
	between := trusted.intermediates.Clone()
	for _, c := range certs {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: trusted.roots, Intermediates: between, CurrentTime: later(now, leaf.NotBefore),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, wrong("trust its CA (holdfast cert external-ca -o FILE, compare the fingerprints, holdfast cert trust FILE)",
			"serial number %s of %s does not chain to a CA that is trusted for stations: %v", pki.SerialHex(leaf), leaf.Issuer, err)
	}
	// Admission looks for the issuer of what is in the inventory by this.
	if !trusted.keys[fmt.Sprintf("%x", leaf.AuthorityKeyId)] {
		return nil, wrong("trust the CA that signs, not only its root; its certificates must name it by authority key identifier",
			"serial number %s of %s: the CA that signed it, key identifier %x, is not among those that are trusted for stations", pki.SerialHex(leaf), leaf.Issuer, leaf.AuthorityKeyId)
	}
	if c, _, err := x.a.listed(ctx, trusted, chains[0]); err != nil {
		return nil, err
	} else if c != nil {
		return nil, wrong(policy, "certificate %s of %s is on the revocation list of its CA", pki.SerialHex(c), c.Issuer)
	}
	have, err := x.a.store.FindCertificates(ctx, pki.Fingerprint(leaf.Raw))
	if err != nil {
		return nil, err
	}
	if len(have) > 0 {
		return nil, wrong("have it issue a new one for a key that it knows, or let the station make a new key", "serial number %s was issued before", pki.SerialHex(leaf))
	}
	chain := chains[0]
	if last := chain[len(chain)-1]; len(chain) > 1 && bytes.Equal(last.RawSubject, last.RawIssuer) {
		chain = chain[:len(chain)-1] // whoever verifies has the root
	}
	return chain, nil
}

// ExternalCA is the CA that issues stations' certificates in the place of ours.
type ExternalCA struct {
	Address string           `json:"address"`
	CAs     []ExternalCACert `json:"cas" doc:"Its CA certificates, as it says"`
}

// ExternalCACert is a CA certificate that the external CA says it has.
type ExternalCACert struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256, hex: compare it with what the CA's operator says"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	NotAfter    time.Time `json:"not_after"`
	Trusted     bool      `json:"trusted" doc:"Whether it is trusted for stations here (holdfast cert trust)"`
	PEM         string    `json:"pem"`
}

// ExternalCA asks the external CA for its certificates. ErrNotFound if there is no
// external CA.
func (a *Authority) ExternalCA(ctx context.Context) (ExternalCA, error) {
	if a.cfg.EST == nil {
		return ExternalCA{}, fmt.Errorf("external CA: %w: the authority runs without --est", ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, externalTime)
	defer cancel()
	certs, err := a.cfg.EST.CACerts(ctx)
	if err != nil {
		return ExternalCA{}, explain(a.cfg.EST.Name(), err)
	}
	recorded, _, err := a.store.CAs(ctx)
	if err != nil {
		return ExternalCA{}, err
	}
	x := ExternalCA{Address: a.cfg.EST.Name(), CAs: []ExternalCACert{}}
	for _, c := range certs {
		fingerprint := pki.Fingerprint(c.Raw)
		x.CAs = append(x.CAs, ExternalCACert{
			Fingerprint: fingerprint, Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotAfter: c.NotAfter, PEM: pki.EncodeCertificates(c),
			Trusted: slices.ContainsFunc(recorded, func(r store.CA) bool { return r.Fingerprint == fingerprint && r.Kind == store.KindImported }),
		})
	}
	return x, nil
}
