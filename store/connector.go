package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// maxConnectors is the most connectors that are kept of one station.
const maxConnectors = 1000

// ErrTooMany: a station names more things than are kept of one station.
var ErrTooMany = errors.New("too many of one station")

// Connector is the state of a connector. In OCPP 1.6 EVSE is 0, and connector 0
// is the station itself.
type Connector struct {
	Station         ocpp.StationID `json:"station"`
	EVSE            int            `json:"evse"`
	Connector       int            `json:"connector"`
	Status          string         `json:"status"`
	ErrorCode       string         `json:"error_code,omitempty"`
	VendorErrorCode string         `json:"vendor_error_code,omitempty"`
	VendorID        string         `json:"vendor_id,omitempty"`
	Info            string         `json:"info,omitempty"`
	Since           time.Time      `json:"since,omitzero" doc:"When this status began, by the station's clock"`
	ReceivedAt      time.Time      `json:"received_at,omitzero"`
	Quality         string         `json:"quality,omitempty" doc:"What was tolerated in the message"`
}

// SetConnector records what a station says of a connector, and reports whether
// its status changed: a repeated status keeps its Since.
func (c *CSMS) SetConnector(ctx context.Context, k Connector) (changed bool, err error) {
	key := k.Station.Fold()
	err = c.update(ctx, key, func(tx *Tx) error {
		var status, errorCode string
		err := tx.row(false, `SELECT status, error_code FROM connector WHERE station = $1 AND evse = $2 AND connector = $3`,
			[]any{key, k.EVSE, k.Connector}, &status, &errorCode)
		changed = status != k.Status || errorCode != k.ErrorCode
		if errors.Is(err, ErrNotFound) {
			var n int
			if err := tx.row(false, `SELECT count(*) FROM connector WHERE station = $1`, []any{key}, &n); err != nil {
				return err
			}
			if n >= maxConnectors {
				return fmt.Errorf("connectors: %w: at most %d", ErrTooMany, maxConnectors)
			}
		} else if err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO connector (station, evse, connector, status, error_code, vendor_error_code, vendor_id, info, since, received_at, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT (station, evse, connector) DO UPDATE SET
				since = CASE WHEN connector.status = excluded.status THEN connector.since ELSE excluded.since END,
				status = excluded.status, error_code = excluded.error_code, vendor_error_code = excluded.vendor_error_code,
				vendor_id = excluded.vendor_id, info = excluded.info, received_at = excluded.received_at, quality = excluded.quality`,
			key, k.EVSE, k.Connector, k.Status, k.ErrorCode, k.VendorErrorCode, k.VendorID, k.Info,
			micros(k.Since), micros(k.ReceivedAt), k.Quality)
		return err
	})
	return changed, err
}

// Connectors returns a station's connectors by EVSE and number: at most 1,000.
func (c *CSMS) Connectors(ctx context.Context, id ocpp.StationID) ([]Connector, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT COALESCE(s.identity, c.station), evse, connector, status, error_code, vendor_error_code, vendor_id, info, c.since, received_at, quality
		FROM connector c LEFT JOIN station_state s ON s.station = c.station
		WHERE c.station = $1 ORDER BY evse, connector`, id.Fold())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	connectors := []Connector{}
	for rows.Next() {
		k, err := scanConnector(rows)
		if err != nil {
			return nil, err
		}
		connectors = append(connectors, k)
	}
	return connectors, rows.Err()
}

func scanConnector(rows *sql.Rows) (Connector, error) {
	var k Connector
	var since, received int64
	err := rows.Scan(&k.Station, &k.EVSE, &k.Connector, &k.Status, &k.ErrorCode, &k.VendorErrorCode, &k.VendorID, &k.Info, &since, &received, &k.Quality)
	k.Since, k.ReceivedAt = fromMicros(since), fromMicros(received)
	return k, err
}
