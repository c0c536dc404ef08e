package v16_test

import (
	"testing"

	"holdfast/ocpp"
	"holdfast/ocpp/v16"
)

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct{ action, payload string }{
		{"Heartbeat", `{}`},
		{"StartTransaction", `{"connectorId":1,"idTag":"04E91C5A123480","meterStart":123456,"timestamp":"2024-01-01T10:00:00Z"}`},
		{"MeterValues", `{"connectorId":1,"transactionId":7,"meterValue":[{"timestamp":"2024-01-01T10:00:00Z","sampledValue":[` +
			`{"value":"123456","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unit":"Wh"},` +
			`{"value":"16.1","context":"Sample.Periodic","measurand":"Current.Import","phase":"L1","unit":"A"},` +
			`{"value":"230","context":"Sample.Periodic","measurand":"Voltage","phase":"L1-N","unit":"V"}]}]}`},
	} {
		b.Run(bb.action, func(b *testing.B) {
			a, _ := v16.Lookup(bb.action)
			payload := []byte(bb.payload)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ocpp.Decode(payload, a.NewRequest(), ocpp.Tolerant); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	response := &v16.StartTransactionResponse{
		IDTagInfo:     v16.IDTagInfo{Status: v16.AuthorizationStatusAccepted},
		TransactionID: 4711,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ocpp.Encode(response); err != nil {
			b.Fatal(err)
		}
	}
}
