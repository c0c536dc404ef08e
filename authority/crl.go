package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/pki"
	"holdfast/store"
)

// futureCRL is how far the clock of a CA elsewhere may be ahead.
const futureCRL = 10 * time.Minute

// ImportCRL brings in the revocation list of an imported CA, as PEM, in the place
// of the one before it. Certificates that it lists are refused, and connections
// that rest on those in the inventory end. A list that is overdue when the next
// one does not come counts on: it is better than none. CRLs tells of it, and a
// metric.
func (a *Authority) ImportCRL(ctx context.Context, by, text string) (store.CRL, error) {
	l, err := pki.ParseCRL([]byte(text))
	if err != nil {
		return store.CRL{}, invalid("crl", "give the CA's complete revocation list as PEM (openssl crl -inform DER)", "%v", err)
	}
	now := a.cfg.Now()
	switch {
	case l.ThisUpdate.After(now.Add(futureCRL)):
		return store.CRL{}, invalid("crl", "are the clocks right?", "the list is of %s, which is to come", l.ThisUpdate.Format(time.RFC3339))
	case !l.NextUpdate.IsZero() && now.After(l.NextUpdate):
		return store.CRL{}, invalid("crl", "fetch a current one", "the list was to be replaced on %s", l.NextUpdate.Format(time.RFC3339))
	}
	ca, err := a.signerOf(ctx, l)
	if err != nil {
		return store.CRL{}, err
	}
	fingerprint := pki.Fingerprint(ca.Raw)
	record := store.CRL{ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate, Imported: now}
	if l.Number != nil {
		record.Number = l.Number.String()
	}
	entries := make([]store.CRLEntry, len(l.RevokedCertificateEntries))
	for i, e := range l.RevokedCertificateEntries {
		entries[i] = store.CRLEntry{Serial: e.SerialNumber.Text(16), Reason: string(pki.ReasonOf(e.ReasonCode)), At: e.RevocationTime}
	}
	issuer := store.ImportedIssuer{Fingerprint: fingerprint, Name: ca.Subject.String(), Key: fmt.Sprintf("%x", ca.SubjectKeyId)}
	record, generation, err := a.store.SetCRL(ctx, record, issuer, entries, a.entry(by, "crl.import", "", fingerprint, fmt.Sprintf("number %.40s, %d entries", record.Number, len(entries))))
	if errors.Is(err, store.ErrExists) {
		return store.CRL{}, fmt.Errorf("the list that is here of %s is as new or newer: %w", ca.Subject, err)
	}
	if err != nil {
		return store.CRL{}, err
	}
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return record, nil
}

// signerOf finds the imported CA that signed a list.
func (a *Authority) signerOf(ctx context.Context, l *x509.RevocationList) (*x509.Certificate, error) {
	cas, _, err := a.store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	named := false
	for _, c := range cas {
		certs, err := pki.ParseCertificates([]byte(c.PEM))
		if err != nil {
			return nil, fmt.Errorf("CA %s in the database: %w", c.Fingerprint, err)
		}
		if !bytes.Equal(certs[0].RawSubject, l.RawIssuer) {
			continue
		}
		named = true
		if err = l.CheckSignatureFrom(certs[0]); err != nil {
			continue
		}
		if c.Kind != store.KindImported {
			return nil, invalid("crl", "revoke here instead: holdfast cert revoke, holdfast cert ca retire", "the list is of a CA of Holdfast's own, %s", c.Subject)
		}
		return certs[0], nil
	}
	if named {
		return nil, invalid("crl", "", "the list is not signed by the CA %s that is imported", l.Issuer)
	}
	return nil, invalid("crl", "import the CA first (holdfast cert trust)", "the list is of %s, which is not an imported CA", l.Issuer)
}

// CRLs lists the revocation lists of imported CAs.
func (a *Authority) CRLs(ctx context.Context) ([]store.CRL, error) {
	return a.store.CRLs(ctx, a.cfg.Now())
}

// RemoveCRL forgets the list of an imported CA, named by the fingerprint of its
// certificate: what only it revoked is good again.
func (a *Authority) RemoveCRL(ctx context.Context, by, ca string) error {
	ca = strings.ToLower(ca)
	generation, err := a.store.RemoveCRL(ctx, ca, a.entry(by, "crl.remove", "", ca, ""))
	if err != nil {
		return err
	}
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return nil
}

// listed reports what the lists of imported CAs say of a verified chain: of its
// certificates but for the last, which is trusted itself.
func (a *Authority) listed(ctx context.Context, trusted *pool, chain []*x509.Certificate) (*x509.Certificate, store.CRLEntry, error) {
	for i, c := range chain[:len(chain)-1] {
		ca, ok := trusted.lists[issuerID(chain[i+1])]
		if !ok {
			continue
		}
		e, err := a.store.Listed(ctx, ca, pki.SerialHex(c))
		if err == nil {
			return c, e, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, e, err
		}
	}
	return nil, store.CRLEntry{}, nil
}

// issuerID is a CA whatever certificates it has: its name and its key.
func issuerID(ca *x509.Certificate) string {
	return pki.Fingerprint(slices.Concat(ca.RawSubject, ca.RawSubjectPublicKeyInfo))
}
