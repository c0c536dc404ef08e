package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// Transaction is one charging transaction as far as it is known.
type Transaction struct {
	ID              string         `json:"id" doc:"Holdfast's own id"`
	Station         ocpp.StationID `json:"station"`
	TransactionID   string         `json:"transaction_id" doc:"As the station knows it: a number in OCPP 1.6"`
	Version         ocpp.Version   `json:"version"`
	EVSE            int            `json:"evse,omitempty"`
	Connector       int            `json:"connector,omitempty"`
	Token           string         `json:"token,omitempty" doc:"ID token that authorized it"`
	TokenType       string         `json:"token_type,omitempty"`
	TokenStatus     string         `json:"token_status,omitempty" doc:"What was answered to the ID token"`
	RemoteStartID   *int           `json:"remote_start_id,omitempty"`
	ReservationID   *int           `json:"reservation_id,omitempty"`
	StartedAt       time.Time      `json:"started_at,omitzero" doc:"By the station's clock"`
	StartReceivedAt time.Time      `json:"start_received_at,omitzero" doc:"Absent: no start was received yet"`
	EndedAt         time.Time      `json:"ended_at,omitzero" doc:"By the station's clock"`
	EndReceivedAt   time.Time      `json:"end_received_at,omitzero"`
	MeterStart      *float64       `json:"meter_start,omitempty" doc:"Wh"`
	MeterStop       *float64       `json:"meter_stop,omitempty" doc:"Wh"`
	MeterLast       *float64       `json:"meter_last,omitempty" doc:"Newest energy register among the meter values, Wh"`
	MeterLastAt     time.Time      `json:"meter_last_at,omitzero"`
	ChargingState   string         `json:"charging_state,omitempty"`
	StoppedReason   string         `json:"stopped_reason,omitempty"`
	StopToken       string         `json:"stop_token,omitempty"`
	Open            bool           `json:"open"`
	Orphan          bool           `json:"orphan,omitempty" doc:"A stop whose start is unknown"`
	Offline         bool           `json:"offline,omitempty" doc:"Some of it was reported later, from the time the station was offline"`
	Events          int            `json:"events,omitempty" doc:"Transaction events received (OCPP 2.x)"`
	SeqMin          int            `json:"seq_min,omitempty"`
	SeqMax          int            `json:"seq_max,omitempty"`
	Missing         int            `json:"missing_events,omitempty" doc:"Sequence numbers between the first and the last that were not received"`
	Quality         string         `json:"quality,omitempty" doc:"What was tolerated in its messages"`
}

// Start is a StartTransaction of OCPP 1.6.
type Start struct {
	Station       ocpp.StationID
	Number        int64 // the transaction's id, if it is new
	Connector     int
	Token         string
	MeterStart    int
	At            time.Time // by the station's clock; zero if unreadable
	ReceivedAt    time.Time
	ReservationID *int
	Quality       string
	CountOpen     bool // fill TokenState.Open
}

// Started is what became of a Start.
type Started struct {
	TransactionID string
	Duplicate     bool // it was known: Number was not used
	Verdict       Verdict
}

// Stop is a StopTransaction of OCPP 1.6.
type Stop struct {
	Station       ocpp.StationID
	TransactionID int
	Token         string // may be empty
	MeterStop     int
	At            time.Time // by the station's clock; zero if unreadable
	ReceivedAt    time.Time
	Reason        string
	MeterValues   []MeterValue
	Quality       string
}

// Stopped is what became of a Stop.
type Stopped struct {
	TransactionID string // under which it is recorded
	Duplicate     bool   // it had ended before
	Orphan        bool   // no such transaction of this station is known
	Verdict       Verdict
}

// digest returns 128 bits of the hash of parts, as hex digits. %q keeps the
// parts apart.
func digest(parts ...any) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%q", fmt.Sprint(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// StartTransaction records a Start once: the same connector, ID token, meter
// reading and time of the same station are the same transaction. Without a time
// of a set clock they are that only until it has ended: the station then got its
// answer, and its next transaction may look the same.
func (c *CSMS) StartTransaction(ctx context.Context, in Start, decide Decide) (out Started, err error) {
	key := in.Station.Fold()
	startKey := digest(in.Connector, foldToken(in.Token), in.MeterStart, micros(in.At))
	err = c.update(ctx, key, func(tx *Tx) error {
		token, err := tokenState(tx.rowFunc(), in.Token, in.CountOpen, "")
		if err != nil {
			return err
		}
		out = Started{TransactionID: fmt.Sprint(in.Number), Verdict: decide(token)}
		if !ocpp.ClockWasSet(in.At) {
			if _, err := tx.exec(`UPDATE charging_transaction SET start_key = NULL WHERE station = $1 AND start_key = $2 AND NOT open`, key, startKey); err != nil {
				return err
			}
		}
		n, err := tx.exec(`INSERT INTO charging_transaction (id, station, transaction_id, version, start_key, evse, connector,
				token, token_key, token_type, token_status, reservation_id, started_at, start_received, ended_at, end_received,
				meter_start, meter_last_at, charging_state, stopped_reason, stop_token, orphan, offline, events, seq_min, seq_max, quality, open)
			VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, '', $9, $10, $11, $12, 0, 0, $13, 0, '', '', '', FALSE, FALSE, 0, 0, 0, $14, TRUE)
			ON CONFLICT (station, start_key) DO NOTHING`,
			newID(), key, out.TransactionID, string(ocpp.V16), startKey, in.Connector,
			in.Token, foldToken(in.Token), out.Verdict.Status, in.ReservationID, micros(in.At), micros(in.ReceivedAt),
			float64(in.MeterStart), in.Quality)
		if err != nil || n > 0 {
			return err
		}
		out.Duplicate = true
		return tx.row(false, `SELECT transaction_id, token_status FROM charging_transaction WHERE station = $1 AND start_key = $2`,
			[]any{key, startKey}, &out.TransactionID, &out.Verdict.Status)
	})
	return out, err
}

// StopTransaction records a Stop once. One that ends no transaction of this
// station is kept as an orphan.
func (c *CSMS) StopTransaction(ctx context.Context, in Stop, decide Decide) (out Stopped, err error) {
	key := in.Station.Fold()
	err = c.update(ctx, key, func(tx *Tx) error {
		out = Stopped{TransactionID: fmt.Sprint(in.TransactionID)}
		if in.Token != "" {
			token, err := tokenState(tx.rowFunc(), in.Token, false, "")
			if err != nil {
				return err
			}
			out.Verdict = decide(token)
		}
		n, err := tx.exec(`UPDATE charging_transaction SET open = FALSE, ended_at = $3, end_received = $4, meter_stop = $5,
				stopped_reason = $6, stop_token = $7, quality = CASE WHEN quality = '' THEN $8 ELSE quality END
			WHERE station = $1 AND transaction_id = $2 AND open`,
			key, out.TransactionID, micros(in.At), micros(in.ReceivedAt), float64(in.MeterStop),
			in.Reason, in.Token, in.Quality)
		if err != nil {
			return err
		}
		if n == 0 {
			if err := repeatedStop(tx, in, &out); err != nil {
				return err
			}
		}
		return addMeterValues(tx, in.Station, out.TransactionID, in.MeterValues)
	})
	return out, err
}

// repeatedStop deals with a Stop that ends nothing: a second one, whose first
// stays valid, or an orphan.
func repeatedStop(tx *Tx, in Stop, out *Stopped) error {
	key := in.Station.Fold()
	n, err := tx.exec(`UPDATE charging_transaction SET quality = CASE
			WHEN quality = '' AND (ended_at <> $3 OR meter_stop <> $4) THEN 'a second stop differs from the first' ELSE quality END
		WHERE station = $1 AND transaction_id = $2`, key, out.TransactionID, micros(in.At), float64(in.MeterStop))
	if err != nil {
		return err
	}
	if n > 0 {
		out.Duplicate = true
		return nil
	}
	out.Orphan = true
	out.TransactionID = "orphan-" + digest(in.TransactionID, foldToken(in.Token), in.MeterStop, micros(in.At))
	quality := fmt.Sprintf("stop of unknown transaction %d", in.TransactionID)
	if in.Quality != "" {
		quality += "; " + in.Quality
	}
	n, err = tx.exec(`INSERT INTO charging_transaction (id, station, transaction_id, version, evse, connector,
			token, token_key, token_type, token_status, started_at, start_received, ended_at, end_received,
			meter_stop, meter_last_at, charging_state, stopped_reason, stop_token, orphan, offline, events, seq_min, seq_max, quality, open)
		VALUES ($1, $2, $3, $4, 0, 0, '', '', '', '', 0, 0, $5, $6, $7, 0, '', $8, $9, TRUE, FALSE, 0, 0, 0, $10, FALSE)
		ON CONFLICT (station, transaction_id) DO NOTHING`,
		newID(), key, out.TransactionID, string(ocpp.V16), micros(in.At), micros(in.ReceivedAt),
		float64(in.MeterStop), in.Reason, in.Token, quality)
	out.Duplicate = n == 0
	return err
}

const transactionColumns = `t.id, COALESCE(s.identity, t.station), t.transaction_id, t.version, t.evse, t.connector, t.token, t.token_type, t.token_status,
	t.remote_start_id, t.reservation_id, t.started_at, t.start_received, t.ended_at, t.end_received,
	t.meter_start, t.meter_stop, t.meter_last, t.meter_last_at, t.charging_state, t.stopped_reason, t.stop_token,
	t.orphan, t.offline, t.events, t.seq_min, t.seq_max, t.quality, t.open`

const transactionTables = ` FROM charging_transaction t LEFT JOIN station_state s ON s.station = t.station`

func scanTransaction(scan func(...any) error) (t Transaction, err error) {
	var started, startReceived, ended, endReceived, lastAt int64
	err = scan(&t.ID, &t.Station, &t.TransactionID, &t.Version, &t.EVSE, &t.Connector, &t.Token, &t.TokenType, &t.TokenStatus,
		&t.RemoteStartID, &t.ReservationID, &started, &startReceived, &ended, &endReceived,
		&t.MeterStart, &t.MeterStop, &t.MeterLast, &lastAt, &t.ChargingState, &t.StoppedReason, &t.StopToken,
		&t.Orphan, &t.Offline, &t.Events, &t.SeqMin, &t.SeqMax, &t.Quality, &t.Open)
	t.StartedAt, t.StartReceivedAt = fromMicros(started), fromMicros(startReceived)
	t.EndedAt, t.EndReceivedAt, t.MeterLastAt = fromMicros(ended), fromMicros(endReceived), fromMicros(lastAt)
	if t.Events > 0 {
		t.Missing = t.SeqMax - t.SeqMin + 1 - t.Events
	}
	return t, err
}

// Transaction returns a transaction by the station's id of it; ErrNotFound if
// there is none.
func (c *CSMS) Transaction(ctx context.Context, station ocpp.StationID, transactionID string) (Transaction, error) {
	row := c.read.QueryRowContext(ctx, `SELECT `+transactionColumns+transactionTables+` WHERE t.station = $1 AND t.transaction_id = $2`,
		station.Fold(), transactionID)
	t, err := scanTransaction(row.Scan)
	return t, notFound(err)
}

// TransactionFilter chooses transactions; zero fields choose all.
type TransactionFilter struct {
	Station ocpp.StationID
	Open    *bool
}

// Transactions lists transactions, newest first.
func (c *CSMS) Transactions(ctx context.Context, f TransactionFilter, p Page) (List[Transaction], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Transaction]{}, err
	}
	var w where
	w.add(`t.id < ?`, before)
	if f.Station != "" {
		w.add(`t.station = ?`, f.Station.Fold())
	}
	if f.Open != nil {
		w.add(`t.open = ?`, *f.Open)
	}
	return list(ctx, c.db, p, `SELECT `+transactionColumns+transactionTables+w.sql(` ORDER BY t.id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (Transaction, error) { return scanTransaction(rows.Scan) },
		func(t Transaction) []any { return []any{t.ID} })
}

// OpenTransactions counts the transactions that are open.
func (c *CSMS) OpenTransactions(ctx context.Context) (n int64, err error) {
	err = c.read.QueryRowContext(ctx, `SELECT count(*) FROM charging_transaction WHERE open`).Scan(&n)
	return n, err
}
