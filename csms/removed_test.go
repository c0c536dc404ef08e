package csms_test

import (
	"fmt"
	"testing"

	"holdfast/csms"
	"holdfast/ocpp/v16"
	"holdfast/store"
	"holdfast/store/storetest"
)

// What a station did stays on record when the station is removed.
func TestRecordOutlivesStation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{})
		var begun v16.StartTransactionResponse
		ask(t, c, "CS-1", "StartTransaction", fmt.Sprintf(start, 7), &begun)
		if _, err := c.Command(t.Context(), csms.Command{Station: "CS-1", Action: "ClearCache", By: "admin"}); err != nil {
			t.Fatal(err)
		}
		if err := c.Forget(t.Context(), "CS-1"); err != nil {
			t.Fatal(err)
		}
		transactions, err := c.Record().Transactions(t.Context(), store.TransactionFilter{}, store.Page{})
		if err != nil || len(transactions.Items) != 1 || transactions.Items[0].Station.Fold() != "cs-1" {
			t.Errorf("transactions of a removed station: %+v, %v", transactions.Items, err)
		}
		commands, err := c.Record().Commands(t.Context(), "", store.Page{})
		if err != nil || len(commands.Items) != 1 {
			t.Errorf("commands to a removed station: %+v, %v", commands.Items, err)
		}
	})
}
