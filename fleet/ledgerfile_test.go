package fleet

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// sampleLedger has a transaction of each version.
func sampleLedger() *Ledger {
	l := newLedger(100)
	l.begin(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	for i, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		e := l.open(entry{station: "CS 1", version: version, tag: "TAG", start: 1000, connector: 1, meterStart: 7})
		l.name(e, "10"+string(version))
		l.acknowledge(&txPart{entry: e, kind: partStart, sample: sample{1000, 7, 11_000}})
		l.acknowledge(&txPart{entry: e, kind: partUpdate, seq: 1, sample: sample{2000, 8, 11_000}})
		if i > 0 {
			l.acknowledge(&txPart{entry: e, kind: partEnd, seq: 2, reason: "Local", sample: sample{3000, 9, 0}})
		}
	}
	return l
}

func TestLedgerFile(t *testing.T) {
	var file bytes.Buffer
	for range 2 {
		if err := sampleLedger().Write(&file); err != nil {
			t.Fatal(err)
		}
	}
	text := file.String()
	ledgers, err := ReadLedgers(strings.NewReader(text), 0)
	if err != nil || len(ledgers) != 2 {
		t.Fatal(len(ledgers), err)
	}
	for _, l := range ledgers {
		want := sampleLedger()
		if !l.Began().Equal(want.Began()) || !reflect.DeepEqual(slices.Collect(l.Transactions()), slices.Collect(want.Transactions())) {
			t.Errorf("%+v", slices.Collect(l.Transactions()))
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for _, tt := range []struct{ file, want string }{
		{"", "empty"},
		{lines[0] + lines[1], "ends after line 2, 1 transactions short"},
		{lines[1], "line 1: not the first line"},
		{lines[0] + "{\n", "line 2: unexpected end"},
		{strings.Replace(text, `"1.6"`, `"1.5"`, 1), `line 2: unknown OCPP version "1.5"`},
		{strings.Replace(text, `"CS 1"`, `""`, 1), "line 2: "},
		{strings.Replace(text, `,11000]`, `,11000000000]`, 1), "line 2: meter value"},
	} {
		if _, err := ReadLedgers(strings.NewReader(tt.file), 0); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.file, err, tt.want)
		}
	}
	if _, err := ReadLedgers(strings.NewReader(text), 5); err == nil || !strings.Contains(err.Error(), "more transactions") {
		t.Error(err)
	}
}

func FuzzReadLedgers(f *testing.F) {
	var file bytes.Buffer
	sampleLedger().Write(&file)
	f.Add(file.Bytes())
	f.Add([]byte(`{"ledger_began":"2026-05-01T12:00:00Z","transactions":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ledgers, err := ReadLedgers(bytes.NewReader(data), 1000)
		if err != nil {
			return
		}
		var again bytes.Buffer
		for _, l := range ledgers {
			if err := l.Write(&again); err != nil {
				t.Skip(err) // years that JSON cannot hold
			}
		}
		if back, err := ReadLedgers(&again, 1000); err != nil || len(back) != len(ledgers) {
			t.Errorf("%d ledgers, read again %d: %v", len(ledgers), len(back), err)
		}
	})
}
