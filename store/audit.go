package store

import (
	"context"
	"database/sql"
	"time"

	"holdfast/ocpp"
)

// AuditEntry says who did what, and when.
type AuditEntry struct {
	ID      string         `json:"id"`
	At      time.Time      `json:"at"`
	By      string         `json:"by" doc:"Who did it"`
	Action  string         `json:"action" doc:"What was done, such as station.add"`
	Station ocpp.StationID `json:"station,omitempty"`
	Subject string         `json:"subject,omitempty" doc:"What it was done to, if not the station itself: a certificate's serial number, a CA"`
	Detail  string         `json:"detail,omitempty"`
}

func (t *Tx) audit(e AuditEntry) error {
	_, err := t.exec(`INSERT INTO audit (id, at, who, action, station, identity, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		newID(), micros(e.At), e.By, e.Action, e.Station.Fold(), string(e.Station), e.Subject, e.Detail)
	return err
}

// AuditFilter chooses entries; zero fields choose all.
type AuditFilter struct {
	Station ocpp.StationID `json:"station,omitempty"`
	By      string         `json:"by,omitempty"`
	Action  string         `json:"action,omitempty"`
}

// Audit lists the audit record, newest first.
func (a *Authority) Audit(ctx context.Context, f AuditFilter, p Page) (List[AuditEntry], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[AuditEntry]{}, err
	}
	var w where
	w.add(`id < ?`, before)
	if f.Station != "" {
		w.add(`station = ?`, f.Station.Fold())
	}
	if f.By != "" {
		w.add(`who = ?`, f.By)
	}
	if f.Action != "" {
		w.add(`action = ?`, f.Action)
	}
	return list(ctx, a.db, p, `SELECT id, at, who, action, identity, subject, detail FROM audit`+w.sql(` ORDER BY id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (e AuditEntry, err error) {
			var at int64
			err = rows.Scan(&e.ID, &at, &e.By, &e.Action, &e.Station, &e.Subject, &e.Detail)
			e.At = fromMicros(at)
			return e, err
		}, func(e AuditEntry) []any { return []any{e.ID} })
}

// maxID is greater than every id, in every collation.
const maxID = "z"
