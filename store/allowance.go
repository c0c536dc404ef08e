package store

import (
	"context"
	"errors"
	"time"

	"holdfast/ocpp"
)

// Allow lets a station send actions until a time though it is not accepted yet,
// because it was asked to send them.
func (c *CSMS) Allow(ctx context.Context, id ocpp.StationID, actions []string, until time.Time) error {
	return c.update(ctx, id.Fold(), func(tx *Tx) error {
		for _, action := range actions {
			_, err := tx.exec(`INSERT INTO allowance (station, action, until) VALUES ($1, $2, $3)
				ON CONFLICT (station, action) DO UPDATE SET until = excluded.until`, id.Fold(), action, micros(until))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Allowed reports whether the station was asked to send the action.
func (c *CSMS) Allowed(ctx context.Context, id ocpp.StationID, action string, now time.Time) (bool, error) {
	var until int64
	err := notFound(c.read.QueryRowContext(ctx, `SELECT until FROM allowance WHERE station = $1 AND action = $2`, id.Fold(), action).Scan(&until))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return until > micros(now), err
}
