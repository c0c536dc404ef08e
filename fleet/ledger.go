package fleet

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/ocpp"
)

// The measurands of every meter value that a fleet's stations send.
const (
	measurandEnergy = "Energy.Active.Import.Register" // Wh
	measurandPower  = "Power.Active.Import"           // W
)

// noValue marks a transaction message without a meter value.
const noValue = -1

// sample is one reading of a connector's meter.
type sample struct {
	at     int64 // Unix milliseconds
	energy int32 // Wh; noValue: none
	power  int32 // W
}

// Ledger holds every transaction that the stations began and what the server
// acknowledged of it. It only ever grows, up to Config.LedgerLimit.
type Ledger struct {
	mu       sync.Mutex
	began    time.Time
	entries  []*entry
	room     int // how many more transactions and meter values fit
	overflow int // how many did not
}

// entry is one transaction.
type entry struct {
	station    ocpp.StationID
	version    ocpp.Version
	id         string
	tag        string
	reason     string
	start      int64 // Unix milliseconds
	stop       int64 // 0: not stopped
	connector  int32
	meterStart int32
	meterStop  int32
	started    bool // the start was acknowledged
	stopped    bool // the end was acknowledged
	samples    []sample
	seqNos     []int32
}

// Transaction is what the server acknowledged of one transaction.
type Transaction struct {
	Station ocpp.StationID
	Version ocpp.Version
	// ID is the server's in 1.6, empty if it never answered the start, and the
	// station's own in 2.x.
	ID        string
	Connector int // 2.x: the EVSE
	IDTag     string
	// Started and Stopped: the start, the end was acknowledged. If not, the server
	// may or may not have it.
	Started, Stopped bool
	Start, Stop      time.Time // Stop is zero if the end was not acknowledged
	MeterStart       int64     // Wh
	MeterStop        int64     // Wh, if Stopped
	Reason           string    // of the end
	Values           []Value
	// SeqNos of 2.x events that were acknowledged.
	SeqNos []int
}

// Value is one sampled value.
type Value struct {
	At        time.Time
	Measurand string  // empty: Energy.Active.Import.Register
	Value     float64 // in Unit
	Unit      string  // empty: Wh
}

func newLedger(room int) *Ledger { return &Ledger{room: room} }

func (l *Ledger) begin(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = t
}

// Began is when the fleet began to run: no transaction of the ledger is older.
func (l *Ledger) Began() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// Overflow is how many transactions and meter values did not fit.
func (l *Ledger) Overflow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overflow
}

// open enters a transaction; nil if there is no room.
func (l *Ledger) open(e entry) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.take() {
		return nil
	}
	l.entries = append(l.entries, &e)
	return &e
}

func (l *Ledger) take() bool {
	if l.room == 0 {
		l.overflow++
		return false
	}
	l.room--
	return true
}

// name notes the id that the server gave a 1.6 transaction.
func (l *Ledger) name(e *entry, id string) {
	if e == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.id = id
}

// acknowledge notes that the server answered a transaction message.
func (l *Ledger) acknowledge(p *txPart) {
	e := p.entry
	if e == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch p.kind {
	case partStart:
		e.started = true
	case partEnd:
		e.stopped = true
		e.stop, e.meterStop, e.reason = p.sample.at, p.sample.energy, p.reason
	}
	hasValue := p.kind == partUpdate || e.version.Is2x()
	if hasValue && p.sample.energy != noValue && l.take() {
		e.samples = append(e.samples, p.sample)
	}
	if e.version.Is2x() {
		e.seqNos = append(e.seqNos, int32(p.seq))
	}
}

// Transactions yields every transaction, in the order in which they began.
func (l *Ledger) Transactions() iter.Seq[Transaction] {
	l.mu.Lock()
	entries := slices.Clone(l.entries)
	l.mu.Unlock()
	return func(yield func(Transaction) bool) {
		for _, e := range entries {
			l.mu.Lock()
			t := e.transaction()
			l.mu.Unlock()
			if !yield(t) {
				return
			}
		}
	}
}

func (e *entry) transaction() Transaction {
	t := Transaction{
		Station:    e.station,
		Version:    e.version,
		ID:         strings.Clone(e.id),
		Connector:  int(e.connector),
		IDTag:      e.tag,
		Started:    e.started,
		Stopped:    e.stopped,
		Start:      time.UnixMilli(e.start).UTC(),
		MeterStart: int64(e.meterStart),
		Reason:     e.reason,
	}
	if e.stopped {
		t.Stop, t.MeterStop = time.UnixMilli(e.stop).UTC(), int64(e.meterStop)
	}
	for _, v := range e.samples {
		at := time.UnixMilli(v.at).UTC()
		t.Values = append(t.Values,
			Value{at, measurandEnergy, float64(v.energy), "Wh"},
			Value{at, measurandPower, float64(v.power), "W"})
	}
	for _, n := range e.seqNos {
		t.SeqNos = append(t.SeqNos, int(n))
	}
	return t
}
