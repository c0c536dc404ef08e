package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"holdfast/ocpp"
)

// admissionReads are what admission reads, in batches.
type admissionReads struct {
	stations     reads[string, StationRecord] // by folded identity
	certificates reads[string, Certificate]   // by fingerprint; as much of them as admission looks at
	generation   reads[string, int64]         // by name

	statements []*sql.Stmt
}

// openAdmissionReads prepares the statements: one text for any number of keys.
func openAdmissionReads(ctx context.Context, d *db) (*admissionReads, error) {
	// Neither form lets the planner think of scanning the table.
	in := func(column string) string {
		if d.postgres {
			return column + ` = ANY($1)`
		}
		return column + ` IN (SELECT value FROM json_each($1))`
	}
	r := &admissionReads{}
	prepare := func(query string) (*sql.Stmt, error) {
		s, err := d.read.PrepareContext(ctx, query)
		if err == nil {
			r.statements = append(r.statements, s)
		}
		return s, err
	}
	stations, err := prepare(`SELECT ` + stationColumns + ` FROM station s WHERE ` + in(`s.station`))
	if err != nil {
		return nil, err
	}
	certificates, err := prepare(`SELECT fingerprint, identity, status, reason, issued, first_used FROM certificate WHERE ` + in(`fingerprint`))
	if err != nil {
		return nil, err
	}
	generation, err := prepare(`SELECT name, value FROM generation WHERE ` + in(`name`))
	if err != nil {
		return nil, err
	}
	r.stations.read = func(ctx context.Context, keys []string) (map[string]StationRecord, error) {
		return readRows(ctx, d, stations, keys, func(rows *sql.Rows) (string, StationRecord, error) {
			var s stationRow
			if err := rows.Scan(s.dst()...); err != nil {
				return "", StationRecord{}, err
			}
			record, err := s.record()
			return record.ID.Fold(), record, err
		})
	}
	r.certificates.read = func(ctx context.Context, keys []string) (map[string]Certificate, error) {
		return readRows(ctx, d, certificates, keys, func(rows *sql.Rows) (string, Certificate, error) {
			var c Certificate
			var firstUsed int64
			err := rows.Scan(&c.Fingerprint, &c.Station, &c.Status, &c.Reason, &c.Issued, &firstUsed)
			c.FirstUsed = fromMicros(firstUsed)
			return c.Fingerprint, c, err
		})
	}
	r.generation.read = func(ctx context.Context, keys []string) (map[string]int64, error) {
		return readRows(ctx, d, generation, keys, func(rows *sql.Rows) (name string, value int64, err error) {
			err = rows.Scan(&name, &value)
			return name, value, err
		})
	}
	return r, nil
}

func (r *admissionReads) close() {
	for _, s := range r.statements {
		s.Close()
	}
}

func readRows[V any](ctx context.Context, d *db, s *sql.Stmt, keys []string, scan func(*sql.Rows) (string, V, error)) (map[string]V, error) {
	var arg any = keys
	if !d.postgres {
		text, err := json.Marshal(keys)
		if err != nil {
			return nil, err
		}
		arg = string(text)
	}
	rows, err := s.QueryContext(ctx, arg)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]V, len(keys))
	for rows.Next() {
		key, value, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found[key] = value
	}
	return found, rows.Err()
}

// Admission returns what admission looks at: the station and, if fingerprint is
// not empty, the certificate with it, nil if it is not known. ErrNotFound without
// such a station. Many callers at a time share queries.
func (a *Authority) Admission(ctx context.Context, id ocpp.StationID, fingerprint string) (StationRecord, *Certificate, error) {
	r, err := a.admission.stations.get(ctx, id.Fold())
	if err != nil || fingerprint == "" {
		return r, nil, err
	}
	c, err := a.admission.certificates.get(ctx, fingerprint)
	if err == ErrNotFound {
		return r, nil, nil
	}
	if err != nil {
		return StationRecord{}, nil, fmt.Errorf("certificate of station %s: %w", id, err)
	}
	return r, &c, nil
}

// Generation counts the changes of what gateways verify with: trusted CAs and
// revocations. It only grows.
func (a *Authority) Generation(ctx context.Context) (int64, error) {
	return a.admission.generation.get(ctx, "trust")
}
