package store

import (
	"context"

	"holdfast/ocpp"
)

// Barred returns the stations that must not be connected because they are
// blocked or were removed, of each kind at most limit, the latest first. A
// station that was removed and registered again is not among them.
func (a *Authority) Barred(ctx context.Context, limit int) ([]ocpp.StationID, error) {
	rows, err := a.read.QueryContext(ctx, `
		SELECT identity FROM (SELECT identity FROM station WHERE blocked ORDER BY updated DESC LIMIT $1) b
		UNION ALL
		SELECT identity FROM (SELECT station, identity FROM audit WHERE action = 'station.remove' ORDER BY id DESC LIMIT $1) r
			WHERE NOT EXISTS (SELECT 1 FROM station s WHERE s.station = r.station)`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []ocpp.StationID
	for rows.Next() {
		var id ocpp.StationID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
