package main

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// verify compares what was acknowledged to the fleet with the server's record.
func (c *fleetRun) verify(e *env, f *fleet.Fleet) (fleet.Report, error) {
	cl, err := c.client()
	if err != nil {
		return fleet.Report{}, err
	}
	ctx := e.ctx
	if ctx.Err() != nil { // ended by a signal: the verdict is still wanted
		ctx = context.WithoutCancel(ctx)
	}
	since := f.Ledger().Began().Add(-time.Minute) // the clocks of the record and of the fleet
	read := func(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
		return list[json.RawMessage](ctx, cl, path, query, 0)
	}
	return fleet.Verify(f.Ledger(), func(station ocpp.StationID) ([]fleet.RecordedTransaction, error) {
		return fleet.Recorded(ctx, read, station, since)
	})
}
