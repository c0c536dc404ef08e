package store

import (
	"context"
	"time"

	"holdfast/ocpp"
)

// Connected records a connection unless a newer or the same one is known, and
// reports whether it did. at is when the record learns of it.
func (c *CSMS) Connected(ctx context.Context, e ocpp.Connected, first Registration, at time.Time) (changed bool, err error) {
	err = c.update(ctx, e.Station.Fold(), func(tx *Tx) error {
		changed, err = connected(tx, e, first, at)
		return err
	})
	return changed, err
}

func connected(tx *Tx, e ocpp.Connected, first Registration, at time.Time) (bool, error) {
	if err := ensureStation(tx, e.Station, first, at); err != nil {
		return false, err
	}
	// The same epoch again is news only if nothing but a reconciliation ended it.
	n, err := tx.exec(`UPDATE station_state SET connected = TRUE, identity = $2, gateway = $3, epoch = $4, version = $5,
		profile = $6, remote = $7, since = $8, connection_at = $9, disconnect_reason = ''
		WHERE station = $1 AND (epoch < $10 OR (epoch = $11 AND NOT connected AND disconnect_reason = $12))`,
		e.Station.Fold(), string(e.Station), e.Gateway, int64(e.Epoch), string(e.Version),
		int64(e.Profile), e.Remote, micros(e.At), micros(at), int64(e.Epoch), int64(e.Epoch), Reconciled)
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.signal(e.Station, at)
}

// Disconnected records the end of a connection unless a newer one is known, and
// reports whether it did.
func (c *CSMS) Disconnected(ctx context.Context, e ocpp.Disconnected, first Registration, at time.Time) (changed bool, err error) {
	err = c.update(ctx, e.Station.Fold(), func(tx *Tx) error {
		if err := ensureStation(tx, e.Station, first, at); err != nil {
			return err
		}
		// A connection whose beginning is not known yet has ended, too: when its
		// Connected arrives, its epoch is not newer.
		n, err := tx.exec(`UPDATE station_state SET connected = FALSE, gateway = $2, epoch = $3, since = $4,
			connection_at = $5, disconnect_reason = $6
			WHERE station = $1 AND (epoch < $7 OR (epoch = $8 AND (connected OR disconnect_reason = $9)))`,
			e.Station.Fold(), e.Gateway, int64(e.Epoch), micros(e.At), micros(at), e.Reason,
			int64(e.Epoch), int64(e.Epoch), Reconciled)
		changed = n > 0
		return err
	})
	return changed, err
}

// Held is a station that the record shows as connected.
type Held struct {
	Station  ocpp.StationID
	Epoch    uint64
	Recorded time.Time // when the record learned of the connection
}

// ConnectedTo returns the stations that the record shows as connected to a
// gateway, by folded identity.
func (c *CSMS) ConnectedTo(ctx context.Context, gateway string) (map[string]Held, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT station, identity, epoch, connection_at FROM station_state
		WHERE connected AND gateway = $1`, gateway)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	held := make(map[string]Held)
	for rows.Next() {
		var key string
		var h Held
		var epoch, recorded int64
		if err := rows.Scan(&key, &h.Station, &epoch, &recorded); err != nil {
			return nil, err
		}
		h.Epoch, h.Recorded = uint64(epoch), fromMicros(recorded)
		held[key] = h
	}
	return held, rows.Err()
}

// Gone records that a station's gateway does not hold its connection any more,
// unless a newer one is known, and reports whether that was news.
func (c *CSMS) Gone(ctx context.Context, id ocpp.StationID, epoch uint64, at time.Time) (changed bool, err error) {
	err = c.update(ctx, id.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE station_state SET connected = FALSE, since = $3, connection_at = $4, disconnect_reason = $5
			WHERE station = $1 AND epoch = $2 AND connected`,
			id.Fold(), int64(epoch), micros(at), micros(at), Reconciled)
		changed = n > 0
		return err
	})
	return changed, err
}
