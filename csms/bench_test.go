package csms_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// 64 stations start transactions, each after the answer to the one before. The
// database is durable: every answer follows its fsync.
func BenchmarkStartTransaction(b *testing.B) {
	const stations = 64
	for name, where := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			c := open(b, where(b), csms.Config{Logger: slog.New(slog.DiscardHandler)})
			if err := c.PutIDToken(b.Context(), store.IDToken{Token: "card"}); err != nil {
				b.Fatal(err)
			}
			var n atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range stations {
				wg.Go(func() {
					id := ocpp.StationID(fmt.Sprintf("CS-%d", i))
					for {
						meter := n.Add(1)
						if meter > int64(b.N) {
							return
						}
						_, err := c.Handle(context.Background(), id, ocpp.Call{Version: ocpp.V16, Action: "StartTransaction", Payload: json.RawMessage(fmt.Sprintf(start, meter))})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// A heartbeat of a known station: no SQL.
func BenchmarkHeartbeat(b *testing.B) {
	c := open(b, storetest.SQLite(b), csms.Config{Logger: slog.New(slog.DiscardHandler)})
	call := ocpp.Call{Version: ocpp.V16, Action: "Heartbeat", Payload: json.RawMessage(`{}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Handle(b.Context(), "CS", call); err != nil {
			b.Fatal(err)
		}
	}
}
