package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"holdfast/ocpp"
)

// maxRecorded is how many messages are kept of one station and action.
const maxRecorded = 50

// Recorded is a message that no rule reads: it is kept for people and other
// programs. Secrets are redacted before it comes here.
type Recorded struct {
	ID         string          `json:"id"`
	Station    ocpp.StationID  `json:"station"`
	Version    ocpp.Version    `json:"version"`
	Action     string          `json:"action"`
	Payload    json.RawMessage `json:"payload"`
	ReceivedAt time.Time       `json:"received_at"`
	Quality    string          `json:"quality,omitempty" doc:"What was tolerated in the message"`
}

// Record keeps a message. One that is among those kept, because it came twice,
// is not doubled. Beyond 50 of one station and action the oldest go.
func (c *CSMS) Record(ctx context.Context, r Recorded) error {
	key := r.Station.Fold()
	return c.update(ctx, key, func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO recorded (id, station, version, action, payload, digest, received_at, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (station, action, digest) DO UPDATE SET received_at = excluded.received_at`,
			newID(), key, string(r.Version), r.Action, string(r.Payload), digest(string(r.Payload)), micros(r.ReceivedAt), r.Quality)
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM recorded WHERE station = $1 AND action = $2 AND id <=
			(SELECT id FROM recorded WHERE station = $3 AND action = $4 ORDER BY id DESC LIMIT 1 OFFSET $5)`,
			key, r.Action, key, r.Action, maxRecorded)
		return err
	})
}

// RecordedMessages lists a station's recorded messages, newest first. With
// action set, only those of that action.
func (c *CSMS) RecordedMessages(ctx context.Context, station ocpp.StationID, action string, p Page) (List[Recorded], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Recorded]{}, err
	}
	var w where
	w.add(`r.station = ?`, station.Fold())
	w.add(`r.id < ?`, before)
	if action != "" {
		w.add(`r.action = ?`, action)
	}
	return list(ctx, c.db, p, `SELECT r.id, COALESCE(s.identity, r.station), r.version, r.action, r.payload, r.received_at, r.quality
		FROM recorded r LEFT JOIN station_state s ON s.station = r.station`+w.sql(` ORDER BY r.id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (r Recorded, err error) {
			var received int64
			var payload string
			err = rows.Scan(&r.ID, &r.Station, &r.Version, &r.Action, &payload, &received, &r.Quality)
			r.Payload, r.ReceivedAt = json.RawMessage(payload), fromMicros(received)
			return r, err
		},
		func(r Recorded) []any { return []any{r.ID} })
}
