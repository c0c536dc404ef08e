package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// What a station reports is found again.
func TestReports(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := open(t, where, nil)
		id := ocpp.StationID("CS 1")
		want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": id})
		want[store.IDToken](f, 200, "PUT", "/api/v1/id-tokens/TAG1", map[string]any{})
		f.station(id, "BootNotification", `{"chargePointVendor":"V","chargePointModel":"M","firmwareVersion":"1.2"}`)
		f.station(id, "StatusNotification", `{"connectorId":1,"errorCode":"NoError","status":"Charging"}`)
		start := time.Now().UTC().Truncate(time.Second)
		var numbers []int
		for i := range 3 {
			var started struct {
				TransactionID int `json:"transactionId"`
				IDTagInfo     struct{ Status string }
			}
			answer := f.station(id, "StartTransaction", fmt.Sprintf(`{"connectorId":1,"idTag":"TAG1","meterStart":%d,"timestamp":"%s"}`, i, start.Format(time.RFC3339)))
			check(t, json.Unmarshal(answer, &started))
			if started.IDTagInfo.Status != "Accepted" {
				t.Errorf("tag: %s", answer)
			}
			numbers = append(numbers, started.TransactionID)
		}
		for i := range 5 {
			f.station(id, "MeterValues", fmt.Sprintf(`{"connectorId":1,"transactionId":%d,"meterValue":[{"timestamp":"%s","sampledValue":[{"value":"%d"}]}]}`,
				numbers[0], start.Add(time.Duration(i)*time.Minute).Format(time.RFC3339), 100*i))
		}
		f.station(id, "StopTransaction", fmt.Sprintf(`{"transactionId":%d,"meterStop":500,"timestamp":"%s","reason":"Local"}`, numbers[0], start.Add(time.Hour).Format(time.RFC3339)))
		f.station(id, "SecurityEventNotification", `{"type":"FirmwareUpdated","timestamp":"2026-11-22T10:00:00Z"}`)
		f.station(id, "DataTransfer", `{"vendorId":"acme","data":"x"}`)
		f.station(id, "FirmwareStatusNotification", `{"status":"Downloading"}`)

		for query, n := range map[string]int{
			"": 3, "open=true": 2, "open=false": 1, "station=CS%201": 3, "station=other": 0, "limit=1": 1,
			"since=" + url.QueryEscape(start.Add(-time.Hour).Format(time.RFC3339)): 3, "since=" + url.QueryEscape(start.Add(time.Hour).Format(time.RFC3339)): 0,
		} {
			if got := want[api.Page[store.Transaction]](f, 200, "GET", "/api/v1/transactions?"+query, nil).Items; len(got) != n {
				t.Errorf("transactions?%s: %d, want %d", query, len(got), n)
			}
		}
		f.refused(422, "GET", "/api/v1/transactions?since=yesterday", nil)
		f.refused(422, "GET", "/api/v1/transactions?open=perhaps", nil)
		if got, pages := all[store.Transaction](f, "/api/v1/stations/CS%201/transactions?limit=2"); len(got) != 3 || pages != 2 {
			t.Errorf("%d transactions in %d pages, want 3 in 2", len(got), pages)
		}
		byNumber := want[api.TransactionView](f, 200, "GET", fmt.Sprintf("/api/v1/stations/CS%%201/transactions/%d", numbers[0]), nil)
		if byNumber.Open || byNumber.Token != "TAG1" || *byNumber.MeterStop != 500 || len(byNumber.Gaps) != 0 {
			t.Errorf("stopped transaction: %+v", byNumber)
		}
		byID := want[api.TransactionView](f, 200, "GET", "/api/v1/transactions/"+byNumber.ID, nil)
		if byID.TransactionID != fmt.Sprint(numbers[0]) {
			t.Errorf("by id: %+v", byID)
		}
		values, _ := all[store.MeterValue](f, "/api/v1/transactions/"+byNumber.ID+"/meter-values?limit=2")
		if len(values) != 5 || values[0].At.After(values[4].At) {
			t.Errorf("meter values: %+v", values)
		}
		if got := want[api.Page[store.MeterValue]](f, 200, "GET", "/api/v1/stations/CS%201/meter-values?from="+url.QueryEscape(start.Add(2*time.Minute).Format(time.RFC3339)), nil).Items; len(got) != 3 {
			t.Errorf("%d meter values after two minutes, want 3", len(got))
		}
		want[api.Page[store.TransactionEvent]](f, 200, "GET", "/api/v1/transactions/"+byNumber.ID+"/events", nil)
		f.refused(404, "GET", "/api/v1/transactions/nothing", nil)
		f.refused(404, "GET", "/api/v1/transactions/nothing/events", nil)
		f.refused(404, "GET", "/api/v1/stations/CS%201/transactions/999999", nil)

		s := want[api.StationView](f, 200, "GET", "/api/v1/stations/CS%201", nil)
		if s.State == nil || s.State.Vendor != "V" || s.State.Model != "M" || s.State.Firmware != "1.2" {
			t.Errorf("station: %+v", s.State)
		}
		if got := want[api.Page[store.Connector]](f, 200, "GET", "/api/v1/stations/cs%201/connectors", nil).Items; len(got) != 1 || got[0].Status != "Charging" {
			t.Errorf("connectors: %+v", got)
		}
		if got := want[api.Page[store.SecurityEvent]](f, 200, "GET", "/api/v1/stations/CS%201/security-events", nil).Items; len(got) != 1 || got[0].Type != "FirmwareUpdated" {
			t.Errorf("security events: %+v", got)
		}
		if got := want[api.Page[store.Recorded]](f, 200, "GET", "/api/v1/stations/CS%201/records?action=DataTransfer", nil).Items; len(got) != 1 {
			t.Errorf("records: %+v", got)
		}
		if got := want[api.Page[store.Progress]](f, 200, "GET", "/api/v1/stations/CS%201/progress", nil).Items; len(got) != 1 || got[0].Status != "Downloading" {
			t.Errorf("progress: %+v", got)
		}
		want[api.Page[store.Variable]](f, 200, "GET", "/api/v1/stations/CS%201/variables", nil)
		want[api.Page[store.Attempt]](f, 200, "GET", "/api/v1/stations/CS%201/attempts", nil)
		want[api.Page[store.Attempt]](f, 200, "GET", "/api/v1/attempts", nil)
	})
}

func TestIDTokens(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	for _, token := range []string{"04A2", "a b/ü"} {
		path := "/api/v1/id-tokens/" + url.PathEscape(token)
		f.refused(404, "GET", path, nil)
		if got := want[store.IDToken](f, 200, "PUT", path, map[string]any{"group": "G", "note": "n"}); got.Token != token || got.Status != "Accepted" || got.Group != "G" {
			t.Errorf("put %+v", got)
		}
		if got := want[store.IDToken](f, 200, "PUT", path, map[string]any{"status": "Blocked"}); got.Status != "Blocked" || got.Group != "" {
			t.Errorf("put again %+v", got)
		}
		if got := want[store.IDToken](f, 200, "GET", path, nil); got.Status != "Blocked" {
			t.Errorf("get %+v", got)
		}
	}
	if got, _ := all[store.IDToken](f, "/api/v1/id-tokens?limit=1"); len(got) != 2 {
		t.Errorf("%d tokens, want 2", len(got))
	}
	f.refused(422, "PUT", "/api/v1/id-tokens/%20%20", map[string]any{})
	f.refused(422, "PUT", "/api/v1/id-tokens/x", map[string]any{"status": "Lost"})
	f.refused(422, "PUT", "/api/v1/id-tokens/x", map[string]any{"expires_at": "soon"})
	if r := f.send("DELETE", "/api/v1/id-tokens/04a2", nil); r.status != 204 {
		t.Errorf("remove: %d %s", r.status, r.body)
	}
	f.refused(404, "DELETE", "/api/v1/id-tokens/04a2", nil)
}
