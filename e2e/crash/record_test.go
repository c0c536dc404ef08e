package crash

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // driver "sqlite"; storetest brings "pgx"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/ocpp"
)

// verify lets the stations finish and compares what was acknowledged to them
// with the record; then it damages the record and wants that to be noticed.
func verify(t *testing.T, s *site, f *stations) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := f.Settle(ctx); err != nil {
		t.Fatalf("the stations do not get rid of their messages: %v", err)
	}
	stats := f.Stats()
	t.Logf("errors of the stations by kind: %v", stats.Errors)
	for _, action := range []string{"StartTransaction", "StopTransaction", "TransactionEvent"} {
		repeated := 0.0
		for _, n := range s.csms {
			repeated += n.Metric("holdfast_csms_duplicates_total", action)
		}
		t.Logf("%s: %v came again since the last start of a csms", action, repeated)
	}
	for _, kind := range []string{"discarded", "queue_full", "protocol", "unauthorized", "not_found"} {
		if n := stats.Errors[kind]; n > 0 {
			t.Errorf("%s: %d times", kind, n)
		}
	}
	if len(f.told.wrong) > 0 {
		t.Errorf("wrong with the server: %q", f.told.wrong)
	}

	record := f.record(t)
	report, err := fleet.Verify(f.Ledger(), func(id ocpp.StationID) ([]fleet.RecordedTransaction, error) { return record[id], nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d stations, %d transactions, %d meter values", report.Stations, report.Transactions, report.Values)
	if !report.OK() {
		t.Errorf("the record is not what was acknowledged: %v", report.Counts)
		for _, p := range report.Problems[:min(20, len(report.Problems))] {
			t.Log(p)
		}
	}
	if report.Unacknowledged > 0 {
		t.Errorf("%d transactions were given up", report.Unacknowledged)
	}
	if report.Stations != stationCount || report.Transactions < 2*stationCount || report.Values < 4*report.Transactions {
		t.Error("too little for a proof")
	}
	if t.Failed() {
		return
	}
	for i, d := range damages {
		t.Run(d.name, func(t *testing.T) { f.damage(t, d, f.ids[i], record) })
	}
}

// record reads what the API has of every station.
func (f *stations) record(t *testing.T) map[ocpp.StationID][]fleet.RecordedTransaction {
	t.Helper()
	record := make(map[ocpp.StationID][]fleet.RecordedTransaction)
	var mu sync.Mutex
	eg, ctx := errgroup.WithContext(t.Context())
	eg.SetLimit(atOnce)
	for i, id := range f.ids {
		eg.Go(func() error {
			transactions, err := f.recordOf(ctx, f.site.csms[i%len(f.site.csms)], id)
			mu.Lock()
			defer mu.Unlock()
			record[id] = transactions
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	return record
}

// recordOf reads what the API of n has of one station.
func (f *stations) recordOf(ctx context.Context, n *e2e.Node, id ocpp.StationID) ([]fleet.RecordedTransaction, error) {
	return fleet.Recorded(ctx, func(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
		return list(ctx, n, path, query)
	}, id, f.since)
}

// damage is what nobody may do to the record: its statement changes transaction
// $1 of station $2.
type damage struct {
	name, statement string
	want            fleet.ProblemKind
}

var damages = []damage{
	{"lost transaction", `DELETE FROM charging_transaction WHERE transaction_id = $1 AND station = $2`, fleet.Missing},
	{"lost meter value", `DELETE FROM meter_value WHERE transaction_id = $1 AND station = $2 AND at =
		(SELECT max(at) FROM meter_value WHERE transaction_id = $1 AND station = $2)`, fleet.Missing},
	{"altered end", `UPDATE charging_transaction SET ended_at = ended_at + 1000000 WHERE transaction_id = $1 AND station = $2`, fleet.Altered},
}

// damage changes a transaction of one station and wants Verify to notice that.
func (f *stations) damage(t *testing.T, d damage, id ocpp.StationID, record map[ocpp.StationID][]fleet.RecordedTransaction) {
	db, err := f.site.openRecord()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(t.Context(), d.statement, record[id][0].ID, id.Fold())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		t.Fatalf("%d rows changed (%v), want one", n, err)
	}
	damaged := maps.Clone(record)
	if damaged[id], err = f.recordOf(t.Context(), f.site.csms[0], id); err != nil {
		t.Fatal(err)
	}
	report, err := fleet.Verify(f.Ledger(), func(id ocpp.StationID) ([]fleet.RecordedTransaction, error) { return damaged[id], nil })
	if err != nil {
		t.Fatal(err)
	}
	if report.Counts[d.want] == 0 || len(report.Counts) != 1 {
		t.Errorf("problems %v, want only some of kind %s", report.Counts, d.want)
	}
	for _, p := range report.Problems {
		if p.Station != id || p.Transaction != record[id][0].ID {
			t.Errorf("unexpected: %s", p)
		}
	}
}

// openRecord opens the csms's database.
func (s *site) openRecord() (*sql.DB, error) {
	if s.database == nil {
		return sql.Open("sqlite", "file:"+filepath.Join(s.csms[0].Data, "csms.db")+"?_pragma=busy_timeout(10000)")
	}
	return sql.Open("pgx", s.url+"&search_path=csms")
}
