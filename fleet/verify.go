package fleet

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"holdfast/ocpp"
)

// RecordedTransaction is one transaction as the server has it.
type RecordedTransaction struct {
	ID        string // transactionId; 1.6: in decimal
	Connector int    // 1.6: connectorId; 2.x: the EVSE's id
	IDTag     string
	Start     time.Time
	Stop      time.Time // zero: it still runs
	// MeterStart and MeterStop in Wh are compared for 1.6 only.
	MeterStart, MeterStop int64
	Reason                string // empty: not recorded, not compared
	Values                []Value
	// Received is when the server learned of it, by the fleet's clock; zero: not
	// recorded. One that it learned of before the fleet began is an earlier fleet's.
	Received time.Time
	// SeqNos of the 2.x events that the server has. Nil: not recorded, not compared.
	SeqNos []int
	// Orphan is a 1.6 end that the server could not assign to a start.
	Orphan bool
}

// ProblemKind is what is wrong with a transaction in the server's record.
type ProblemKind string

const (
	// Missing: something that the server acknowledged is not there.
	Missing ProblemKind = "missing"
	// Doubled: something is there more than once.
	Doubled ProblemKind = "doubled"
	// Altered: something is there with another value.
	Altered ProblemKind = "altered"
	// Unknown: the station never began such a transaction.
	Unknown ProblemKind = "unknown"
)

// Problem is one difference between the ledger and the server's record.
type Problem struct {
	Kind        ProblemKind
	Station     ocpp.StationID
	Transaction string
	What        string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: station %s, transaction %s: %s", p.Kind, p.Station, p.Transaction, p.What)
}

// maxProblems bounds Report.Problems; all are counted.
const maxProblems = 1000

// Report is the result of Verify.
type Report struct {
	Stations     int
	Transactions int // of the ledger
	Values       int // acknowledged meter values that were looked for
	// Unacknowledged are transactions whose start or end the server never
	// acknowledged: it may or may not have them.
	Unacknowledged int
	// Overflow is what the ledger had no room for: more than zero means that the
	// comparison is incomplete.
	Overflow int
	Counts   map[ProblemKind]int
	Problems []Problem // the first 1,000
}

// OK reports whether the comparison was complete and found nothing.
func (r *Report) OK() bool { return len(r.Counts) == 0 && r.Overflow == 0 }

func (r *Report) add(kind ProblemKind, t *Transaction, format string, args ...any) {
	r.Counts[kind]++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{kind, t.Station, t.ID, fmt.Sprintf(format, args...)})
	}
}

// Verify compares the ledger with the server's record. fetch returns a station's
// transactions that started at or after Ledger.Began; it is called once per
// station that has transactions in the ledger. Everything that was acknowledged
// must be there exactly once and unaltered; what was sent but not acknowledged
// may be there, once. Meter values that the ledger does not know are ignored
// unless they repeat a known one.
func Verify(l *Ledger, fetch func(ocpp.StationID) ([]RecordedTransaction, error)) (Report, error) {
	return VerifyAll([]*Ledger{l}, fetch)
}

// VerifyAll is Verify for several fleets against one server. No station is in two
// of the ledgers.
func VerifyAll(ledgers []*Ledger, fetch func(ocpp.StationID) ([]RecordedTransaction, error)) (Report, error) {
	r := Report{Counts: make(map[ProblemKind]int)}
	byStation := make(map[ocpp.StationID][]*Transaction)
	var order []ocpp.StationID
	began := make(map[ocpp.StationID]time.Time) // the first fleet with the station
	given := make(map[string]*Transaction)      // 1.6 ids, which one server gives once
	for _, l := range ledgers {
		r.Overflow += l.Overflow()
		for t := range l.Transactions() {
			if byStation[t.Station] == nil {
				order = append(order, t.Station)
			}
			if first := began[t.Station]; first.IsZero() || l.Began().Before(first) {
				began[t.Station] = l.Began()
			}
			byStation[t.Station] = append(byStation[t.Station], &t)
			r.Transactions++
			if !t.Started || !t.Stopped {
				r.Unacknowledged++
			}
			if t.Version == ocpp.V16 && t.ID != "" {
				if other := given[t.ID]; other != nil {
					r.add(Doubled, &t, "the server gave this id to station %s, too", other.Station)
				}
				given[t.ID] = &t
			}
		}
	}
	r.Stations = len(order)
	for _, station := range order {
		recorded, err := fetch(station)
		if err != nil {
			return r, fmt.Errorf("record of station %s: %w", station, err)
		}
		r.station(byStation[station], recorded, began[station])
	}
	return r, nil
}

// startOf identifies a 1.6 transaction whose id the station never learned.
type startOf struct {
	connector int
	tag       string
	meter     int64
	at        int64
}

// endOf identifies the end of a 1.6 transaction that was sent without an id.
type endOf struct{ meter, at int64 }

// station compares one station's transactions; began is when its first fleet did.
func (r *Report) station(known []*Transaction, recorded []RecordedTransaction, began time.Time) {
	byID := make(map[string][]*RecordedTransaction)
	byStart := make(map[startOf][]*RecordedTransaction)
	byEnd := make(map[endOf][]*RecordedTransaction)
	for i := range recorded {
		t := &recorded[i]
		if t.Orphan {
			end := endOf{t.MeterStop, t.Stop.UnixMilli()}
			byEnd[end] = append(byEnd[end], t)
			continue
		}
		byID[t.ID] = append(byID[t.ID], t)
		start := startOf{t.Connector, t.IDTag, t.MeterStart, t.Start.UnixMilli()}
		byStart[start] = append(byStart[start], t)
	}
	matched := make(map[*RecordedTransaction]bool)
	for _, t := range known {
		found := byID[t.ID]
		if t.ID == "" {
			found = nil
		}
		if t.Version == ocpp.V16 {
			for _, same := range byStart[startOf{t.Connector, t.IDTag, t.MeterStart, t.Start.UnixMilli()}] {
				if same.ID != t.ID || t.ID == "" {
					found = append(found[:len(found):len(found)], same)
				}
			}
		}
		for _, f := range found {
			matched[f] = true
		}
		if t.Version == ocpp.V16 && t.ID == "" && t.Stopped {
			orphans := byEnd[endOf{t.MeterStop, t.Stop.UnixMilli()}]
			for _, o := range orphans {
				matched[o] = true
			}
			r.withoutID(t, found, orphans)
			continue
		}
		switch {
		case len(found) == 0:
			if t.Started || t.Stopped && t.ID != "" || len(t.SeqNos) > 0 {
				r.add(Missing, t, "the transaction")
			}
			continue
		case len(found) > 1:
			r.add(Doubled, t, "%d transactions with this id or start", len(found))
		}
		r.compare(t, found[0])
	}
	for i := range recorded {
		if t := &recorded[i]; !matched[t] && (t.Received.IsZero() || !t.Received.Before(began)) {
			r.add(Unknown, &Transaction{Station: known[0].Station, ID: t.ID}, "began %s at connector %d", t.Start.Format(time.RFC3339), t.Connector)
		}
	}
}

// withoutID compares a 1.6 transaction whose start the server never answered. What
// the station sent afterwards had the id -1 (1.6 errata 3.18), by which no server
// can find the transaction: it may have the start, and must have the end, apart
// from it or not.
func (r *Report) withoutID(t *Transaction, starts, orphans []*RecordedTransaction) {
	if len(starts) > 1 {
		r.add(Doubled, t, "%d transactions with this start", len(starts))
	}
	ends := len(orphans)
	for _, s := range starts {
		if s.Stop.UnixMilli() == t.Stop.UnixMilli() && s.MeterStop == t.MeterStop {
			ends++
		}
	}
	switch {
	case ends == 0:
		r.add(Missing, t, "its end at %s", t.Stop.Format(time.RFC3339))
	case ends > 1:
		r.add(Doubled, t, "its end at %s: %d times", t.Stop.Format(time.RFC3339), ends)
	}
}

// compare looks for everything of t in the server's record of it.
func (r *Report) compare(t *Transaction, recorded *RecordedTransaction) {
	if t.ID != "" {
		r.same(t, "id", t.ID, recorded.ID) // 1.6: it was found by its start
	}
	if t.Started {
		r.same(t, "connector", t.Connector, recorded.Connector)
		r.same(t, "id tag", t.IDTag, recorded.IDTag)
		r.same(t, "start", t.Start.UnixMilli(), recorded.Start.UnixMilli())
		if t.Version == ocpp.V16 {
			r.same(t, "meter at the start", t.MeterStart, recorded.MeterStart)
		}
	}
	switch {
	case t.Stopped && recorded.Stop.IsZero():
		r.add(Missing, t, "its end at %s", t.Stop.Format(time.RFC3339))
	case t.Stopped:
		r.same(t, "end", t.Stop.UnixMilli(), recorded.Stop.UnixMilli())
		if t.Version == ocpp.V16 {
			r.same(t, "meter at the end", t.MeterStop, recorded.MeterStop)
		}
		if recorded.Reason != "" {
			r.same(t, "reason", t.Reason, recorded.Reason)
		}
	}
	r.values(t, recorded.Values)
	if recorded.SeqNos != nil {
		count := make(map[int]int)
		for _, n := range recorded.SeqNos {
			count[n]++
		}
		for _, n := range t.SeqNos {
			switch {
			case count[n] == 0:
				r.add(Missing, t, "event with seqNo %d", n)
			case count[n] > 1:
				r.add(Doubled, t, "event with seqNo %d: %d times", n, count[n])
			}
		}
	}
}

// values looks for every acknowledged meter value.
func (r *Report) values(t *Transaction, recorded []Value) {
	type key struct {
		at        int64
		measurand string
	}
	there := make(map[key][]Value, len(recorded))
	for _, v := range recorded {
		k := key{v.At.UnixMilli(), cmp.Or(v.Measurand, measurandEnergy)}
		there[k] = append(there[k], v)
	}
	for _, v := range t.Values {
		r.Values++
		found := there[key{v.At.UnixMilli(), v.Measurand}]
		switch {
		case len(found) == 0:
			r.add(Missing, t, "%s of %s", v.Measurand, v.At.Format(time.RFC3339Nano))
		case len(found) > 1:
			r.add(Doubled, t, "%s of %s: %d times", v.Measurand, v.At.Format(time.RFC3339Nano), len(found))
		case math.Abs(found[0].Value-v.Value) > 1e-6 || found[0].Unit != "" && found[0].Unit != v.Unit:
			r.add(Altered, t, "%s of %s: %g %s, recorded %g %s", v.Measurand, v.At.Format(time.RFC3339Nano), v.Value, v.Unit, found[0].Value, found[0].Unit)
		}
	}
}

// same compares one fact.
func (r *Report) same(t *Transaction, what string, want, have any) {
	if want != have {
		r.add(Altered, t, "%s: %v, recorded %v", what, want, have)
	}
}
