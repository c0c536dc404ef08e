package main

import (
	"database/sql"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
)

// ledgerFile is a file of fleet run --ledger: lines of JSON, the first of each
// ledger without a station.
type ledgerFile []map[string]any

func readLedgerFile(t *testing.T, name string) (lines ledgerFile) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(data)) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func (l ledgerFile) write(t *testing.T, name string) {
	t.Helper()
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, line := range l {
		if err := json.NewEncoder(file).Encode(line); err != nil {
			t.Fatal(err)
		}
	}
}

// find returns the index of an ended transaction with meter values.
func (l ledgerFile) find(t *testing.T, version string) int {
	t.Helper()
	i := slices.IndexFunc(l, func(line map[string]any) bool {
		return line["version"] == version && line["stopped"] == true && line["values"] != nil
	})
	if i < 0 {
		t.Fatalf("no transaction of OCPP %s with meter values", version)
	}
	return i
}

// verified runs fleet verify.
func (s *site) verified(code int, files ...string) (v verifyView) {
	s.t.Helper()
	out, told := s.run(code, append([]string{"fleet", "verify", "--json"}, files...)...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("%v in %q: %s", err, out, told)
	}
	return v
}

// TestFleetVerify compares the ledger of a run with the record of a Holdfast: all is
// there. Then the ledger, and the record in its database, are changed in every way
// that matters, and each is found.
func TestFleetVerify(t *testing.T) {
	s := startSite(t)
	dir := t.TempDir()
	file, ledger, damaged := filepath.Join(dir, "busy.yaml"), filepath.Join(dir, "ledger"), filepath.Join(dir, "damaged")
	text := `{name: busy, stations: 12, profiles: [2], versions: ["1.6", "2.0.1"], speed: 600, behaviour: {session_gap: 1m, session_length: 4m},
		phases: [{name: all, for: 5s, connect: [{arrival: at_once}]}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitDone, "fleet", "run", "--scenario", file, "--targets", s.targets(), "--ledger", ledger)
	good := s.verified(exitDone, ledger)
	if !good.OK || good.Transactions < 24 || good.MeterValues == 0 || good.Unacknowledged > 0 || len(good.Problems) > 0 {
		t.Fatalf("%+v", good)
	}

	for _, tt := range []struct {
		what    string
		version string
		change  func(line map[string]any)
		found   map[fleet.ProblemKind]int
	}{
		{"id", "1.6", func(l map[string]any) { l["id"] = "987654321" }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"id", "2.0.1", func(l map[string]any) { l["id"] = "another" }, map[fleet.ProblemKind]int{fleet.Missing: 1, fleet.Unknown: 1}},
		{"connector", "1.6", func(l map[string]any) { l["connector"] = 7 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"ID token", "2.0.1", func(l map[string]any) { l["id_tag"] = "ANOTHER" }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"start", "2.0.1", func(l map[string]any) { l["start_ms"] = l["start_ms"].(float64) + 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"meter at the start", "1.6", func(l map[string]any) { l["meter_start_wh"] = 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"end", "1.6", func(l map[string]any) { l["stop_ms"] = l["stop_ms"].(float64) - 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"meter at the end", "1.6", func(l map[string]any) { l["meter_stop_wh"] = 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"reason", "2.0.1", func(l map[string]any) { l["reason"] = "EmergencyStop" }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"energy", "1.6", func(l map[string]any) { l["values"].([]any)[0].([]any)[1] = 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"power", "2.0.1", func(l map[string]any) { l["values"].([]any)[0].([]any)[2] = 1 }, map[fleet.ProblemKind]int{fleet.Altered: 1}},
		{"time of a meter value", "1.6", func(l map[string]any) { l["values"].([]any)[0].([]any)[0] = 1 }, map[fleet.ProblemKind]int{fleet.Missing: 2}},
		{"event", "2.0.1", func(l map[string]any) { l["seq_nos"] = append(l["seq_nos"].([]any), 9999) }, map[fleet.ProblemKind]int{fleet.Missing: 1}},
		{"overflow", "", func(l map[string]any) { l["overflow"] = 3 }, map[fleet.ProblemKind]int{}},
	} {
		lines := readLedgerFile(t, ledger)
		i := 0
		if tt.version != "" {
			i = lines.find(t, tt.version)
		}
		tt.change(lines[i])
		lines.write(t, damaged)
		if v := s.verified(exitFailed, damaged); v.OK || !maps.Equal(v.Counts, tt.found) {
			t.Errorf("%s of a transaction of OCPP %s: found %v, want %v: %q", tt.what, tt.version, v.Counts, tt.found, v.Problems)
		}
	}
	lines := readLedgerFile(t, ledger)
	i := lines.find(t, "1.6")
	lines[0]["transactions"] = lines[0]["transactions"].(float64) + 1
	slices.Insert(lines, i, maps.Clone(lines[i])).write(t, damaged)
	if v := s.verified(exitFailed, damaged); v.Counts[fleet.Doubled] != 1 {
		t.Errorf("an id that the server gave twice: %v %q", v.Counts, v.Problems)
	}

	// What is wrong with the record is added up: each change makes one more.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, "csms.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const of = ` FROM charging_transaction WHERE version = ? ORDER BY id LIMIT 1 OFFSET ?`
	var found map[fleet.ProblemKind]int
	for i, tt := range []struct {
		what, version, change string
		kind                  fleet.ProblemKind
		more                  int
	}{
		{"a meter value is gone", "2.0.1", `DELETE FROM meter_value WHERE rowid = (SELECT m.rowid FROM meter_value m JOIN t ON m.station = t.station AND m.transaction_id = t.transaction_id LIMIT 1)`, fleet.Missing, 2},
		{"a meter value is another", "1.6", `UPDATE meter_value SET samples = replace(samples, '"value":"', '"value":"1') WHERE rowid = (SELECT m.rowid FROM meter_value m JOIN t ON m.station = t.station AND m.transaction_id = t.transaction_id LIMIT 1)`, fleet.Altered, 2},
		{"a meter value is doubled", "1.6", `INSERT INTO meter_value SELECT m.station, m.at, 'other', m.transaction_id, m.seq_no, m.evse, m.connector, m.samples, m.received_at, m.quality FROM meter_value m JOIN t ON m.station = t.station AND m.transaction_id = t.transaction_id LIMIT 1`, fleet.Doubled, 2},
		{"an event is gone", "2.0.1", `DELETE FROM transaction_event WHERE rowid = (SELECT e.rowid FROM transaction_event e JOIN t ON e.station = t.station AND e.transaction_id = t.transaction_id LIMIT 1)`, fleet.Missing, 1},
		{"the driver is another", "2.0.1", `UPDATE charging_transaction SET token = 'ANOTHER' WHERE id = (SELECT id FROM t)`, fleet.Altered, 1},
		{"the meter is another", "1.6", `UPDATE charging_transaction SET meter_stop = meter_stop + 1 WHERE id = (SELECT id FROM t)`, fleet.Altered, 1},
		{"the end is gone", "1.6", `UPDATE charging_transaction SET ended_at = 0 WHERE id = (SELECT id FROM t)`, fleet.Missing, 1},
		{"a transaction is gone", "2.0.1", `DELETE FROM charging_transaction WHERE id = (SELECT id FROM t)`, fleet.Missing, 1},
		{"a transaction is doubled", "1.6", doubleSQL("started_at"), fleet.Doubled, 1},
		{"a transaction is invented", "1.6", doubleSQL("started_at + 1000000000"), fleet.Unknown, 1},
	} {
		if _, err := db.Exec(`CREATE TABLE t AS SELECT *`+of, tt.version, i); err != nil {
			t.Fatal(err)
		}
		r, err := db.Exec(tt.change)
		if err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		if n, _ := r.RowsAffected(); n != 1 {
			t.Fatalf("%s: %d rows changed", tt.what, n)
		}
		if _, err := db.Exec(`DROP TABLE t`); err != nil {
			t.Fatal(err)
		}
		v := s.verified(exitFailed, ledger)
		want := maps.Clone(found)
		if want == nil {
			want = make(map[fleet.ProblemKind]int)
		}
		if want[tt.kind] += tt.more; !maps.Equal(v.Counts, want) {
			t.Errorf("%s: found %v, want %v: %q", tt.what, v.Counts, want, v.Problems)
		}
		found = v.Counts
	}

	if _, text := s.run(exitUsage, "fleet", "verify", filepath.Join(dir, "none")); !strings.Contains(text, "no ledger ") || !strings.Contains(text, "--ledger FILE writes one") {
		t.Error(text)
	}
	if _, text := s.run(exitFailed, "fleet", "verify", file); !strings.Contains(text, "is not a ledger: line 1") {
		t.Error(text)
	}
	if _, text := s.run(exitUsage, "fleet", "verify", ledger, damaged); !strings.Contains(text, "of the same run") {
		t.Error(text)
	}
}

// doubleSQL writes a transaction once more, with another id and start.
func doubleSQL(start string) string {
	return `INSERT INTO charging_transaction SELECT lower(hex(randomblob(16))), station, transaction_id || '2', version, NULL, evse, connector, token, token_key, token_type, token_status,
		remote_start_id, reservation_id, ` + start + `, start_received, ended_at, end_received, meter_start, meter_stop, meter_last, meter_last_at, charging_state,
		stopped_reason, stop_token, orphan, offline, events, seq_min, seq_max, quality, open FROM t`
}

// The record's times are the server's: its clock may not go with the fleet's.
func TestClockAhead(t *testing.T) {
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		}))
		got, err := (&fleetOperator{&client{base: server.URL}}).ahead(t.Context())
		if d := got - off; err != nil || d.Abs() > sameClock || off == 0 && got != 0 {
			t.Errorf("%s ahead: %s, %v", off, got, err)
		}
		server.Close()
	}
}
