package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"time"

	"holdfast/ocpp"
)

// MeterValue is what was metered at one time.
type MeterValue struct {
	Station       ocpp.StationID  `json:"station"`
	TransactionID string          `json:"transaction_id,omitempty"`
	SeqNo         *int            `json:"seq_no,omitempty" doc:"Of the transaction event that brought it (OCPP 2.x)"`
	EVSE          int             `json:"evse,omitempty"`
	Connector     int             `json:"connector,omitempty"`
	At            time.Time       `json:"at,omitzero" doc:"By the station's clock"`
	ReceivedAt    time.Time       `json:"received_at,omitzero"`
	Samples       json.RawMessage `json:"samples" doc:"sampledValue as the station sent it"`
	Quality       string          `json:"quality,omitempty" doc:"What was tolerated in the message"`

	// Energy is the reading of the total energy register among the samples, in
	// Wh; nil if there is none. It goes to the transaction.
	Energy *float64 `json:"-"`
}

// AddMeterValues records meter values of one message; those that are known, with
// the same place, time and samples, are not doubled. transactionID may be empty.
func (c *CSMS) AddMeterValues(ctx context.Context, station ocpp.StationID, transactionID string, values []MeterValue) error {
	return c.update(ctx, station.Fold(), func(tx *Tx) error {
		return addMeterValues(tx, station, transactionID, values)
	})
}

func addMeterValues(tx *Tx, station ocpp.StationID, transactionID string, values []MeterValue) error {
	key := station.Fold()
	last := -1
	times := make(map[string]int, len(values)) // a station may mean two equal values in one message
	for i, v := range values {
		seqNo := ""
		if v.SeqNo != nil {
			seqNo = strconv.Itoa(*v.SeqNo)
		}
		d := digest(transactionID, seqNo, v.EVSE, v.Connector, micros(v.At), string(v.Samples))
		times[d]++
		if n := times[d]; n > 1 {
			d = digest(d, n)
		}
		_, err := tx.exec(`INSERT INTO meter_value (station, at, digest, transaction_id, seq_no, evse, connector, samples, received_at, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (station, at, digest) DO NOTHING`,
			key, micros(v.At), d, transactionID, v.SeqNo, v.EVSE, v.Connector, string(v.Samples), micros(v.ReceivedAt), v.Quality)
		if err != nil {
			return err
		}
		if v.Energy != nil && (last < 0 || !v.At.Before(values[last].At)) {
			last = i
		}
	}
	if last < 0 || transactionID == "" {
		return nil
	}
	at := micros(values[last].At)
	_, err := tx.exec(`UPDATE charging_transaction SET meter_last = $3, meter_last_at = $4
		WHERE station = $1 AND transaction_id = $2 AND meter_last_at <= $5`,
		key, transactionID, *values[last].Energy, at, at)
	return err
}

func firstEnergy(values []MeterValue) *float64 {
	for _, v := range values {
		if v.Energy != nil {
			return v.Energy
		}
	}
	return nil
}

func lastEnergy(values []MeterValue) (energy *float64) {
	for _, v := range values {
		if v.Energy != nil {
			energy = v.Energy
		}
	}
	return energy
}

// MeterValueFilter chooses meter values of a station.
type MeterValueFilter struct {
	Station       ocpp.StationID
	TransactionID string // empty: all
	From, To      time.Time
}

// MeterValues lists a station's meter values, oldest first.
func (c *CSMS) MeterValues(ctx context.Context, f MeterValueFilter, p Page) (List[MeterValue], error) {
	var at int64 = -1 << 62
	after := ""
	if err := p.key(&at, &after); err != nil {
		return List[MeterValue]{}, err
	}
	var w where
	w.add(`v.station = ?`, f.Station.Fold())
	w.add(`(v.at, v.digest) > (?, ?)`, at, after)
	if f.TransactionID != "" {
		w.add(`v.transaction_id = ?`, f.TransactionID)
	}
	if !f.From.IsZero() {
		w.add(`v.at >= ?`, micros(f.From))
	}
	if !f.To.IsZero() {
		w.add(`v.at < ?`, micros(f.To))
	}
	type row struct {
		MeterValue
		digest string
	}
	rows, err := list(ctx, c.db, p, `SELECT COALESCE(s.identity, v.station), v.transaction_id, v.seq_no, v.evse, v.connector, v.at, v.received_at, v.samples, v.quality, v.digest
		FROM meter_value v LEFT JOIN station_state s ON s.station = v.station`+w.sql(` ORDER BY v.at, v.digest LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (r row, err error) {
			var at, received int64
			var samples string
			err = rows.Scan(&r.Station, &r.TransactionID, &r.SeqNo, &r.EVSE, &r.Connector, &at, &received, &samples, &r.Quality, &r.digest)
			r.At, r.ReceivedAt, r.Samples = fromMicros(at), fromMicros(received), json.RawMessage(samples)
			return r, err
		},
		func(r row) []any { return []any{micros(r.At), r.digest} })
	if err != nil {
		return List[MeterValue]{}, err
	}
	l := List[MeterValue]{Items: make([]MeterValue, len(rows.Items)), Next: rows.Next}
	for i, r := range rows.Items {
		l.Items[i] = r.MeterValue
	}
	return l, nil
}
