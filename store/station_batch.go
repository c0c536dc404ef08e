package store

import (
	"context"
	"strconv"
	"strings"

	"holdfast/ocpp"
)

// StationsOf returns the operational views of those of ids that were heard of,
// at most 1,000, by folded identity.
func (c *CSMS) StationsOf(ctx context.Context, ids []ocpp.StationID) (map[string]StationState, error) {
	states := make(map[string]StationState, len(ids))
	if len(ids) == 0 {
		return states, nil
	}
	ids = ids[:min(len(ids), maxPage)]
	args, marks := make([]any, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		args[i], marks[i] = id.Fold(), "$"+strconv.Itoa(i+1)
	}
	rows, err := c.read.QueryContext(ctx, `SELECT `+stateColumns+` FROM station_state WHERE station IN (`+strings.Join(marks, ", ")+`)`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		s, err := scanState(rows.Scan)
		if err != nil {
			return nil, err
		}
		states[s.Station.Fold()] = s
	}
	return states, rows.Err()
}
