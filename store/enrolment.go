package store

import (
	"context"
	"time"
)

// ClaimKey has only one of several replicas ask an external CA for a certificate
// of a public key: it reports whether that is holder's from now until the given
// time.
func (a *Authority) ClaimKey(ctx context.Context, publicKey, holder string, now, until time.Time) (claimed bool, err error) {
	err = a.update(ctx, publicKey, func(tx *Tx) error {
		claimed = false
		if _, err := tx.exec(`DELETE FROM enrolment WHERE public_key = $1 AND until <= $2`, publicKey, micros(now)); err != nil {
			return err
		}
		n, err := tx.exec(`INSERT INTO enrolment (public_key, holder, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, publicKey, holder, micros(until))
		claimed = n > 0
		return err
	})
	return claimed, err
}

// DropClaim ends a claim of holder.
func (a *Authority) DropClaim(ctx context.Context, publicKey, holder string) error {
	return a.update(ctx, publicKey, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM enrolment WHERE public_key = $1 AND holder = $2`, publicKey, holder)
		return err
	})
}
