package csms_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/store/storetest"
)

// PostgreSQL crashes while stations charge and repeat what is not answered:
// afterwards everything acknowledged is there exactly once.
func TestDatabaseCrash(t *testing.T) {
	server := storetest.NewServer(t)
	c := open(t, server.Database(t), csms.Config{})
	const stations, values = 40, 8
	var answered, refused atomic.Int64
	// insist sends a CALL until it is answered, as a station does.
	insist := func(id ocpp.StationID, action, payload string) string {
		pause := time.NewTicker(20 * time.Millisecond)
		defer pause.Stop()
		for range 3000 {
			answer, err := call(c, id, action, payload)
			if err == nil {
				answered.Add(1)
				return answer
			}
			refused.Add(1)
			<-pause.C
		}
		t.Errorf("%s of station %s was never answered", action, id)
		return `{}`
	}
	var wg sync.WaitGroup
	for i := range stations {
		wg.Go(func() {
			id := ocpp.StationID(fmt.Sprintf("CS-%d", i))
			for meter := range 3 {
				var started v16.StartTransactionResponse
				if err := json.Unmarshal([]byte(insist(id, "StartTransaction", fmt.Sprintf(start, meter))), &started); err != nil {
					t.Error(err)
				}
				for v := range values {
					insist(id, "MeterValues", fmt.Sprintf(`{"connectorId":1,"transactionId":%d,"meterValue":[{"timestamp":"2026-11-22T09:%02d:00Z","sampledValue":[{"value":"%d"}]}]}`, started.TransactionID, v, v))
				}
				insist(id, "StopTransaction", fmt.Sprintf(`{"transactionId":%d,"meterStop":%d,"timestamp":"2026-11-22T09:30:00Z"}`, started.TransactionID, meter+10))
			}
		})
	}
	for _, crashAt := range []int64{200, 700} {
		eventually(t, func() bool { return answered.Load() > crashAt }, "stations do not get on")
		server.Kill()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	t.Logf("%d CALLs answered, %d had to be repeated", answered.Load(), refused.Load())
	all := transactions(t, c, "")
	if len(all) != 3*stations {
		t.Errorf("%d transactions, want %d", len(all), 3*stations)
	}
	for _, tx := range all {
		if tx.Open || tx.Orphan || *tx.MeterStop != *tx.MeterStart+10 {
			t.Errorf("transaction %+v", tx)
		}
		if got := meterValues(t, c, tx.Station, tx.TransactionID); len(got) != values {
			t.Errorf("transaction %s of station %s has %d meter values, want %d", tx.TransactionID, tx.Station, len(got), values)
		}
	}
}
