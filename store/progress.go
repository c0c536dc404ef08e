package store

import (
	"context"
	"time"

	"holdfast/ocpp"
)

// ProgressKind is something that a station takes a while to do.
type ProgressKind string

const (
	ProgressFirmware        ProgressKind = "firmware"
	ProgressPublishFirmware ProgressKind = "publish_firmware"
	ProgressDiagnostics     ProgressKind = "diagnostics"
	ProgressLog             ProgressKind = "log"
)

// Progress is what a station last said of one of them.
type Progress struct {
	Station    ocpp.StationID `json:"station"`
	Kind       ProgressKind   `json:"kind" enum:"firmware,publish_firmware,diagnostics,log"`
	Status     string         `json:"status"`
	RequestID  *int           `json:"request_id,omitempty"`
	Since      time.Time      `json:"since,omitzero" doc:"When this status was first received"`
	ReceivedAt time.Time      `json:"received_at,omitzero"`
	Quality    string         `json:"quality,omitempty" doc:"What was tolerated in the message"`
}

// SetProgress records a station's progress.
func (c *CSMS) SetProgress(ctx context.Context, p Progress) error {
	return c.update(ctx, p.Station.Fold(), func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO progress (station, kind, status, request_id, since, received_at, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (station, kind) DO UPDATE SET
				since = CASE WHEN progress.status = excluded.status THEN progress.since ELSE excluded.since END,
				status = excluded.status, request_id = excluded.request_id, received_at = excluded.received_at, quality = excluded.quality`,
			p.Station.Fold(), string(p.Kind), p.Status, p.RequestID, micros(p.ReceivedAt), micros(p.ReceivedAt), p.Quality)
		return err
	})
}

// Progress returns what a station last said of firmware, diagnostics and log.
func (c *CSMS) Progress(ctx context.Context, station ocpp.StationID) ([]Progress, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT COALESCE(s.identity, p.station), kind, status, request_id, p.since, received_at, quality
		FROM progress p LEFT JOIN station_state s ON s.station = p.station WHERE p.station = $1 ORDER BY kind`, station.Fold())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	progress := []Progress{}
	for rows.Next() {
		var p Progress
		var since, received int64
		if err := rows.Scan(&p.Station, &p.Kind, &p.Status, &p.RequestID, &since, &received, &p.Quality); err != nil {
			return nil, err
		}
		p.Since, p.ReceivedAt = fromMicros(since), fromMicros(received)
		progress = append(progress, p)
	}
	return progress, rows.Err()
}
