package store

import (
	"context"
	"fmt"
	"time"
)

// CAState is what one of our CAs does.
type CAState string

const (
	CAIssuing  CAState = "issuing"  // issues; one of a kind
	CANext     CAState = "next"     // trusted already, to issue later
	CAPrevious CAState = "previous" // issued once; still trusted
	CATrusted  CAState = "trusted"  // a cross certificate: goes with its root
	CARetired  CAState = "retired"  // no longer trusted
)

// KindImported is the kind of CAs that are trusted for stations' certificates
// and are not ours.
const KindImported = "imported"

// CA is a CA certificate: one of our own or an imported one.
type CA struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, hex"`
	Kind        string    `json:"kind" doc:"imported, or what it is to Holdfast: root-ecdsa, station-rsa, server-ecdsa, cross-rsa, …"`
	State       CAState   `json:"state,omitempty" enum:"issuing,next,previous,trusted,retired" doc:"What a CA of Holdfast's own does; retired ones are no longer trusted"`
	Subject     string    `json:"subject"`
	NotAfter    time.Time `json:"not_after"`
	Created     time.Time `json:"created"`
	PEM         string    `json:"pem" doc:"The certificate, and the CAs between it and its root, if there are any"`
}

// AddCAs records CA certificates, those that are not there yet, and returns
// them with the trust generation after it. One that is to issue takes the place
// of the one of its kind that did. ErrExists if one is to issue next and
// another one of its kind is to already.
func (a *Authority) AddCAs(ctx context.Context, cas []CA, audit func(CA) AuditEntry) (added []CA, generation int64, err error) {
	err = a.update(ctx, "ca", func(tx *Tx) error {
		added = nil
		if generation, err = tx.bump(); err != nil { // first: it makes replicas wait for each other
			return err
		}
		for _, c := range cas {
			n, err := tx.exec(`INSERT INTO ca (fingerprint, kind, state, subject, not_after, created, pem) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
				c.Fingerprint, c.Kind, string(c.State), c.Subject, micros(c.NotAfter), micros(c.Created), c.PEM)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			switch c.State {
			case CAIssuing:
				if err := tx.replaceIssuing(c); err != nil {
					return err
				}
			case CANext:
				var others int64
				err := tx.row(false, `SELECT count(*) FROM ca WHERE kind = $1 AND state = 'next' AND fingerprint <> $2`, []any{c.Kind, c.Fingerprint}, &others)
				if err != nil {
					return err
				}
				if others > 0 {
					return fmt.Errorf("a CA of kind %s that is to issue next: %w", c.Kind, ErrExists)
				}
			}
			if err := tx.audit(audit(c)); err != nil {
				return err
			}
			added = append(added, c)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return added, generation, nil
}

func (t *Tx) replaceIssuing(c CA) error {
	_, err := t.exec(`UPDATE ca SET state = 'previous' WHERE kind = $1 AND state = 'issuing' AND fingerprint <> $2`, c.Kind, c.Fingerprint)
	return err
}

// SetCAState changes what CAs of ours do and returns the trust generation after
// it: CAIssuing takes the place of the one of its kind that issued, CARetired
// ends the trust. ErrNotFound if one of them is not there, is not ours, or is
// retired already.
func (a *Authority) SetCAState(ctx context.Context, fingerprints []string, state CAState, audit func(CA) AuditEntry) (generation int64, err error) {
	err = a.update(ctx, "ca", func(tx *Tx) error {
		if generation, err = tx.bump(); err != nil {
			return err
		}
		for _, fingerprint := range fingerprints {
			c := CA{Fingerprint: fingerprint, State: state}
			if err := tx.row(false, `SELECT kind, subject FROM ca WHERE fingerprint = $1 AND state IN ('issuing', 'next', 'previous', 'trusted')`,
				[]any{fingerprint}, &c.Kind, &c.Subject); err != nil {
				return fmt.Errorf("CA certificate %s: %w", fingerprint, err)
			}
			if _, err := tx.exec(`UPDATE ca SET state = $1 WHERE fingerprint = $2`, string(state), fingerprint); err != nil {
				return err
			}
			if state == CAIssuing {
				if err := tx.replaceIssuing(c); err != nil {
					return err
				}
			}
			if err := tx.audit(audit(c)); err != nil {
				return err
			}
		}
		return nil
	})
	return generation, err
}

// RemoveCA ends the trust in a CA certificate of the given kind and forgets its
// revocation list; ErrNotFound without it. It returns the trust generation after it.
func (a *Authority) RemoveCA(ctx context.Context, fingerprint, kind string, audit AuditEntry) (generation int64, err error) {
	err = a.update(ctx, "ca", func(tx *Tx) error {
		n, err := tx.exec(`DELETE FROM ca WHERE fingerprint = $1 AND kind = $2`, fingerprint, kind)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("CA certificate %s: %w", fingerprint, ErrNotFound)
		}
		if generation, err = tx.bump(); err != nil {
			return err
		}
		if err := tx.dropCRL(fingerprint); err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return generation, err
}

// CAs returns all CA certificates, the oldest first, with the trust generation
// that they belong to (or an older one, never a newer).
func (a *Authority) CAs(ctx context.Context) ([]CA, int64, error) {
	generation, err := a.Generation(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := a.read.QueryContext(ctx, `SELECT fingerprint, kind, state, subject, not_after, created, pem FROM ca ORDER BY created, fingerprint`)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var list []CA
	for rows.Next() {
		var c CA
		var notAfter, created int64
		if err := rows.Scan(&c.Fingerprint, &c.Kind, &c.State, &c.Subject, &notAfter, &created, &c.PEM); err != nil {
			return nil, 0, err
		}
		c.NotAfter, c.Created = fromMicros(notAfter), fromMicros(created)
		list = append(list, c)
	}
	return list, generation, rows.Err()
}

// CertificatesInUse counts the stations' active certificates of an issuer that
// have not expired at now.
func (a *Authority) CertificatesInUse(ctx context.Context, issuerKey string, now time.Time) (n int64, err error) {
	err = a.read.QueryRowContext(ctx, `SELECT count(*) FROM certificate WHERE kind = $1 AND issuer_key = $2 AND status = $3 AND not_after > $4`,
		KindStation, issuerKey, string(StatusActive), micros(now)).Scan(&n)
	return n, err
}
