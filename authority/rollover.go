package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"holdfast/pki"
	"holdfast/store"
)

// A rollover is done in steps, each of which is one method, leaves everything
// working, and can be undone until the last:
//
//  1. PrepareRoot makes a new root beside the old one, with a station CA and a
//     server CA below it, and has the old root cross-sign the new one. Both roots
//     are trusted and in Trust.ServerRoots from now on; the old CAs issue.
//  2. The new root is installed on the stations (whoever speaks OCPP does that).
//     The cross certificate is for stations that accept a new root only if the
//     old one signed it (AdditionalRootCertificateCheck).
//  3. ActivateCAs lets the new CAs issue. Gateways replace their certificates
//     within seconds and send the cross certificate along, so that stations that
//     know only the old root still verify them. ActivateCAs with the old root
//     goes back.
//  4. When stations have new certificates and the new root, RetireCA ends the
//     trust in the old root and what is below it.
//
// CAs that a root elsewhere certifies come the same way: RequestCA and
// ImportSigned instead of the first step (request.go).

// Successor is a root that can take the place of the one that issues, and the
// CAs below it.
type Successor struct {
	Root    store.CA `json:"root"`
	Station store.CA `json:"station"`
	Server  store.CA `json:"server"`
	// Cross is the new root's certificate by the old one; nil if the old root's
	// key is not here to sign it.
	Cross *store.CA `json:"cross,omitempty" doc:"The new root, certified by the old one; absent if the old root's key is kept elsewhere"`
}

// PrepareRoot makes a root of the given kind of key, a station CA and a server CA
// below it, and a cross certificate of the root. They are trusted, and issue
// nothing until ActivateCAs. ErrExists if there is such a root already.
func (a *Authority) PrepareRoot(ctx context.Context, by string, algorithm pki.Algorithm) (Successor, error) {
	if !slices.Contains(pki.Algorithms, algorithm) {
		return Successor{}, invalid("algorithm", "use ecdsa or rsa", "%.20q is not a kind of key", algorithm)
	}
	recorded, _, err := a.store.CAs(ctx)
	if err != nil {
		return Successor{}, err
	}
	h, err := a.hierarchy(ctx)
	if err != nil {
		return Successor{}, err
	}
	root := caName{roleRoot, algorithm}
	nth := 1
	for _, c := range recorded {
		if c.Kind == root.String() {
			nth++
		}
		if c.Kind == root.String() && c.State == store.CANext {
			return Successor{}, fmt.Errorf("root CA %s that is to issue next: %w", c.Fingerprint, ErrExists)
		}
	}
	now := a.cfg.Now()
	var made []string
	keep := false
	defer func() {
		for _, path := range made {
			if !keep {
				os.Remove(path)
			}
		}
	}()
	create := func(name caName, parent *pki.CA) (*pki.CA, store.CA, error) {
		ca, text, err := makeCA(a.cfg, name, nth, parent)
		if err != nil {
			return nil, store.CA{}, err
		}
		public := pki.KeyFingerprint(ca.Cert.RawSubjectPublicKeyInfo)
		path := laterFile(a.cfg.Dir, name, public)
		if err := writeOnce(path, text); err != nil {
			return nil, store.CA{}, fmt.Errorf("CA file: %w", err)
		}
		made = append(made, path)
		a.keys.put(public, ca.Key)
		return ca, caRecord(name, store.CANext, now, ca.Cert), nil
	}
	var s Successor
	ca, record, err := create(root, nil)
	if err != nil {
		return Successor{}, err
	}
	s.Root = record
	if _, s.Station, err = create(caName{roleStation, algorithm}, ca); err != nil {
		return Successor{}, err
	}
	if _, s.Server, err = create(caName{roleServer, algorithm}, ca); err != nil {
		return Successor{}, err
	}
	all := []store.CA{s.Root, s.Station, s.Server}
	if old := h.issuing[root]; old != nil && old.Key != nil {
		cross, err := old.CrossSign(ca.Cert, now)
		if err != nil {
			return Successor{}, err
		}
		record := caRecord(caName{roleCross, algorithm}, store.CATrusted, now, cross)
		s.Cross, all = &record, append(all, record)
	}
	_, generation, err := a.store.AddCAs(ctx, all, func(c store.CA) store.AuditEntry {
		return a.entry(by, "ca.prepare", "", c.Fingerprint, c.Kind+" "+c.Subject)
	})
	if err != nil {
		return Successor{}, err
	}
	keep = true
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return s, nil
}

// ActivateCAs lets CAs that are next, or were there before, issue in the place of
// those of their kind that do; these stay trusted. With a root come the CAs
// below it, with a CA its root, if they are next. It returns all that issue now.
func (a *Authority) ActivateCAs(ctx context.Context, by string, fingerprints ...string) ([]store.CA, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	chosen := map[string]*issuer{}
	for _, fingerprint := range fingerprints {
		i, err := h.named(fingerprint)
		if err != nil {
			return nil, err
		}
		if i.name.role == roleCross {
			return nil, invalid("fingerprint", "name the root", "%s is a cross certificate: it goes with its root", i.record.Fingerprint)
		}
		root := i
		if i.name.role != roleRoot {
			root = h.root(i)
		}
		for _, other := range h.cas {
			switch {
			case other == i:
			case other == root && root.record.State == store.CANext:
			case i.name.role == roleRoot && other.name.role != roleCross && other.name.role != roleRoot && h.root(other) == i:
			default:
				continue
			}
			if other.name.role != roleRoot && other.Key == nil {
				return nil, invalid("fingerprint", "put the file of the CA with its key into the CA directory", "CA %s %s: its key is not here", other.name, other.record.Fingerprint)
			}
			if other.name.role != roleRoot && a.cfg.Now().After(other.Cert.NotAfter) {
				return nil, invalid("fingerprint", "", "CA %s %s expired on %s", other.name, other.record.Fingerprint, other.Cert.NotAfter.Format("2006-01-02"))
			}
			// Of several below one root, the newest.
			if have, ok := chosen[other.name.String()]; !ok || have.record.Created.Before(other.record.Created) || other == i {
				chosen[other.name.String()] = other
			}
		}
	}
	var names []string
	var list []store.CA
	for _, i := range chosen {
		record := i.record // the hierarchy is read-only
		record.State = store.CAIssuing
		names, list = append(names, record.Fingerprint), append(list, record)
	}
	generation, err := a.store.SetCAState(ctx, names, store.CAIssuing, func(c store.CA) store.AuditEntry {
		return a.entry(by, "ca.activate", "", c.Fingerprint, c.Kind+" "+c.Subject)
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("CAs issue from now on", "cas", names, "by", by)
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	slices.SortFunc(list, func(a, b store.CA) int { return strings.Compare(a.Kind, b.Kind) })
	return list, nil
}

// RetireCA ends the trust in a CA of ours: with a root, in all that is below it
// and in its cross certificates. It is refused while one of them issues; and,
// unless forced, while stations have active certificates of it, which would
// stop working.
func (a *Authority) RetireCA(ctx context.Context, by, fingerprint string, force bool) ([]store.CA, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	i, err := h.named(fingerprint)
	if err != nil {
		return nil, err
	}
	var names []string
	var list []store.CA
	for _, other := range h.cas {
		if !(other == i || i.name.role == roleRoot && other.name.role != roleRoot && h.rests(other, i)) {
			continue
		}
		if other.record.State == store.CAIssuing {
			return nil, invalid("fingerprint", "let its successor issue first (holdfast cert ca activate)", "CA %s %s issues", other.name, other.record.Fingerprint)
		}
		if other.name.role == roleStation && !force {
			n, err := a.store.CertificatesInUse(ctx, other.key(), a.cfg.Now())
			if err != nil {
				return nil, err
			}
			if n > 0 {
				return nil, invalid("fingerprint", "renew them first, or use force to lock these stations out",
					"%d active certificates of stations are of CA %s %s", n, other.name, other.record.Fingerprint)
			}
		}
		record := other.record // the hierarchy is read-only
		record.State = store.CARetired
		names, list = append(names, record.Fingerprint), append(list, record)
	}
	generation, err := a.store.SetCAState(ctx, names, store.CARetired, func(c store.CA) store.AuditEntry {
		return a.entry(by, "ca.retire", "", c.Fingerprint, c.Kind+" "+c.Subject)
	})
	if err != nil {
		return nil, err
	}
	a.log.Info("CAs are no longer trusted", "cas", names, "by", by)
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return list, nil
}

// named finds a trusted CA of ours by its fingerprint.
func (h *hierarchy) named(fingerprint string) (*issuer, error) {
	fingerprint = strings.ToLower(strings.ReplaceAll(fingerprint, ":", ""))
	i, ok := h.cas[fingerprint]
	if !ok {
		return nil, fmt.Errorf("CA %.64s: %w", fingerprint, ErrNotFound)
	}
	return i, nil
}

// rests reports whether a CA or cross certificate is worth nothing without root.
func (h *hierarchy) rests(i, root *issuer) bool {
	if i.name.role == roleCross && slices.Equal(i.Cert.RawSubjectPublicKeyInfo, root.Cert.RawSubjectPublicKeyInfo) {
		return true
	}
	return i.certs[len(i.certs)-1].CheckSignatureFrom(root.Cert) == nil
}

// serverIssuers stands for the chains of servers' certificates.
func (h *hierarchy) serverIssuers() string {
	sum := sha256.New()
	for _, algorithm := range pki.Algorithms {
		if i := h.issuing[caName{roleServer, algorithm}]; i != nil {
			for _, c := range h.presented(i) {
				sum.Write(c.Raw)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
