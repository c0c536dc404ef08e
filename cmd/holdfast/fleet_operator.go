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
	since = since.Add(-time.Minute) // the clocks of the record and of the fleet
	read := func(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
		return list[json.RawMessage](ctx, o.client, path, query, 0)
	}
	r, err := fleet.VerifyAll(ledgers, func(station ocpp.StationID) ([]fleet.RecordedTransaction, error) {
		return fleet.Recorded(ctx, read, station, since)
	})
	if err != nil {
		return r, fmt.Errorf("compare with the record: %w", err)
	}
	return r, nil
}
