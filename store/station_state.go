package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"holdfast/ocpp"
)

// Registration is what a station is told when it boots.
type Registration string

const (
	Accepted Registration = "Accepted"
	Pending  Registration = "Pending"
	Rejected Registration = "Rejected"
)

// Valid reports whether r is one of the three.
func (r Registration) Valid() bool { return r == Accepted || r == Pending || r == Rejected }

// StationState is the operational view of a station: what it said of itself and
// which connection it has.
type StationState struct {
	Station        ocpp.StationID `json:"station"`
	Registration   Registration   `json:"registration" enum:"Accepted,Pending,Rejected"`
	RegistrationAt time.Time      `json:"registration_at,omitzero"`
	Version        ocpp.Version   `json:"version,omitempty" doc:"OCPP version of the newest connection"`
	Vendor         string         `json:"vendor,omitempty"`
	Model          string         `json:"model,omitempty"`
	Serial         string         `json:"serial,omitempty"`
	Firmware       string         `json:"firmware,omitempty"`
	BootReason     string         `json:"boot_reason,omitempty"`
	BootAt         time.Time      `json:"boot_at,omitzero"`
	BootQuality    string         `json:"boot_quality,omitempty" doc:"What was tolerated in the boot notification"`
	FirstSeen      time.Time      `json:"first_seen,omitzero"`
	LastSeen       time.Time      `json:"last_seen,omitzero" doc:"Newest message; written every few seconds"`
	Connection
}

// Connection is a station's newest connection, past or present.
type Connection struct {
	Connected        bool                 `json:"connected"`
	Gateway          string               `json:"gateway,omitempty"`
	Epoch            uint64               `json:"epoch,omitempty"`
	Profile          ocpp.SecurityProfile `json:"profile,omitempty" doc:"Security profile"`
	Remote           string               `json:"remote,omitempty"`
	Since            time.Time            `json:"since,omitzero" doc:"When it connected, or when it disconnected"`
	DisconnectReason string               `json:"disconnect_reason,omitempty"`
}

// Boot is what a BootNotification says.
type Boot struct {
	Station                         ocpp.StationID
	Version                         ocpp.Version
	Vendor, Model, Serial, Firmware string
	Reason                          string
	At                              time.Time // when it was received
	Quality                         string
}

// Reconciled is the DisconnectReason of a station that was not among those that
// its gateway said it holds; nobody reported the end of the connection itself.
const Reconciled = "reconciled"

// ensureStation makes the row of a station at first contact.
func ensureStation(tx *Tx, id ocpp.StationID, registration Registration, now time.Time) error {
	_, err := tx.exec(`INSERT INTO station_state (station, identity, registration, registration_at, first_seen)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (station) DO NOTHING`,
		id.Fold(), string(id), string(registration), micros(now), micros(now))
	return err
}

// Meet returns the registration and the last known version of a station. At
// first contact it makes the station's row, with the given registration.
func (c *CSMS) Meet(ctx context.Context, id ocpp.StationID, first Registration, now time.Time) (r Registration, v ocpp.Version, err error) {
	query, args := `SELECT registration, version FROM station_state WHERE station = $1`, []any{id.Fold()}
	err = c.read.QueryRowContext(ctx, query, args...).Scan(&r, &v)
	if !errors.Is(err, sql.ErrNoRows) {
		return r, v, err
	}
	err = c.update(ctx, id.Fold(), func(tx *Tx) error {
		if err := ensureStation(tx, id, first, now); err != nil {
			return err
		}
		return tx.row(false, query, args, &r, &v)
	})
	return r, v, err
}

// Booted records a BootNotification and returns the station's registration.
func (c *CSMS) Booted(ctx context.Context, b Boot, first Registration) (r Registration, err error) {
	err = c.update(ctx, b.Station.Fold(), func(tx *Tx) error {
		if err := ensureStation(tx, b.Station, first, b.At); err != nil {
			return err
		}
		return tx.row(true, `UPDATE station_state SET identity = $2, version = $3, vendor = $4, model = $5, serial = $6,
			firmware = $7, boot_reason = $8, boot_at = $9, boot_quality = $10 WHERE station = $1 RETURNING registration`,
			[]any{b.Station.Fold(), string(b.Station), string(b.Version), b.Vendor, b.Model, b.Serial,
				b.Firmware, b.Reason, micros(b.At), b.Quality}, &r)
	})
	return r, err
}

// SetVersion records the version that a station speaks now.
func (c *CSMS) SetVersion(ctx context.Context, id ocpp.StationID, v ocpp.Version) error {
	return c.update(ctx, id.Fold(), func(tx *Tx) error {
		_, err := tx.exec(`UPDATE station_state SET version = $2 WHERE station = $1`, id.Fold(), string(v))
		return err
	})
}

// SetRegistration changes what the station is told when it boots next, and what
// it may send from now on. A station without a row gets one.
func (c *CSMS) SetRegistration(ctx context.Context, id ocpp.StationID, r Registration, now time.Time) error {
	return c.update(ctx, id.Fold(), func(tx *Tx) error {
		if err := ensureStation(tx, id, r, now); err != nil {
			return err
		}
		_, err := tx.exec(`UPDATE station_state SET registration = $2, registration_at = $3 WHERE station = $1`,
			id.Fold(), string(r), micros(now))
		return err
	})
}

// RegistrationsSince returns the registrations changed at or after t, by folded identity.
func (c *CSMS) RegistrationsSince(ctx context.Context, t time.Time) (map[string]Registration, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT station, registration FROM station_state WHERE registration_at >= $1`, micros(t))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	changed := make(map[string]Registration)
	for rows.Next() {
		var station string
		var r Registration
		if err := rows.Scan(&station, &r); err != nil {
			return nil, err
		}
		changed[station] = r
	}
	return changed, rows.Err()
}

// Forget removes a station's row with its connectors, variables and progress.
// Transactions, meter values, commands and events stay: they are the record.
func (c *CSMS) Forget(ctx context.Context, id ocpp.StationID) error {
	return c.update(ctx, id.Fold(), func(tx *Tx) error {
		for _, statement := range []string{
			`DELETE FROM allowance WHERE station = $1`,
			`DELETE FROM connector WHERE station = $1`,
			`DELETE FROM variable WHERE station = $1`,
			`DELETE FROM progress WHERE station = $1`,
			`DELETE FROM station_seen WHERE station = $1`,
			`DELETE FROM station_state WHERE station = $1`,
		} {
			if _, err := tx.exec(statement, id.Fold()); err != nil {
				return err
			}
		}
		return nil
	})
}

const stateColumns = `identity, registration, registration_at, version, vendor, model, serial, firmware,
	boot_reason, boot_at, boot_quality, first_seen,
	coalesce((SELECT last_seen FROM station_seen s WHERE s.station = station_state.station), first_seen),
	connected, gateway, epoch, profile, remote, since, disconnect_reason`

func scanState(scan func(...any) error) (StationState, error) {
	var s StationState
	var registrationAt, bootAt, first, last, since, epoch int64
	err := scan(&s.Station, &s.Registration, &registrationAt, &s.Version, &s.Vendor, &s.Model, &s.Serial, &s.Firmware,
		&s.BootReason, &bootAt, &s.BootQuality, &first, &last,
		&s.Connected, &s.Gateway, &epoch, &s.Profile, &s.Remote, &since, &s.DisconnectReason)
	s.RegistrationAt, s.BootAt = fromMicros(registrationAt), fromMicros(bootAt)
	s.FirstSeen, s.LastSeen = fromMicros(first), fromMicros(last)
	s.Epoch, s.Since = uint64(epoch), fromMicros(since)
	return s, err
}

// Station returns a station's operational view; ErrNotFound if it was never
// heard of.
func (c *CSMS) Station(ctx context.Context, id ocpp.StationID) (StationState, error) {
	row := c.read.QueryRowContext(ctx, `SELECT `+stateColumns+` FROM station_state WHERE station = $1`, id.Fold())
	s, err := scanState(row.Scan)
	return s, notFound(err)
}

// Stations lists operational views by identity. With connected set, only those
// that are, or are not, connected.
func (c *CSMS) Stations(ctx context.Context, p Page, connected *bool) (List[StationState], error) {
	after, all, want := "", connected == nil, false
	if connected != nil {
		want = *connected
	}
	if err := p.key(&after); err != nil {
		return List[StationState]{}, err
	}
	return list(ctx, c.db, p, `SELECT `+stateColumns+` FROM station_state
		WHERE station > $1 AND ($2 OR connected = $3) ORDER BY station LIMIT $4`,
		[]any{after, all, want, p.limit() + 1},
		func(rows *sql.Rows) (StationState, error) { return scanState(rows.Scan) },
		func(s StationState) []any { return []any{s.Station.Fold()} })
}

// Tally counts stations.
type Tally struct {
	Stations  int64 `json:"stations"`
	Connected int64 `json:"connected"`
}

// Tally counts stations by state.
func (c *CSMS) Tally(ctx context.Context) (t Tally, err error) {
	err = c.read.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE connected) FROM station_state`).Scan(&t.Stations, &t.Connected)
	return t, err
}
