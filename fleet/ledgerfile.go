package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"holdfast/ocpp"
)

// maxLedgerLine is the longest line of a ledger file, in bytes.
const maxLedgerLine = 16 << 20

// ledgerHead is the first line of a ledger file. Each of the others is a
// ledgerLine, in the order in which the transactions began.
type ledgerHead struct {
	Began        time.Time `json:"ledger_began"`
	Overflow     int       `json:"overflow"`
	Transactions int       `json:"transactions"`
}

// ledgerLine is one transaction in a file.
type ledgerLine struct {
	Station    ocpp.StationID `json:"station"`
	Version    ocpp.Version   `json:"version"`
	ID         string         `json:"id,omitempty"`
	Connector  int32          `json:"connector"`
	Tag        string         `json:"id_tag"`
	Started    bool           `json:"started,omitempty"` // acknowledged
	Start      int64          `json:"start_ms"`          // since 1970, as are all times
	MeterStart int32          `json:"meter_start_wh"`
	Stopped    bool           `json:"stopped,omitempty"` // acknowledged
	Stop       int64          `json:"stop_ms,omitempty"`
	MeterStop  int32          `json:"meter_stop_wh,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Values     [][3]int64     `json:"values,omitempty"` // time, Wh, W
	SeqNos     []int32        `json:"seq_nos,omitempty"`
}

// Write writes the ledger as lines of JSON, so that another process can compare
// it with the record later.
func (l *Ledger) Write(w io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	enc := json.NewEncoder(w)
	if err := enc.Encode(ledgerHead{l.began.UTC(), l.overflow, len(l.entries)}); err != nil {
		return err
	}
	for _, e := range l.entries {
		line := ledgerLine{Station: e.station, Version: e.version, ID: e.id, Connector: e.connector, Tag: e.tag, Started: e.started,
			Start: e.start, MeterStart: e.meterStart, Stopped: e.stopped, Stop: e.stop, MeterStop: e.meterStop, Reason: e.reason, SeqNos: e.seqNos}
		for _, v := range e.samples {
			line.Values = append(line.Values, [3]int64{v.at, int64(v.energy), int64(v.power)})
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// ReadLedgers reads what Write wrote, several ledgers one after another if need
// be, and says at which line it is not that. It keeps at most limit transactions
// and meter values; zero means 16,000,000.
func ReadLedgers(r io.Reader, limit int) ([]*Ledger, error) {
	if limit == 0 {
		limit = 16_000_000
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLedgerLine)
	var ledgers []*Ledger
	number, left := 0, 0
	for lines.Scan() {
		number++
		var err error
		if left == 0 {
			var head ledgerHead
			if err = json.Unmarshal(lines.Bytes(), &head); err == nil && (head.Began.IsZero() || head.Overflow < 0 || head.Transactions < 0) {
				err = errors.New("not the first line of a ledger")
			}
			left = head.Transactions
			ledgers = append(ledgers, &Ledger{began: head.Began, overflow: head.Overflow})
		} else {
			var line ledgerLine
			if err = json.Unmarshal(lines.Bytes(), &line); err == nil {
				err = line.check()
			}
			if limit -= 1 + len(line.Values) + len(line.SeqNos); err == nil && limit < 0 {
				err = errors.New("more transactions and meter values than this process takes")
			}
			l := ledgers[len(ledgers)-1]
			l.entries = append(l.entries, line.entry())
			left--
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	case len(ledgers) == 0:
		return nil, errors.New("empty")
	case left > 0:
		return nil, fmt.Errorf("ends after line %d, %d transactions short", number, left)
	}
	return ledgers, nil
}

func (x *ledgerLine) check() error {
	if err := x.Station.Check(); err != nil {
		return err
	}
	if !x.Version.Valid() {
		return fmt.Errorf("unknown OCPP version %q", x.Version)
	}
	for _, v := range x.Values {
		if v[1] < math.MinInt32 || v[1] > math.MaxInt32 || v[2] < math.MinInt32 || v[2] > math.MaxInt32 {
			return fmt.Errorf("meter value %v is out of range", v)
		}
	}
	return nil
}

func (x *ledgerLine) entry() *entry {
	e := &entry{station: x.Station, version: x.Version, id: x.ID, tag: x.Tag, reason: x.Reason, start: x.Start, stop: x.Stop,
		connector: x.Connector, meterStart: x.MeterStart, meterStop: x.MeterStop, started: x.Started, stopped: x.Stopped, seqNos: x.SeqNos}
	for _, v := range x.Values {
		e.samples = append(e.samples, sample{at: v[0], energy: int32(v[1]), power: int32(v[2])})
	}
	return e
}
