package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
)

// Station is a charging station as its operator registered it.
type Station struct {
	ID     ocpp.StationID `json:"id" doc:"Identity, the last segment of the URL that the station connects to; compared without regard to case"`
	Serial string         `json:"serial" doc:"Serial number, the CN of the station's certificates; names one station"`
	// Profile is the security profile that the station uses or changes to.
	Profile ocpp.SecurityProfile `json:"profile" doc:"Security profile: 1, 2 or 3"`
	// PreviousProfile is accepted, too, until the station has connected with Profile; zero: none.
	PreviousProfile ocpp.SecurityProfile `json:"previous_profile,omitempty" doc:"Security profile that the station is being changed from; accepted, too, until it has connected with the new one"`
	Version         ocpp.Version         `json:"version,omitempty" doc:"The only OCPP version the station may speak; absent: any"`
	Quirks          ocpp.Quirks          `json:"quirks" doc:"Settings that differ because the station's firmware does"`
	Labels          map[string]string    `json:"labels,omitempty" doc:"The operator's own names and values"`
	User            string               `json:"user,omitempty" doc:"Basic user name, if the station does not use its identity"`
	Blocked         bool                 `json:"blocked" doc:"Whether the station is refused, whatever it presents"`
	BlockedReason   string               `json:"blocked_reason,omitempty" doc:"Why it is blocked"`
	HasPassword     bool                 `json:"has_password" doc:"Whether a password is set"`
	PasswordPending bool                 `json:"password_pending,omitempty" doc:"Whether a new password is accepted beside the old one until its first use"`
	Created         time.Time            `json:"created"`
	Updated         time.Time            `json:"updated" doc:"Last change by an operator"`
	AdmittedAt      time.Time            `json:"admitted_at,omitzero" doc:"When the station was last admitted, to within a minute"`
	Last            *LastAttempt         `json:"last_attempt,omitempty" doc:"The outcome of the last attempt to connect"`
}

// LastAttempt is the outcome of a station's last attempt to connect.
type LastAttempt struct {
	At     time.Time   `json:"at"`
	Reason ocpp.Reason `json:"reason" doc:"admitted, or why not"`
	Detail string      `json:"detail,omitempty"`
	Remote string      `json:"remote,omitempty" doc:"Source address"`
}

// StationRecord is a Station with what is never shown.
type StationRecord struct {
	Station
	Password string `json:"-"` // salted hash; empty: none
	Pending  string `json:"-"` // salted hash of the next password; empty: none
}

const stationColumns = `s.identity, s.serial, s.profile, s.previous_profile, s.version, s.quirks, s.labels, s.user_name,
	s.blocked, s.blocked_reason, s.password, s.pending_password, s.created, s.updated,
	s.last_at, s.last_reason, s.last_detail, s.last_remote, s.admitted_at`

// stationRow scans stationColumns.
type stationRow struct {
	r                                       StationRecord
	quirks, labels                          string
	created, updated, lastAt, admittedAt    int64
	lastReason, lastDetail, lastRemote, pin string
}

func (s *stationRow) dst() []any {
	r := &s.r
	return []any{&r.ID, &r.Serial, &r.Profile, &r.PreviousProfile, &s.pin, &s.quirks, &s.labels, &r.User,
		&r.Blocked, &r.BlockedReason, &r.Password, &r.Pending, &s.created, &s.updated,
		&s.lastAt, &s.lastReason, &s.lastDetail, &s.lastRemote, &s.admittedAt}
}

func (s *stationRow) record() (StationRecord, error) {
	r := s.r
	r.Version = ocpp.Version(s.pin)
	if err := json.Unmarshal([]byte(s.quirks), &r.Quirks); err != nil {
		return r, fmt.Errorf("station %s: column quirks: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(s.labels), &r.Labels); err != nil {
		return r, fmt.Errorf("station %s: column labels: %w", r.ID, err)
	}
	r.HasPassword, r.PasswordPending = r.Password != "", r.Pending != ""
	r.Created, r.Updated, r.AdmittedAt = fromMicros(s.created), fromMicros(s.updated), fromMicros(s.admittedAt)
	if s.lastAt != 0 {
		r.Last = &LastAttempt{At: fromMicros(s.lastAt), Reason: ocpp.Reason(s.lastReason), Detail: s.lastDetail, Remote: s.lastRemote}
	}
	return r, nil
}

// stationArgs are what an operator can change, in the order of the statements below.
func stationArgs(r StationRecord) []any {
	quirks, _ := json.Marshal(r.Quirks) // plain fields always encode
	labels := r.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	encoded, _ := json.Marshal(labels)
	return []any{string(r.ID), r.Serial, ocpp.StationID(r.Serial).Fold(), int64(r.Profile), int64(r.PreviousProfile), string(r.Version),
		string(quirks), string(encoded), r.User, r.Blocked, r.BlockedReason, r.Password, r.Pending, micros(r.Updated)}
}

// AddStation registers a station and, if certificate is given, the certificate
// issued to it. ErrExists if the identity or the serial number is taken.
func (a *Authority) AddStation(ctx context.Context, r StationRecord, certificate *Certificate, audit AuditEntry) error {
	key := r.ID.Fold()
	return a.update(ctx, key, func(tx *Tx) error {
		n, err := tx.exec(`INSERT INTO station (station, identity, serial, serial_key, profile, previous_profile, version,
				quirks, labels, user_name, blocked, blocked_reason, password, pending_password, updated, created)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING`,
			append(append([]any{key}, stationArgs(r)...), micros(r.Created))...)
		if err != nil {
			return err
		}
		if n == 0 {
			return tx.taken(r)
		}
		if certificate != nil {
			if _, err := tx.addCertificate(*certificate); err != nil {
				return err
			}
		}
		return tx.audit(audit)
	})
}

// taken says which of a station's names another one has.
func (t *Tx) taken(r StationRecord) error {
	var other string
	err := t.row(false, `SELECT identity FROM station WHERE serial_key = $1`, []any{ocpp.StationID(r.Serial).Fold()}, &other)
	if err == nil && ocpp.StationID(other).Fold() != r.ID.Fold() {
		return fmt.Errorf("serial number %s of station %s: %w", r.Serial, other, ErrExists)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return fmt.Errorf("station %s: %w", r.ID, ErrExists)
}

// UpdateStation changes a station: change gets the current record and edits it;
// it can run more than once. ErrNotFound without such a station, ErrExists if
// the new serial number is taken. The identity cannot change.
func (a *Authority) UpdateStation(ctx context.Context, id ocpp.StationID, now time.Time, change func(*StationRecord) error, audit AuditEntry) (StationRecord, error) {
	var r StationRecord
	key := id.Fold()
	err := a.update(ctx, key, func(tx *Tx) error {
		// The write comes first: it locks the row against other replicas.
		n, err := tx.exec(`UPDATE station SET updated = $1 WHERE station = $2`, micros(now), key)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("station %s: %w", id, ErrNotFound)
		}
		if r, err = tx.station(key); err != nil {
			return err
		}
		identity, serial := r.ID, r.Serial
		if err := change(&r); err != nil {
			return err
		}
		r.ID, r.Updated = identity, now
		r.HasPassword, r.PasswordPending = r.Password != "", r.Pending != ""
		if r.Serial != serial {
			var other string
			err := tx.row(false, `SELECT identity FROM station WHERE serial_key = $1 AND station <> $2`,
				[]any{ocpp.StationID(r.Serial).Fold(), key}, &other)
			if err == nil {
				return fmt.Errorf("serial number %s of station %s: %w", r.Serial, other, ErrExists)
			}
			if !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		_, err = tx.exec(`UPDATE station SET identity = $1, serial = $2, serial_key = $3, profile = $4, previous_profile = $5,
			version = $6, quirks = $7, labels = $8, user_name = $9, blocked = $10, blocked_reason = $11, password = $12,
			pending_password = $13, updated = $14 WHERE station = $15`, append(stationArgs(r), key)...)
		if err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return r, err
}

func (t *Tx) station(key string) (StationRecord, error) {
	var s stationRow
	if err := t.row(false, `SELECT `+stationColumns+` FROM station s WHERE s.station = $1`, []any{key}, s.dst()...); err != nil {
		return StationRecord{}, err
	}
	return s.record()
}

// RemoveStation forgets a station and its attempts. Certificates that were
// issued to it are revoked; those only seen stay good for whoever registers
// their serial number next. It returns the trust generation after it.
func (a *Authority) RemoveStation(ctx context.Context, id ocpp.StationID, now time.Time, audit AuditEntry) (generation int64, err error) {
	key := id.Fold()
	err = a.update(ctx, key, func(tx *Tx) error {
		n, err := tx.exec(`DELETE FROM station WHERE station = $1`, key)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("station %s: %w", id, ErrNotFound)
		}
		if _, err = tx.exec(`DELETE FROM attempt WHERE station = $1`, key); err != nil {
			return err
		}
		if _, err = tx.exec(`UPDATE certificate SET status = $1, reason = 'cessation_of_operation', revoked = $2
			WHERE station = $3 AND issued AND status <> $4`, StatusRevoked, micros(now), key, StatusRevoked); err != nil {
			return err
		}
		if generation, err = tx.bump(); err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return generation, err
}

// Station returns a station. ErrNotFound without it.
func (a *Authority) Station(ctx context.Context, id ocpp.StationID) (StationRecord, error) {
	var s stationRow
	err := a.read.QueryRowContext(ctx, `SELECT `+stationColumns+` FROM station s WHERE s.station = $1`, id.Fold()).Scan(s.dst()...)
	if errors.Is(err, sql.ErrNoRows) {
		return StationRecord{}, fmt.Errorf("station %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return StationRecord{}, err
	}
	return s.record()
}

// StationBySerial returns the station with a serial number. ErrNotFound without it.
func (a *Authority) StationBySerial(ctx context.Context, serial string) (StationRecord, error) {
	var s stationRow
	err := a.read.QueryRowContext(ctx, `SELECT `+stationColumns+` FROM station s WHERE s.serial_key = $1`, ocpp.StationID(serial).Fold()).Scan(s.dst()...)
	if errors.Is(err, sql.ErrNoRows) {
		return StationRecord{}, fmt.Errorf("serial number %.64s: %w", serial, ErrNotFound)
	}
	if err != nil {
		return StationRecord{}, err
	}
	return s.record()
}

// StationFilter chooses stations; zero fields choose all.
type StationFilter struct {
	Search  string               `json:"search,omitempty"` // part of the identity or of the serial number
	Profile ocpp.SecurityProfile `json:"profile,omitempty"`
	Blocked *bool                `json:"blocked,omitempty"`
}

// Stations lists stations by identity.
func (a *Authority) Stations(ctx context.Context, f StationFilter, p Page) (List[Station], error) {
	after := ""
	if err := p.key(&after); err != nil {
		return List[Station]{}, err
	}
	var w where
	w.add(`s.station > ?`, after)
	if f.Search != "" {
		pattern := "%" + likeEscape.Replace(ocpp.StationID(f.Search).Fold()) + "%"
		w.add(`(s.station LIKE ? ESCAPE '\' OR s.serial_key LIKE ? ESCAPE '\')`, pattern, pattern)
	}
	if f.Profile != 0 {
		w.add(`s.profile = ?`, int64(f.Profile))
	}
	if f.Blocked != nil {
		w.add(`s.blocked = ?`, *f.Blocked)
	}
	return list(ctx, a.db, p, `SELECT `+stationColumns+` FROM station s`+w.sql(` ORDER BY s.station LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (Station, error) {
			var s stationRow
			if err := rows.Scan(s.dst()...); err != nil {
				return Station{}, err
			}
			r, err := s.record()
			return r.Station, err
		}, func(s Station) []any { return []any{s.ID.Fold()} })
}

var likeEscape = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// PromotePassword makes a pending password the only one, unless it is no longer
// pending: it was used with success.
func (a *Authority) PromotePassword(ctx context.Context, id ocpp.StationID, pending string, audit AuditEntry) (promoted bool, err error) {
	err = a.update(ctx, id.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE station SET password = pending_password, pending_password = '' WHERE station = $1 AND pending_password = $2`, id.Fold(), pending)
		if promoted = n > 0; err != nil || !promoted {
			return err
		}
		return tx.audit(audit)
	})
	return promoted, err
}

// EndProfileChange stops accepting the profile that a station was changed from,
// unless the change to profile is over already.
func (a *Authority) EndProfileChange(ctx context.Context, id ocpp.StationID, profile ocpp.SecurityProfile, audit AuditEntry) (ended bool, err error) {
	err = a.update(ctx, id.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE station SET previous_profile = 0 WHERE station = $1 AND profile = $2 AND previous_profile <> 0`, id.Fold(), int64(profile))
		if ended = n > 0; err != nil || !ended {
			return err
		}
		return tx.audit(audit)
	})
	return ended, err
}
