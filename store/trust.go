package store

import (
	"context"
	"fmt"
	"time"
)

// CA is a CA certificate that is trusted: one of our own or an imported one.
type CA struct {
	Fingerprint string    `json:"fingerprint" doc:"SHA-256 of the certificate, hex"`
	Kind        string    `json:"kind" doc:"imported, or what it is to Holdfast: root-ecdsa, station-rsa, server-ecdsa, …"`
	Subject     string    `json:"subject"`
	NotAfter    time.Time `json:"not_after"`
	Created     time.Time `json:"created"`
	PEM         string    `json:"pem"`
}

// AddCA records a CA certificate and reports whether it was new, with the trust
// generation after it.
func (a *Authority) AddCA(ctx context.Context, c CA, audit AuditEntry) (added bool, generation int64, err error) {
	err = a.update(ctx, "ca", func(tx *Tx) error {
		n, err := tx.exec(`INSERT INTO ca (fingerprint, kind, subject, not_after, created, pem) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			c.Fingerprint, c.Kind, c.Subject, micros(c.NotAfter), micros(c.Created), c.PEM)
		if added = n > 0; err != nil {
			return err
		}
		if !added {
			return tx.row(false, `SELECT value FROM generation WHERE name = 'trust'`, nil, &generation)
		}
		if generation, err = tx.bump(); err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return added, generation, err
}

// RemoveCA ends the trust in a CA certificate of the given kind; ErrNotFound
// without it. It returns the trust generation after it.
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
		return tx.audit(audit)
	})
	return generation, err
}

// CAs returns all trusted CA certificates, the oldest first, with the trust
// generation that they belong to (or an older one, never a newer).
func (a *Authority) CAs(ctx context.Context) ([]CA, int64, error) {
	generation, err := a.Generation(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := a.read.QueryContext(ctx, `SELECT fingerprint, kind, subject, not_after, created, pem FROM ca ORDER BY created, fingerprint`)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var list []CA
	for rows.Next() {
		var c CA
		var notAfter, created int64
		if err := rows.Scan(&c.Fingerprint, &c.Kind, &c.Subject, &notAfter, &created, &c.PEM); err != nil {
			return nil, 0, err
		}
		c.NotAfter, c.Created = fromMicros(notAfter), fromMicros(created)
		list = append(list, c)
	}
	return list, generation, rows.Err()
}
