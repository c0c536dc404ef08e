package fleet

import (
	"maps"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestVerifyWithoutID: the server answered the end of a transaction, and never its
// start, so the end came with the id -1.
func TestVerifyWithoutID(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	end := at.Add(time.Hour)
	ledger := &Ledger{began: at, entries: []*entry{{
		station: "CS", version: ocpp.V16, tag: "card", connector: 1, start: at.UnixMilli(), meterStart: 100,
		stop: end.UnixMilli(), meterStop: 2100, reason: "Local", stopped: true,
	}}}
	start := RecordedTransaction{ID: "7", Connector: 1, IDTag: "card", Start: at, MeterStart: 100, Received: at}
	ended := start
	ended.Stop, ended.MeterStop = end, 2100
	again := ended
	again.ID = "8"
	orphan := RecordedTransaction{ID: "orphan-1", Stop: end, MeterStop: 2100, Orphan: true}
	another := RecordedTransaction{ID: "orphan-2", Stop: end, MeterStop: 2000, Orphan: true}
	for name, tt := range map[string]struct {
		recorded []RecordedTransaction
		want     map[ProblemKind]int
	}{
		"start, and end apart":   {[]RecordedTransaction{start, orphan}, nil},
		"end alone":              {[]RecordedTransaction{orphan}, nil},
		"both in one":            {[]RecordedTransaction{ended}, nil},
		"nothing":                {nil, map[ProblemKind]int{Missing: 1}},
		"start alone":            {[]RecordedTransaction{start}, map[ProblemKind]int{Missing: 1}},
		"end twice":              {[]RecordedTransaction{ended, orphan}, map[ProblemKind]int{Doubled: 1}},
		"two orphans":            {[]RecordedTransaction{orphan, orphan}, map[ProblemKind]int{Doubled: 1}},
		"start twice":            {[]RecordedTransaction{ended, again}, map[ProblemKind]int{Doubled: 2}},
		"another end":            {[]RecordedTransaction{start, another}, map[ProblemKind]int{Missing: 1, Unknown: 1}},
		"an end that nobody had": {[]RecordedTransaction{start, orphan, another}, map[ProblemKind]int{Unknown: 1}},
	} {
		r, err := Verify(ledger, func(ocpp.StationID) ([]RecordedTransaction, error) { return tt.recorded, nil })
		if err != nil || !maps.Equal(r.Counts, tt.want) {
			t.Errorf("%s: %v, want %v: %v %v", name, r.Counts, tt.want, r.Problems, err)
		}
	}
}
