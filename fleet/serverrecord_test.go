package fleet

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"holdfast/ocpp"
)

func (st *testStation) start(payload json.RawMessage) any {
	var r start16Request
	json.Unmarshal(payload, &r)
	at, err := time.Parse(time.RFC3339, r.Timestamp)
	if err != nil {
		st.server.t.Errorf("StartTransaction timestamp: %v", err)
	}
	for _, old := range st.record {
		if old.Start.Equal(at) && old.Connector == r.Connector && old.IDTag == r.IDTag {
			return object{"transactionId": atoi(old.ID), "idTagInfo": object{"status": "Accepted"}}
		}
	}
	add := func() int {
		st.server.nextID++
		st.record = append(st.record, &RecordedTransaction{ID: strconv.Itoa(st.server.nextID), Connector: r.Connector, IDTag: r.IDTag, Start: at, MeterStart: int64(r.MeterStart)})
		return st.server.nextID
	}
	id := add()
	if st.server.doubleStart.Load() || st.server.doubleOnce.CompareAndSwap(true, false) {
		add()
	}
	status := "Accepted"
	if r.IDTag == "LATE" {
		status = "Expired"
	}
	return object{"transactionId": id, "idTagInfo": object{"status": status}}
}

func (st *testStation) find(id string) *RecordedTransaction {
	for _, r := range st.record {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (st *testStation) meter(payload json.RawMessage) {
	var r meterValues16Request
	json.Unmarshal(payload, &r)
	if r.Transaction == nil {
		return
	}
	tx := st.find(strconv.Itoa(*r.Transaction))
	if tx == nil {
		if st.server.crashed.Load() {
			return
		}
		st.server.t.Errorf("MeterValues of transaction %d, which there is none", *r.Transaction)
		return
	}
	for _, m := range r.Values {
		for _, v := range m.Sampled {
			value, err := strconv.ParseFloat(v.Value, 64)
			if err != nil {
				st.server.t.Error(err)
			}
			st.addValue(tx, m.Timestamp, v.Measurand, value, v.Unit)
		}
	}
}

func (st *testStation) addValue(tx *RecordedTransaction, timestamp, measurand string, value float64, unit string) {
	at, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		st.server.t.Error(err)
	}
	if st.server.alterValues.Load() {
		value++
	}
	v := Value{at, measurand, value, unit}
	if !slices.ContainsFunc(tx.Values, func(old Value) bool { return old.At.Equal(at) && old.Measurand == measurand }) {
		tx.Values = append(tx.Values, v)
	}
}

func (st *testStation) stop(payload json.RawMessage) {
	var r stop16Request
	json.Unmarshal(payload, &r)
	tx := st.find(strconv.Itoa(r.Transaction))
	if tx == nil {
		if r.Transaction != -1 && !st.server.crashed.Load() {
			st.server.t.Errorf("StopTransaction of transaction %d, which there is none", r.Transaction)
		}
		return
	}
	if st.server.dropStops.Load() || st.server.dropStop.Add(-1) == 0 {
		return
	}
	tx.Stop, _ = time.Parse(time.RFC3339, r.Timestamp)
	tx.MeterStop, tx.Reason = int64(r.MeterStop), r.Reason
}

func (st *testStation) event(payload json.RawMessage) {
	var r transactionEvent
	if err := json.Unmarshal(payload, &r); err != nil {
		st.server.t.Error(err)
	}
	if r.Offline {
		st.offline++
	}
	tx := st.find(r.Transaction.ID)
	if tx == nil {
		tx = &RecordedTransaction{ID: r.Transaction.ID}
		st.record = append(st.record, tx)
	}
	at, _ := time.Parse(time.RFC3339, r.Timestamp)
	if slices.Contains(tx.SeqNos, r.SeqNo) {
		return
	}
	if n := len(tx.SeqNos); n != r.SeqNo && !st.server.crashed.Load() {
		st.server.t.Errorf("transaction %s: seqNo %d after %d events", tx.ID, r.SeqNo, n)
	}
	tx.SeqNos = append(tx.SeqNos, r.SeqNo)
	switch r.EventType {
	case "Started":
		tx.Start, tx.Connector, tx.IDTag = at, r.EVSE.ID, r.IDToken.IDToken
	case "Ended":
		if st.server.dropStops.Load() || st.server.dropStop.Add(-1) == 0 {
			return
		}
		tx.Stop, tx.Reason = at, r.Transaction.StoppedReason
	}
	for _, m := range r.Values {
		for _, v := range m.Sampled {
			st.addValue(tx, m.Timestamp, v.Measurand, v.Value, v.Unit.Unit)
		}
	}
}

// commit returns what makes the server forget everything since, as if it had
// answered before its commit and crashed: connections end, what was acknowledged
// is gone.
func (s *testServer) commit() (crash func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := make(map[*testStation][]*RecordedTransaction)
	for _, st := range s.stations {
		for _, r := range st.record {
			copied := *r
			copied.Values, copied.SeqNos = slices.Clone(r.Values), slices.Clone(r.SeqNos)
			saved[st] = append(saved[st], &copied)
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.crashed.Store(true)
		for _, st := range s.stations {
			st.record = saved[st]
			if st.c != nil {
				st.c.Close()
			}
		}
	}
}

// fetch is the server's record, for Verify.
func (s *testServer) fetch(id ocpp.StationID) ([]RecordedTransaction, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stations[string(id)]
	if st == nil {
		return nil, errors.New("no such station")
	}
	var all []RecordedTransaction
	for _, r := range st.record {
		copied := *r
		copied.Values = slices.Clone(r.Values)
		all = append(all, copied)
	}
	return all, nil
}
