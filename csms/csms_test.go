package csms_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/csms"
	"holdfast/csms/action16"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// open starts a csms over the database at where. Stations answer as cfg.Call
// says; by default they are offline.
func open(t testing.TB, where string, cfg csms.Config) *csms.CSMS {
	t.Helper()
	s, err := store.OpenCSMS(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Store = s
	if cfg.Protocols == nil {
		cfg.Protocols = map[ocpp.Version]csms.Protocol{ocpp.V16: action16.Protocol()}
	}
	if cfg.Call == nil {
		cfg.Call = func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) { return nil, ocpp.ErrOffline }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c, err := csms.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs c until the test ends.
func run(t testing.TB, c *csms.CSMS) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func call(c *csms.CSMS, station ocpp.StationID, action, payload string) (string, error) {
	answer, err := c.Handle(context.Background(), station, ocpp.Call{Version: ocpp.V16, ID: "1", Action: action, Payload: json.RawMessage(payload)})
	return string(answer), err
}

// ask sends a CALL that has to be answered, and decodes the answer into dst if it is not nil.
func ask(t testing.TB, c *csms.CSMS, station ocpp.StationID, action, payload string, dst any) {
	t.Helper()
	answer, err := call(c, station, action, payload)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	if dst != nil {
		if err := json.Unmarshal([]byte(answer), dst); err != nil {
			t.Fatal(err)
		}
	}
}

func code(err error) ocpp.ErrorCode {
	if e, ok := errors.AsType[*ocpp.Error](err); ok {
		return e.Code
	}
	return ""
}

func putToken(t testing.TB, c *csms.CSMS, token store.IDToken) {
	t.Helper()
	if err := c.PutIDToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
}

func transactions(t testing.TB, c *csms.CSMS, station ocpp.StationID) []store.Transaction {
	t.Helper()
	l, err := c.Record().Transactions(t.Context(), store.TransactionFilter{Station: station}, store.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return l.Items
}

func meterValues(t testing.TB, c *csms.CSMS, station ocpp.StationID, transactionID string) []store.MeterValue {
	t.Helper()
	l, err := c.Record().MeterValues(t.Context(), store.MeterValueFilter{Station: station, TransactionID: transactionID}, store.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return l.Items
}

const start = `{"connectorId":1,"idTag":"card","meterStart":%d,"timestamp":"2026-11-22T09:00:00Z"}`

// The same StartTransaction, however often and however it is spelled, is one
// transaction with one id.
func TestStartTransactionOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		putToken(t, c, store.IDToken{Token: "Card"})
		const stations, times = 20, 6
		var mu sync.Mutex
		ids := make(map[int]ocpp.StationID)
		var wg sync.WaitGroup
		for i := range stations * times {
			wg.Go(func() {
				id := ocpp.StationID(fmt.Sprintf("CS-%d", i%stations))
				var answer v16.StartTransactionResponse
				ask(t, c, id, "StartTransaction", fmt.Sprintf(start, 7), &answer)
				mu.Lock()
				defer mu.Unlock()
				if answer.TransactionID <= 0 || answer.IDTagInfo.Status != "Accepted" {
					t.Errorf("answer %+v", answer)
				}
				if other, ok := ids[answer.TransactionID]; ok && other != id {
					t.Errorf("stations %s and %s have the same transaction %d", id, other, answer.TransactionID)
				}
				ids[answer.TransactionID] = id
			})
		}
		wg.Wait()
		if len(ids) != stations {
			t.Errorf("%d ids for %d transactions", len(ids), stations)
		}
		if got := transactions(t, c, ""); len(got) != stations {
			t.Errorf("%d transactions, want %d", len(got), stations)
		}
		// Another meter reading is another transaction; the identity's case is none.
		var a, b v16.StartTransactionResponse
		ask(t, c, "CS-1", "StartTransaction", fmt.Sprintf(start, 8), &a)
		ask(t, c, "cs-1", "StartTransaction", fmt.Sprintf(start, 8), &b)
		if a.TransactionID != b.TransactionID || ids[a.TransactionID] != "" {
			t.Errorf("ids %d and %d", a.TransactionID, b.TransactionID)
		}
	})
}

// Two processes on one database hand out different ids, and the same one for the
// same transaction.
func TestReplicas(t *testing.T) {
	where := storetest.Postgres(t)
	replicas := []*csms.CSMS{open(t, where, csms.Config{}), open(t, where, csms.Config{})}
	const n = 300
	var mu sync.Mutex
	ids := make(map[int]int) // by meter reading
	var wg sync.WaitGroup
	for i := range 2 * n {
		wg.Go(func() {
			var answer v16.StartTransactionResponse
			meter := i / 2
			ask(t, replicas[i%2], ocpp.StationID(fmt.Sprintf("CS-%d", meter%10)), "StartTransaction", fmt.Sprintf(start, meter), &answer)
			mu.Lock()
			defer mu.Unlock()
			if id, ok := ids[meter]; ok && id != answer.TransactionID {
				t.Errorf("transaction of meter %d has the ids %d and %d", meter, id, answer.TransactionID)
			}
			ids[meter] = answer.TransactionID
		})
	}
	wg.Wait()
	used := make(map[int]bool)
	for _, id := range ids {
		if used[id] {
			t.Errorf("id %d is used twice", id)
		}
		used[id] = true
	}
	if got := transactions(t, replicas[0], ""); len(got) != n {
		t.Errorf("%d transactions, want %d", len(got), n)
	}
}

func TestStopTransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		putToken(t, c, store.IDToken{Token: "card"})
		var started v16.StartTransactionResponse
		ask(t, c, "CS", "StartTransaction", fmt.Sprintf(start, 100), &started)
		const stop = `{"transactionId":%d,"meterStop":%d,"timestamp":"2026-11-22T09:30:00Z","idTag":"card","transactionData":[
			{"timestamp":"2026-11-22T09:00:00Z","sampledValue":[{"value":"100"}]},
			{"timestamp":"2026-11-22T09:30:00Z","sampledValue":[{"value":"2.1","unit":"kWh"}]}]}`
		for _, tt := range []struct {
			name          string
			station       ocpp.StationID
			id, meterStop int
		}{
			{"the first", "CS", started.TransactionID, 2100},
			{"sent again", "CS", started.TransactionID, 2100},
			{"twice after a reboot", "CS", started.TransactionID, 2200},
			{"id 0", "CS", 0, 2100},
			{"id -1", "CS", -1, 2100},
			{"id -1 again", "CS", -1, 2100},
			{"unknown id", "CS", 123456, 2100},
			{"another station's transaction", "other", started.TransactionID, 2100},
		} {
			var answer v16.StopTransactionResponse
			ask(t, c, tt.station, "StopTransaction", fmt.Sprintf(stop, tt.id, tt.meterStop), &answer)
			if answer.IDTagInfo == nil || answer.IDTagInfo.Status != "Accepted" {
				t.Errorf("%s: %+v", tt.name, answer.IDTagInfo)
			}
		}
		var orphans []store.Transaction
		for _, tx := range transactions(t, c, "CS") {
			if tx.Orphan {
				orphans = append(orphans, tx)
				continue
			}
			if tx.Open || *tx.MeterStart != 100 || *tx.MeterStop != 2100 || *tx.MeterLast != 2100 || tx.StoppedReason != "Local" {
				t.Errorf("transaction %+v", tx)
			}
			if !strings.Contains(tx.Quality, "second stop differs") {
				t.Errorf("quality %q does not tell of the other stop", tx.Quality)
			}
			if got := meterValues(t, c, "CS", tx.TransactionID); len(got) != 2 {
				t.Errorf("%d meter values, want 2", len(got))
			}
		}
		if len(orphans) != 3 {
			t.Errorf("%d orphans, want 3: %+v", len(orphans), orphans)
		}
		if got := transactions(t, c, "other"); len(got) != 1 || !got[0].Orphan {
			t.Errorf("the other station's transactions: %+v", got)
		}
	})
}

// Stations without a clock that begin each transaction alike lose none of them.
func TestStartWithoutClock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		putToken(t, c, store.IDToken{Token: "card"})
		for i, at := range []string{"", "0000-00-00T00:00:00Z", "1970-01-01T00:00:05Z"} {
			station := ocpp.StationID(fmt.Sprintf("CS-%d", i))
			for meter := range 3 {
				var first, again v16.StartTransactionResponse
				for _, answer := range []*v16.StartTransactionResponse{&first, &again} {
					ask(t, c, station, "StartTransaction", fmt.Sprintf(`{"connectorId":1,"idTag":"card","meterStart":0,"timestamp":%q}`, at), answer)
				}
				if again.TransactionID != first.TransactionID {
					t.Errorf("%q: sent again it is transaction %d, not %d", at, again.TransactionID, first.TransactionID)
				}
				ask(t, c, station, "StopTransaction", fmt.Sprintf(`{"transactionId":%d,"meterStop":%d,"timestamp":%q}`, first.TransactionID, 100+meter, at), &v16.StopTransactionResponse{})
			}
			stops := make(map[float64]bool)
			for _, tx := range transactions(t, c, station) {
				stops[*tx.MeterStop] = true
			}
			if len(stops) != 3 {
				t.Errorf("%q: transactions that ended at %v, want 3", at, stops)
			}
		}
	})
}

func TestMeterValuesOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		const values = `{"connectorId":1,"transactionId":5,"meterValue":[
			{"timestamp":"2026-11-22T09:00:00Z","sampledValue":[{"value":"1"}]},
			{"timestamp":"2026-11-22T09:00:00Z","sampledValue":[{"value":"1"}]},
			{"timestamp":"2026-11-22T09:01:00Z","sampledValue":[{"value":"2"},{"value":"16.0","measurand":"Current.Import","unit":"A"}]}]}`
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { ask(t, c, "CS", "MeterValues", values, nil) })
		}
		wg.Wait()
		got := meterValues(t, c, "CS", "5")
		if len(got) != 3 {
			t.Fatalf("%d meter values, want 3 (two of them equal)", len(got))
		}
		var samples []v16.SampledValue
		if err := json.Unmarshal(got[2].Samples, &samples); err != nil || len(samples) != 2 || samples[1].Value != "16.0" {
			t.Errorf("samples %s (%v)", got[2].Samples, err)
		}
		// Pages hold everything once.
		seen, page := 0, store.Page{Limit: 2}
		for {
			l, err := c.Record().MeterValues(t.Context(), store.MeterValueFilter{Station: "CS"}, page)
			if err != nil {
				t.Fatal(err)
			}
			seen += len(l.Items)
			if l.Next == "" {
				break
			}
			page.After = l.Next
		}
		if seen != 3 {
			t.Errorf("pages hold %d meter values, want 3", seen)
		}
	})
}

// event is a TransactionEvent of OCPP 2.x as the rules see it.
func event(t testing.TB, c *csms.CSMS, seqNo int, eventType string, change func(*store.TransactionEvent)) store.Verdict {
	t.Helper()
	e := store.TransactionEvent{TransactionID: "tx", SeqNo: seqNo, Type: eventType, TriggerReason: "MeterValuePeriodic",
		At:          now.Add(time.Duration(seqNo) * time.Minute),
		MeterValues: []store.MeterValue{{At: now.Add(time.Duration(seqNo) * time.Minute), Samples: json.RawMessage(`[]`), Energy: new(float64(seqNo * 100))}}}
	if change != nil {
		change(&e)
	}
	m := csms.Message{Station: "CS", Version: ocpp.V201, Action: ocpp.Action{Name: "TransactionEvent"}, ReceivedAt: now}
	v, err := c.TransactionEvent(context.Background(), m, e)
	if err != nil {
		t.Error(err)
	}
	return v
}

func TestTransactionEvents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		if err := c.Connected(t.Context(), ocpp.Connected{Station: "CS", Gateway: "g", Epoch: 1, Version: ocpp.V201}); err != nil {
			t.Fatal(err)
		}
		putToken(t, c, store.IDToken{Token: "card", Group: "family"})
		get := func() store.Transaction {
			t.Helper()
			tx, err := c.Record().Transaction(t.Context(), "CS", "tx")
			if err != nil {
				t.Fatal(err)
			}
			return tx
		}
		// The end comes first: from the queue of a station that was offline.
		event(t, c, 9, "Ended", func(e *store.TransactionEvent) { e.Offline, e.StoppedReason = true, "EVDisconnected" })
		if tx := get(); tx.Open || !tx.StartReceivedAt.IsZero() || tx.Missing != 0 || !tx.Offline {
			t.Errorf("after the end: %+v", tx)
		}
		// Then the start and the rest in any order, each several times at once.
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				switch seq := []int{0, 1, 4, 5, 8}[i%5]; seq {
				case 0:
					v := event(t, c, 0, "Started", func(e *store.TransactionEvent) { e.Token, e.EVSE, e.Connector = "CARD", 2, 1 })
					if v.Status != "Accepted" || v.Group != "family" {
						t.Errorf("verdict %+v", v)
					}
				default:
					event(t, c, seq, "Updated", func(e *store.TransactionEvent) { e.ChargingState = "Charging" })
				}
			})
		}
		wg.Wait()
		tx := get()
		if tx.Open || tx.Events != 6 || tx.SeqMin != 0 || tx.SeqMax != 9 || tx.Missing != 4 || tx.Token != "CARD" || tx.EVSE != 2 ||
			tx.StoppedReason != "EVDisconnected" || *tx.MeterStart != 0 || *tx.MeterStop != 900 || *tx.MeterLast != 900 {
			t.Errorf("transaction %+v", tx)
		}
		gaps, err := c.Record().Gaps(t.Context(), "CS", "tx")
		if want := "[{2 3} {6 7}]"; err != nil || fmt.Sprint(gaps) != want {
			t.Errorf("gaps %v (%v), want %s", gaps, err, want)
		}
		if got := meterValues(t, c, "CS", "tx"); len(got) != 6 || got[0].EVSE != 2 {
			t.Errorf("%d meter values, want 6: %+v", len(got), got)
		}
		// A number that comes again with other content is told, and loses no meter value.
		event(t, c, 4, "Updated", func(e *store.TransactionEvent) {
			e.ChargingState = "SuspendedEV"
			e.MeterValues[0].Samples = json.RawMessage(`[{"value":1}]`)
		})
		if tx := get(); !strings.Contains(tx.Quality, "number 4 came twice") || tx.Events != 6 || tx.ChargingState != "Charging" {
			t.Errorf("transaction %+v", tx)
		}
		if got := meterValues(t, c, "CS", "tx"); len(got) != 7 {
			t.Errorf("%d meter values, want 7", len(got))
		}
		events, err := c.Record().TransactionEvents(t.Context(), "CS", "tx", store.Page{})
		if err != nil || len(events.Items) != 6 || events.Items[0].Type != "Started" || !events.Items[5].Offline {
			t.Errorf("events %+v (%v)", events, err)
		}
		if v := event(t, c, 10, "Updated", func(e *store.TransactionEvent) { e.TokenType = csms.NoAuthorization }); v.Status != "Accepted" {
			t.Errorf("verdict for nobody: %+v", v)
		}
	})
}

func TestAuthorize(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{Settings: csms.Settings{ConcurrentTx: true}, Now: func() time.Time { return now }})
		for _, token := range []store.IDToken{
			{Token: "good", Group: "g", ExpiresAt: now.Add(time.Hour)},
			{Token: "blocked", Status: "Blocked"},
			{Token: "expired", ExpiresAt: now},
			{Token: "grounded", Group: "Blocked"},
			{Token: "charging"},
		} {
			putToken(t, c, token)
		}
		ask(t, c, "CS", "StartTransaction", strings.Replace(fmt.Sprintf(start, 1), "card", "Charging", 1), nil)
		for token, want := range map[string]v16.AuthorizationStatus{
			"GOOD": "Accepted", "blocked": "Blocked", "expired": "Expired", "grounded": "Blocked",
			"charging": "ConcurrentTx", "nobody": "Invalid", "": "Invalid",
		} {
			var answer v16.AuthorizeResponse
			ask(t, c, "CS", "Authorize", fmt.Sprintf(`{"idTag":%q}`, token), &answer)
			if answer.IDTagInfo.Status != want {
				t.Errorf("token %q is %s, want %s", token, answer.IDTagInfo.Status, want)
			}
			if token == "GOOD" && (answer.IDTagInfo.ParentIDTag != "g" || !answer.IDTagInfo.ExpiryDate.Equal(now.Add(time.Hour))) {
				t.Errorf("info %+v", answer.IDTagInfo)
			}
		}
		tolerant := open(t, where, csms.Config{Settings: csms.Settings{AcceptUnknownTokens: true}})
		var answer v16.AuthorizeResponse
		ask(t, tolerant, "CS", "Authorize", `{"idTag":"nobody"}`, &answer)
		if answer.IDTagInfo.Status != "Accepted" {
			t.Errorf("unknown token is %s, want Accepted by setting", answer.IDTagInfo.Status)
		}
		if err := c.RemoveIDToken(t.Context(), "Good"); err != nil {
			t.Error(err)
		}
		if err := c.RemoveIDToken(t.Context(), "Good"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("second removal: %v", err)
		}
		l, err := c.Record().IDTokens(t.Context(), store.Page{})
		if err != nil || len(l.Items) != 4 || l.Items[0].Token != "blocked" {
			t.Errorf("tokens %+v (%v)", l, err)
		}
	})
}

// Run and everything it started end with its context.
func TestRunEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		c := open(t, storetest.SQLite(t), csms.Config{Call: func(ctx context.Context, _ ocpp.StationID, _ ocpp.Call) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		run(t, c)
		ask(t, c, "CS", "Heartbeat", `{}`, nil)
		k, err := c.CommandAsync(t.Context(), csms.Command{Station: "CS", Action: "ClearCache"})
		if err != nil || k.Result != csms.ResultPending {
			t.Errorf("command %+v (%v)", k, err)
		}
	})
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines left")
}

// eventually polls until ok or a deadline.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Error(what)
}
