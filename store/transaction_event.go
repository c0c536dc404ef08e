package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// TransactionEvent is a TransactionEvent of OCPP 2.x.
type TransactionEvent struct {
	Station       ocpp.StationID `json:"station"`
	TransactionID string         `json:"transaction_id"`
	SeqNo         int            `json:"seq_no"`
	Type          string         `json:"type" enum:"Started,Updated,Ended"`
	TriggerReason string         `json:"trigger_reason"`
	At            time.Time      `json:"at,omitzero" doc:"By the station's clock"`
	ReceivedAt    time.Time      `json:"received_at,omitzero"`
	Offline       bool           `json:"offline,omitempty" doc:"It happened while the station was offline"`
	ChargingState string         `json:"charging_state,omitempty"`
	Token         string         `json:"token,omitempty"`
	Quality       string         `json:"quality,omitempty" doc:"What was tolerated in the message"`

	// The rest goes to the transaction, not to the event's own row.
	Version       ocpp.Version `json:"-"`
	EVSE          int          `json:"-"` // 0: not given
	Connector     int          `json:"-"` // 0: not given
	TokenType     string       `json:"-"`
	StoppedReason string       `json:"-"`
	RemoteStartID *int         `json:"-"`
	ReservationID *int         `json:"-"`
	MeterValues   []MeterValue `json:"-"`
	CountOpen     bool         `json:"-"` // fill TokenState.Open
}

// The types of a transaction event.
const (
	EventStarted = "Started"
	EventUpdated = "Updated"
	EventEnded   = "Ended"
)

// EventRecorded is what became of a TransactionEvent.
type EventRecorded struct {
	Duplicate bool    // its sequence number was known
	Verdict   Verdict // of its ID token, if it has one
}

// AddTransactionEvent records an event once by station, transaction and sequence
// number, in whatever order they come.
func (c *CSMS) AddTransactionEvent(ctx context.Context, e TransactionEvent, decide Decide) (out EventRecorded, err error) {
	key := e.Station.Fold()
	content := digest(e.Type, e.TriggerReason, micros(e.At), e.ChargingState, e.Token, e.StoppedReason)
	err = c.update(ctx, key, func(tx *Tx) error {
		out = EventRecorded{}
		t, err := lockTransaction(tx, e)
		if err != nil {
			return err
		}
		if e.Token != "" {
			token, err := tokenState(tx.rowFunc(), e.Token, e.CountOpen, t.ID)
			if err != nil {
				return err
			}
			out.Verdict = decide(token)
		}
		n, err := tx.exec(`INSERT INTO transaction_event (station, transaction_id, seq_no, type, trigger_reason, at, received_at,
				offline, charging_state, token, digest, quality)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
			ON CONFLICT (station, transaction_id, seq_no) DO NOTHING`,
			key, e.TransactionID, e.SeqNo, e.Type, e.TriggerReason, micros(e.At), micros(e.ReceivedAt),
			e.Offline, e.ChargingState, e.Token, content, e.Quality)
		if err != nil {
			return err
		}
		out.Duplicate = n == 0
		if out.Duplicate {
			err = checkRepeated(tx, key, e, content)
		} else {
			t.apply(e, out.Verdict.Status)
			err = saveTransaction(tx, key, t)
		}
		if err != nil {
			return err
		}
		return addMeterValues(tx, e.Station, e.TransactionID, e.MeterValues)
	})
	return out, err
}

// lockTransaction returns the event's transaction, new or not, locked against
// other processes until the commit.
func lockTransaction(tx *Tx, e TransactionEvent) (t Transaction, err error) {
	var started, startReceived, ended, endReceived int64
	err = tx.row(true, `INSERT INTO charging_transaction (id, station, transaction_id, version, evse, connector,
			token, token_key, token_type, token_status, started_at, start_received, ended_at, end_received,
			meter_last_at, charging_state, stopped_reason, stop_token, orphan, offline, events, seq_min, seq_max, quality, open)
		VALUES ($1, $2, $3, $4, 0, 0, '', '', '', '', 0, 0, 0, 0, 0, '', '', '', FALSE, FALSE, 0, 0, 0, '', TRUE)
		ON CONFLICT (station, transaction_id) DO UPDATE SET version = excluded.version
		RETURNING id, evse, connector, token, token_type, token_status, remote_start_id, reservation_id,
			started_at, start_received, ended_at, end_received, meter_start, meter_stop,
			charging_state, stopped_reason, stop_token, offline, events, seq_min, seq_max, quality, open`,
		[]any{newID(), e.Station.Fold(), e.TransactionID, string(e.Version)},
		&t.ID, &t.EVSE, &t.Connector, &t.Token, &t.TokenType, &t.TokenStatus, &t.RemoteStartID, &t.ReservationID,
		&started, &startReceived, &ended, &endReceived, &t.MeterStart, &t.MeterStop,
		&t.ChargingState, &t.StoppedReason, &t.StopToken, &t.Offline, &t.Events, &t.SeqMin, &t.SeqMax, &t.Quality, &t.Open)
	t.TransactionID = e.TransactionID
	t.StartedAt, t.StartReceivedAt, t.EndedAt, t.EndReceivedAt = fromMicros(started), fromMicros(startReceived), fromMicros(ended), fromMicros(endReceived)
	return t, err
}

// apply adds to a transaction what a new event says. Events come in any order:
// what an older one says does not replace what a newer one said.
func (t *Transaction) apply(e TransactionEvent, tokenStatus string) {
	newest := t.Events == 0 || e.SeqNo > t.SeqMax
	if t.Events == 0 {
		t.SeqMin, t.SeqMax = e.SeqNo, e.SeqNo
	}
	t.Events++
	t.SeqMin, t.SeqMax = min(t.SeqMin, e.SeqNo), max(t.SeqMax, e.SeqNo)
	t.Offline = t.Offline || e.Offline
	if e.EVSE != 0 && (newest || t.EVSE == 0) {
		t.EVSE = e.EVSE
	}
	if e.Connector != 0 && (newest || t.Connector == 0) {
		t.Connector = e.Connector
	}
	if e.ChargingState != "" && (newest || t.ChargingState == "") {
		t.ChargingState = e.ChargingState
	}
	if e.RemoteStartID != nil {
		t.RemoteStartID = e.RemoteStartID
	}
	if e.ReservationID != nil {
		t.ReservationID = e.ReservationID
	}
	if t.Quality == "" {
		t.Quality = e.Quality
	}
	switch {
	case e.Token == "":
	case e.Type == EventEnded:
		t.StopToken = e.Token
	case t.Token == "" || !newest: // whose first event with a token authorized it
		t.Token, t.TokenType, t.TokenStatus = e.Token, e.TokenType, tokenStatus
	}
	switch e.Type {
	case EventStarted:
		t.StartedAt, t.StartReceivedAt = e.At, e.ReceivedAt
		t.MeterStart = firstEnergy(e.MeterValues)
	case EventEnded:
		t.EndedAt, t.EndReceivedAt = e.At, e.ReceivedAt
		t.StoppedReason, t.Open = e.StoppedReason, false
		t.MeterStop = lastEnergy(e.MeterValues)
	}
}

func saveTransaction(tx *Tx, key string, t Transaction) error {
	_, err := tx.exec(`UPDATE charging_transaction SET evse = $3, connector = $4, token = $5, token_key = $6, token_type = $7, token_status = $8,
			remote_start_id = $9, reservation_id = $10, started_at = $11, start_received = $12, ended_at = $13, end_received = $14,
			meter_start = $15, meter_stop = $16, charging_state = $17, stopped_reason = $18, stop_token = $19, offline = $20,
			events = $21, seq_min = $22, seq_max = $23, quality = $24, open = $25
		WHERE station = $1 AND transaction_id = $2`,
		key, t.TransactionID, t.EVSE, t.Connector, t.Token, foldToken(t.Token), t.TokenType, t.TokenStatus,
		t.RemoteStartID, t.ReservationID, micros(t.StartedAt), micros(t.StartReceivedAt), micros(t.EndedAt), micros(t.EndReceivedAt),
		t.MeterStart, t.MeterStop, t.ChargingState, t.StoppedReason, t.StopToken, t.Offline,
		t.Events, t.SeqMin, t.SeqMax, t.Quality, t.Open)
	return err
}

// checkRepeated notes on the transaction when an event's sequence number is
// known with other content: a station that counts wrongly.
func checkRepeated(tx *Tx, key string, e TransactionEvent, content string) error {
	var first string
	err := tx.row(false, `SELECT digest FROM transaction_event WHERE station = $1 AND transaction_id = $2 AND seq_no = $3`,
		[]any{key, e.TransactionID, e.SeqNo}, &first)
	if err != nil || first == content {
		return err
	}
	_, err = tx.exec(`UPDATE charging_transaction SET quality = $3 WHERE station = $1 AND transaction_id = $2 AND quality = ''`,
		key, e.TransactionID, fmt.Sprintf("sequence number %d came twice with different content", e.SeqNo))
	return err
}

// TransactionEvents lists a transaction's events by sequence number.
func (c *CSMS) TransactionEvents(ctx context.Context, station ocpp.StationID, transactionID string, p Page) (List[TransactionEvent], error) {
	after := -1 << 31
	if err := p.key(&after); err != nil {
		return List[TransactionEvent]{}, err
	}
	return list(ctx, c.db, p, `SELECT COALESCE(s.identity, e.station), e.transaction_id, e.seq_no, e.type, e.trigger_reason, e.at, e.received_at, e.offline, e.charging_state, e.token, e.quality
		FROM transaction_event e LEFT JOIN station_state s ON s.station = e.station
		WHERE e.station = $1 AND e.transaction_id = $2 AND e.seq_no > $3 ORDER BY e.seq_no LIMIT $4`,
		[]any{station.Fold(), transactionID, after, p.limit() + 1},
		func(rows *sql.Rows) (e TransactionEvent, err error) {
			var at, received int64
			err = rows.Scan(&e.Station, &e.TransactionID, &e.SeqNo, &e.Type, &e.TriggerReason, &at, &received, &e.Offline, &e.ChargingState, &e.Token, &e.Quality)
			e.At, e.ReceivedAt = fromMicros(at), fromMicros(received)
			return e, err
		},
		func(e TransactionEvent) []any { return []any{e.SeqNo} })
}

// Gap is a range of sequence numbers that were not received.
type Gap struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// maxGaps is the most gaps that are told of one transaction.
const maxGaps = 1000

// Gaps returns the sequence numbers that lack between a transaction's first and
// last event, at most 1,000 ranges.
func (c *CSMS) Gaps(ctx context.Context, station ocpp.StationID, transactionID string) ([]Gap, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT previous + 1, seq_no - 1 FROM (
			SELECT seq_no, lag(seq_no) OVER (ORDER BY seq_no) AS previous FROM transaction_event
			WHERE station = $1 AND transaction_id = $2) AS numbered
		WHERE seq_no > previous + 1 ORDER BY seq_no LIMIT $3`, station.Fold(), transactionID, maxGaps)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	gaps := []Gap{}
	for rows.Next() {
		var g Gap
		if err := rows.Scan(&g.From, &g.To); err != nil {
			return nil, err
		}
		gaps = append(gaps, g)
	}
	return gaps, rows.Err()
}
