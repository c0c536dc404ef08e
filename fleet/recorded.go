package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/ocpp"
)

// List reads all items of one of the lists of Holdfast's operator API.
type List func(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error)

// Recorded returns a station's transactions that became known since a time, as
// Holdfast's operator API has them: what Verify fetches. All times are the server's.
func Recorded(ctx context.Context, list List, station ocpp.StationID, since time.Time) ([]RecordedTransaction, error) {
	transactions, err := items[recordedTransaction](ctx, list, "/api/v1/stations/"+url.PathEscape(string(station))+"/transactions",
		url.Values{"since": {since.UTC().Format(time.RFC3339)}})
	if err != nil {
		return nil, fmt.Errorf("transactions of station %s: %w", station, err)
	}
	out := make([]RecordedTransaction, len(transactions))
	for i, t := range transactions {
		if out[i], err = t.read(ctx, list); err != nil {
			return nil, fmt.Errorf("transaction %s of station %s: %w", t.TransactionID, station, err)
		}
	}
	return out, nil
}

// recordedTransaction is a transaction of the API, as far as a station knows it, too.
type recordedTransaction struct {
	ID            string       `json:"id"`
	TransactionID string       `json:"transaction_id"`
	Version       ocpp.Version `json:"version"`
	EVSE          int          `json:"evse"`
	Connector     int          `json:"connector"`
	Token         string       `json:"token"`
	StartedAt     time.Time    `json:"started_at"`
	ReceivedAt    time.Time    `json:"start_received_at"`
	EndedAt       time.Time    `json:"ended_at"`
	MeterStart    float64      `json:"meter_start"` // Wh
	MeterStop     float64      `json:"meter_stop"`  // Wh
	StoppedReason string       `json:"stopped_reason"`
	Orphan        bool         `json:"orphan"`
}

// recordedValue is a meter value of the API.
type recordedValue struct {
	At      time.Time        `json:"at"`
	Samples []recordedSample `json:"samples"`
}

// recordedSample is a sampledValue of either version: 1.6 has strings, 2.x numbers.
type recordedSample struct {
	Value     json.RawMessage `json:"value"`
	Measurand string          `json:"measurand"`
	Unit      string          `json:"unit"`
	UnitOf    struct {
		Unit string `json:"unit"`
	} `json:"unitOfMeasure"`
}

// read adds to a transaction its meter values and events.
func (t recordedTransaction) read(ctx context.Context, list List) (RecordedTransaction, error) {
	r := RecordedTransaction{
		ID: t.TransactionID, Connector: t.Connector, IDTag: t.Token, Start: t.StartedAt, Stop: t.EndedAt,
		MeterStart: int64(t.MeterStart), MeterStop: int64(t.MeterStop), Reason: t.StoppedReason,
		Received: t.ReceivedAt, Orphan: t.Orphan,
	}
	path := "/api/v1/transactions/" + url.PathEscape(t.ID)
	values, err := items[recordedValue](ctx, list, path+"/meter-values", nil)
	if err != nil {
		return r, err
	}
	for _, v := range values {
		for _, s := range v.Samples {
			n, err := strconv.ParseFloat(strings.Trim(string(s.Value), `"`), 64)
			if err != nil {
				return r, fmt.Errorf("meter value of %s: %w", v.At.Format(time.RFC3339Nano), err)
			}
			r.Values = append(r.Values, Value{At: v.At, Measurand: s.Measurand, Value: n, Unit: s.Unit + s.UnitOf.Unit})
		}
	}
	if t.Version == ocpp.V16 {
		return r, nil
	}
	r.Connector = t.EVSE
	events, err := items[struct {
		SeqNo int `json:"seq_no"`
	}](ctx, list, path+"/events", nil)
	r.SeqNos = make([]int, len(events))
	for i, e := range events {
		r.SeqNos[i] = e.SeqNo
	}
	return r, err
}

// items reads a list and decodes its items.
func items[T any](ctx context.Context, list List, path string, query url.Values) ([]T, error) {
	raw, err := list(ctx, path, query)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &out[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}
