package store

import (
	"context"
	"database/sql"
	"time"

	"holdfast/ocpp"
)

const (
	// maxSecurityEvents is how many security events are kept of one station.
	maxSecurityEvents = 1000
	// maxSecurityEventsPerMinute is how many of one station are recorded in a minute.
	maxSecurityEventsPerMinute = 60
)

// SecurityEvent is a SecurityEventNotification.
type SecurityEvent struct {
	ID         string         `json:"id"`
	Station    ocpp.StationID `json:"station"`
	Type       string         `json:"type"`
	At         time.Time      `json:"at,omitzero" doc:"By the station's clock"`
	ReceivedAt time.Time      `json:"received_at,omitzero"`
	TechInfo   string         `json:"tech_info,omitempty"`
	Quality    string         `json:"quality,omitempty" doc:"What was tolerated in the message"`
}

// AddSecurityEvent records an event once, and reports whether it was kept: more
// than 60 a minute of one station are not. Beyond 1,000 the oldest go.
func (c *CSMS) AddSecurityEvent(ctx context.Context, e SecurityEvent) (kept bool, err error) {
	key := e.Station.Fold()
	err = c.update(ctx, key, func(tx *Tx) error {
		var recent int
		err := tx.row(false, `SELECT count(*) FROM (SELECT received_at FROM security_event WHERE station = $1 ORDER BY id DESC LIMIT $2) AS newest WHERE received_at > $3`,
			[]any{key, maxSecurityEventsPerMinute, micros(e.ReceivedAt.Add(-time.Minute))}, &recent)
		kept = recent < maxSecurityEventsPerMinute
		if err != nil || !kept {
			return err
		}
		_, err = tx.exec(`INSERT INTO security_event (id, station, type, at, received_at, tech_info, digest, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (station, digest) DO NOTHING`,
			newID(), key, e.Type, micros(e.At), micros(e.ReceivedAt), e.TechInfo, digest(e.Type, micros(e.At), e.TechInfo), e.Quality)
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM security_event WHERE station = $1 AND id <=
			(SELECT id FROM security_event WHERE station = $2 ORDER BY id DESC LIMIT 1 OFFSET $3)`, key, key, maxSecurityEvents)
		return err
	})
	return kept, err
}

// SecurityEvents lists security events, newest first; of one station, or of all
// if it is empty.
func (c *CSMS) SecurityEvents(ctx context.Context, station ocpp.StationID, p Page) (List[SecurityEvent], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[SecurityEvent]{}, err
	}
	var w where
	w.add(`e.id < ?`, before)
	if station != "" {
		w.add(`e.station = ?`, station.Fold())
	}
	return list(ctx, c.db, p, `SELECT e.id, COALESCE(s.identity, e.station), e.type, e.at, e.received_at, e.tech_info, e.quality
		FROM security_event e LEFT JOIN station_state s ON s.station = e.station`+w.sql(` ORDER BY e.id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (e SecurityEvent, err error) {
			var at, received int64
			err = rows.Scan(&e.ID, &e.Station, &e.Type, &at, &received, &e.TechInfo, &e.Quality)
			e.At, e.ReceivedAt = fromMicros(at), fromMicros(received)
			return e, err
		},
		func(e SecurityEvent) []any { return []any{e.ID} })
}
