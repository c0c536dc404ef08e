package store

import (
	"context"
	"time"
)

// Retention says what is deleted: what ended before these times.
type Retention struct {
	Audit        time.Time // entries of the audit record
	Certificates time.Time // stations' certificates, by their expiry
	Servers      time.Time // certificates of servers and OCSP responders, by their expiry
	Unregistered time.Time // attempts of stations that are not registered
	Claims       time.Time // of keys, by their end
}

// Prune deletes what is older than r wants it kept, and what is left of
// stations that were removed.
func (a *Authority) Prune(ctx context.Context, r Retention) error {
	return a.update(ctx, "prune", func(tx *Tx) error {
		if _, err := tx.exec(`DELETE FROM audit WHERE at < $1`, micros(r.Audit)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM certificate WHERE kind = $1 AND not_after < $2`, KindStation, micros(r.Certificates)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM certificate WHERE kind <> $1 AND not_after < $2`, KindStation, micros(r.Servers)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM attempt WHERE NOT registered AND last_at < $1`, micros(r.Unregistered)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM enrolment WHERE until < $1`, micros(r.Claims)); err != nil {
			return err
		}
		// Written by a replica after the station was removed.
		_, err := tx.exec(`DELETE FROM attempt WHERE registered AND NOT EXISTS (SELECT 1 FROM station s WHERE s.station = attempt.station)`)
		return err
	})
}
