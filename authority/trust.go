package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// Trust is what gateways verify stations with, and stations gateways.
type Trust struct {
	// Generation grows with every change of the other fields.
	Generation int64 `json:"generation"`
	// ClientRoots are the trust anchors for stations' certificates, PEM: our CAs
	// for stations (which are not self-signed) and imported roots.
	ClientRoots string `json:"client_roots"`
	// ClientIntermediates complete the chains of stations that send only their
	// own certificate, PEM; may be empty.
	ClientIntermediates string `json:"client_intermediates"`
	// ServerRoots are what stations need to trust gateways, PEM: ca.crt.
	ServerRoots string `json:"server_roots"`
	// ServerIssuers changes when servers' certificates come from other CAs, or
	// with another chain, than before: a gateway then asks for a new one.
	ServerIssuers string `json:"server_issuers"`
	// Revoked are the fingerprints (SHA-256, hex) of revoked certificates that
	// have not expired, the latest first; at most 8,000.
	Revoked []string `json:"revoked"`
	// Truncated says that there are more of them: a gateway must then not answer
	// for certificates from its cache alone while the authority is there.
	Truncated bool `json:"truncated,omitempty"`
	// Barred are stations that must not be connected: those that are blocked and
	// those that were removed, of each at most the latest 1,000. A gateway that
	// missed a Change because it was cut off finds it here.
	Barred []ocpp.StationID `json:"barred"`
}

// These keep Trust below a message of one MiB.
const (
	maxRevoked = 8000
	maxBarred  = 1000
)

// Trust returns what gateways verify with.
func (a *Authority) Trust(ctx context.Context) (Trust, error) {
	now := a.cfg.Now()
	cas, generation, err := a.store.CAs(ctx)
	if err != nil {
		return Trust{}, err
	}
	anchors, between, err := sortCAs(cas, now)
	if err != nil {
		return Trust{}, err
	}
	h, err := a.hierarchy(ctx)
	if err != nil {
		return Trust{}, err
	}
	revoked, err := a.store.Revocations(ctx, "", now, maxRevoked+1)
	if err != nil {
		return Trust{}, err
	}
	t := Trust{Generation: generation, ClientRoots: pki.EncodeCertificates(anchors...), ClientIntermediates: pki.EncodeCertificates(between...),
		ServerRoots: pki.EncodeCertificates(h.roots()...), ServerIssuers: h.serverIssuers(), Revoked: []string{}}
	if t.Truncated = len(revoked) > maxRevoked; t.Truncated {
		revoked = revoked[:maxRevoked]
	}
	for _, r := range revoked {
		t.Revoked = append(t.Revoked, r.Fingerprint)
	}
	if t.Barred, err = a.store.Barred(ctx, maxBarred); err != nil {
		return Trust{}, err
	}
	return t, nil
}

// sortCAs splits the CAs for stations' certificates that are trusted and have
// not expired into anchors and intermediates. An imported CA is an anchor unless
// another imported one signed it.
func sortCAs(cas []store.CA, now time.Time) (anchors, between []*x509.Certificate, err error) {
	var imported []*x509.Certificate
	for _, c := range cas {
		if now.After(c.NotAfter) || c.State == store.CARetired {
			continue
		}
		certs, err := pki.ParseCertificates([]byte(c.PEM))
		if err != nil {
			return nil, nil, fmt.Errorf("CA %s in the database: %w", c.Fingerprint, err)
		}
		switch {
		case c.Kind == store.KindImported:
			imported = append(imported, certs[0])
		case strings.HasPrefix(c.Kind, roleStation+"-"):
			anchors = append(anchors, certs[0])
		}
	}
	for _, c := range imported {
		if slices.ContainsFunc(imported, func(i *x509.Certificate) bool {
			return !bytes.Equal(i.Raw, c.Raw) && bytes.Equal(i.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(i) == nil
		}) && !bytes.Equal(c.RawSubject, c.RawIssuer) {
			between = append(between, c)
		} else {
			anchors = append(anchors, c)
		}
	}
	return anchors, between, nil
}

// maxImported is how many CA certificates can be imported.
const maxImported = 100

// ImportCA trusts other CAs for stations' certificates, such as a maker's that
// issued them in the factory: roots and the CAs below them, as PEM.
func (a *Authority) ImportCA(ctx context.Context, by, text string) ([]store.CA, error) {
	certs, err := pki.ParseCertificates([]byte(text))
	if err != nil {
		return nil, invalid("pem", "give CA certificates as PEM", "%v", err)
	}
	have, _, err := a.store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	if len(have)+len(certs) > maxImported {
		return nil, invalid("pem", "remove CAs that are no longer needed", "more than %d CA certificates", maxImported)
	}
	now := a.cfg.Now()
	var list []store.CA
	for _, c := range certs {
		if !c.IsCA || !c.BasicConstraintsValid {
			return nil, invalid("pem", "give the CA's certificate, not one it issued", "%s is not a CA certificate", c.Subject)
		}
		if now.After(c.NotAfter) {
			return nil, invalid("pem", "ask for a current one", "CA certificate %s expired on %s", c.Subject, c.NotAfter.Format(time.DateOnly))
		}
		if err := pki.CheckKey(c.PublicKey); err != nil {
			return nil, invalid("pem", "", "CA certificate %s: %v", c.Subject, err)
		}
		list = append(list, store.CA{Fingerprint: pki.Fingerprint(c.Raw), Kind: store.KindImported, Subject: c.Subject.String(),
			NotAfter: c.NotAfter, Created: now, PEM: pki.EncodeCertificates(c)})
	}
	_, generation, err := a.store.AddCAs(ctx, list, func(c store.CA) store.AuditEntry {
		return a.entry(by, "ca.import", "", c.Fingerprint, c.Subject)
	})
	if err != nil {
		return nil, err
	}
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return list, nil
}

// RemoveCA ends the trust in an imported CA; connections that rest on it go on
// until they end.
func (a *Authority) RemoveCA(ctx context.Context, by, fingerprint string) error {
	fingerprint = strings.ToLower(fingerprint)
	generation, err := a.store.RemoveCA(ctx, fingerprint, store.KindImported, a.entry(by, "ca.remove", "", fingerprint, ""))
	if err != nil {
		return err
	}
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return nil
}

// CAs lists all CAs, ours and imported ones; of ours, also those that were retired.
func (a *Authority) CAs(ctx context.Context) ([]store.CA, error) {
	cas, _, err := a.store.CAs(ctx)
	return cas, err
}
