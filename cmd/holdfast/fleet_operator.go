package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"holdfast/api"
	"holdfast/csms"
	"holdfast/fleet"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

// fleetOperator is the operator's side of a run: Holdfast's operator API.
type fleetOperator struct{ *client }

// operator returns the API's client, or nil if the run asks no API.
func (c *fleetRun) operator() (*fleetOperator, error) {
	if !c.asksOperator() {
		return nil, nil
	}
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return &fleetOperator{cl}, nil
}

// command sends a CALL to a station.
func (o *fleetOperator) command(ctx context.Context, id ocpp.StationID, action string, payload map[string]any) error {
	if payload == nil {
		payload = map[string]any{}
	}
	var command api.CommandView
	err := o.do(ctx, http.MethodPost, stationURL(string(id), "/calls"), nil, map[string]any{"action": action, "payload": payload}, &command)
	if err != nil {
		return err
	}
	switch command.Result {
	case csms.ResultAccepted:
		return nil
	case csms.ResultOffline, csms.ResultConnectionLost:
		return scenario.ErrOffline
	}
	return errors.New(whatHappened(command))
}

// verify compares what was acknowledged to the fleet with the server's record.
func (o *fleetOperator) verify(ctx context.Context, ledgers []*fleet.Ledger) (fleet.Report, error) {
	var since time.Time
	for _, l := range ledgers {
		if began := l.Began(); since.IsZero() || began.Before(since) {
			since = began
		}
	}
	ahead, err := o.ahead(ctx)
	if err != nil {
		return fleet.Report{}, fmt.Errorf("compare with the record: %w", err)
	}
	since = since.Add(ahead - time.Minute) // a little more: what is too old is sorted out
	read := func(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
		return list[json.RawMessage](ctx, o.client, path, query, 0)
	}
	r, err := fleet.VerifyAll(ledgers, func(station ocpp.StationID) ([]fleet.RecordedTransaction, error) {
		list, err := fleet.Recorded(ctx, read, station, since)
		for i := range list {
			if r := &list[i].Received; !r.IsZero() {
				*r = r.Add(-ahead)
			}
		}
		return list, err
	})
	if err != nil {
		return r, fmt.Errorf("compare with the record: %w", err)
	}
	return r, nil
}

// sameClock is how far the server's clock may seem to be ahead and yet go with ours:
// it tells whole seconds.
const sameClock = 2 * time.Second

// ahead is how far the server's clock is ahead of ours; zero if they go together.
func (o *fleetOperator) ahead(ctx context.Context) (time.Duration, error) {
	answer, err := o.send(ctx, http.MethodGet, "/api/openapi.json", nil, nil)
	if err != nil {
		return 0, err
	}
	answer.Body.Close()
	there, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("the server does not tell its time: %w", err)
	}
	if d := time.Until(there); d.Abs() > sameClock {
		return d, nil
	}
	return 0, nil
}
