package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"holdfast/ocpp"
)

// Attempt is what became of a station's attempts to connect. Attempts in a row
// with one outcome are one Attempt.
type Attempt struct {
	ID          string               `json:"id"`
	Station     ocpp.StationID       `json:"station" doc:"Identity as registered, or as presented if it is not; empty if the station got no chance to say it"`
	Reason      ocpp.Reason          `json:"reason" doc:"admitted, or why not"`
	Detail      string               `json:"detail,omitempty"`
	Profile     ocpp.SecurityProfile `json:"profile,omitempty" doc:"Security profile of the port that it came in on"`
	Remote      string               `json:"remote,omitempty" doc:"Source address"`
	Fingerprint string               `json:"fingerprint,omitempty" doc:"SHA-256 of the client certificate"`
	Times       int64                `json:"times" doc:"How many attempts in a row had this outcome"`
	First       time.Time            `json:"first"`
	At          time.Time            `json:"at" doc:"The last one of them"`
	Registered  bool                 `json:"registered" doc:"Whether the station was registered"`
}

const (
	maxAttempts     = 50   // kept per station
	maxUnregistered = 1000 // kept of all stations that are not registered, together
)

// NewAttemptID returns the ID of an Attempt that begins now.
func NewAttemptID() string { return newID() }

// RecordAttempts writes attempts, new ones and those whose Times and At have
// grown since, in one transaction, and notes the last of each station in its
// record. Attempts beyond the last 50 of a station are deleted, and so are all
// but the last 1,000 of stations that are not registered.
func (a *Authority) RecordAttempts(ctx context.Context, attempts []Attempt) error {
	// Replicas that take rows in one order cannot wait for each other in a circle.
	attempts = slices.Clone(attempts)
	slices.SortFunc(attempts, func(x, y Attempt) int {
		return cmp.Or(cmp.Compare(x.Station.Fold(), y.Station.Fold()), cmp.Compare(x.ID, y.ID))
	})
	return a.update(ctx, "attempts", func(tx *Tx) error {
		unregistered := false
		for _, t := range attempts {
			key := t.Station.Fold()
			unregistered = unregistered || !t.Registered
			if _, err := tx.exec(`INSERT INTO attempt (station, id, identity, reason, detail, profile, remote, fingerprint, times, first_at, last_at, registered)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
				ON CONFLICT (station, id) DO UPDATE SET times = excluded.times, last_at = excluded.last_at`,
				key, t.ID, string(t.Station), string(t.Reason), t.Detail, int64(t.Profile), t.Remote, t.Fingerprint, t.Times,
				micros(t.First), micros(t.At), t.Registered); err != nil {
				return err
			}
			if _, err := tx.exec(`DELETE FROM attempt WHERE station = $1 AND id < (
				SELECT id FROM attempt WHERE station = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)`, key, key, maxAttempts-1); err != nil {
				return err
			}
			if !t.Registered {
				continue
			}
			if _, err := tx.exec(`UPDATE station SET last_at = $1, last_reason = $2, last_detail = $3, last_remote = $4
				WHERE station = $5 AND last_at <= $6`,
				micros(t.At), string(t.Reason), t.Detail, t.Remote, key, micros(t.At)); err != nil {
				return err
			}
			if t.Reason == ocpp.ReasonAdmitted {
				if _, err := tx.exec(`UPDATE station SET admitted_at = $1 WHERE station = $2 AND admitted_at < $3`,
					micros(t.At), key, micros(t.At)); err != nil {
					return err
				}
			}
		}
		if unregistered {
			_, err := tx.exec(`DELETE FROM attempt WHERE NOT registered AND id < (
				SELECT id FROM attempt WHERE NOT registered ORDER BY id DESC LIMIT 1 OFFSET $1)`, maxUnregistered-1)
			return err
		}
		return nil
	})
}

// Attempts returns the attempts of a station, registered or not, newest first;
// at most 50.
func (a *Authority) Attempts(ctx context.Context, id ocpp.StationID) ([]Attempt, error) {
	return a.attempts(ctx, `WHERE station = $1 ORDER BY id DESC LIMIT $2`, id.Fold(), maxAttempts)
}

// UnregisteredAttempts returns the last attempts of stations that are not
// registered, newest first; at most 1,000.
func (a *Authority) UnregisteredAttempts(ctx context.Context) ([]Attempt, error) {
	return a.attempts(ctx, `WHERE NOT registered ORDER BY id DESC LIMIT $1`, maxUnregistered)
}

func (a *Authority) attempts(ctx context.Context, tail string, args ...any) ([]Attempt, error) {
	attempts := []Attempt{}
	rows, err := a.read.QueryContext(ctx, `SELECT id, identity, reason, detail, profile, remote, fingerprint, times, first_at, last_at, registered
		FROM attempt `+tail, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		t, err := scanAttempt(rows)
		if err != nil {
			return nil, err
		}
		attempts = append(attempts, t)
	}
	return attempts, rows.Err()
}

func scanAttempt(rows *sql.Rows) (t Attempt, err error) {
	var first, last int64
	err = rows.Scan(&t.ID, &t.Station, &t.Reason, &t.Detail, &t.Profile, &t.Remote, &t.Fingerprint, &t.Times, &first, &last, &t.Registered)
	t.First, t.At = fromMicros(first), fromMicros(last)
	return t, err
}
