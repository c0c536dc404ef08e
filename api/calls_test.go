package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/ocpp"
	"holdfast/store/storetest"
)

// Each result of a call has its status and its words.
func TestCallResults(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "CS 1"})
	const path = "/api/v1/stations/CS%201/calls"
	reset := map[string]any{"action": "Reset", "payload": map[string]any{"type": "Soft"}}

	never := want[api.CommandView](f, 409, "POST", path, reset)
	if never.Result != "offline" || never.ID == "" {
		t.Errorf("a station that was never connected: %+v", never)
	}
	f.refused(404, "POST", "/api/v1/stations/nobody/calls", reset)
	f.connected("CS 1")

	for _, tt := range []struct {
		result string
		status int
		answer string
		err    error
	}{
		{result: "accepted", status: 200, answer: `{"status":"Accepted"}`},
		{result: "accepted", status: 200, answer: `{"status":"Rejected"}`},
		{result: "callerror", status: 200, err: &ocpp.Error{Code: ocpp.NotSupported, Description: "no soft reset here"}},
		{result: "timeout", status: 504, err: fmt.Errorf("x: %w", ocpp.ErrTimeout)},
		{result: "offline", status: 409, err: fmt.Errorf("x: %w", ocpp.ErrOffline)},
		{result: "connection_lost", status: 502, err: ocpp.ErrConnectionLost},
		{result: "busy", status: 429, err: ocpp.ErrBusy},
		{result: "unavailable", status: 503, err: errors.New("bus is away")},
		{result: "invalid_answer", status: 502, answer: `{"status":17}`},
	} {
		f.answer(func(_ context.Context, station ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			if station != "CS 1" || call.Action != "Reset" || string(call.Payload) != `{"type":"Soft"}` {
				t.Errorf("the station got %s %s", call.Action, call.Payload)
			}
			return json.RawMessage(tt.answer), tt.err
		})
		got := want[api.CommandView](f, tt.status, "POST", path, reset)
		if got.Result != tt.result || got.By != "admin" || got.Action != "Reset" {
			t.Errorf("%+v, want result %s", got, tt.result)
		}
		if tt.result == "accepted" && string(got.Payload) != tt.answer {
			t.Errorf("payload %s, want %s", got.Payload, tt.answer)
		}
		if tt.result == "callerror" && (got.Error == nil || got.Error.Code != "NotSupported" || got.Error.Description != "no soft reset here") {
			t.Errorf("error %+v", got.Error)
		}
		recorded := want[api.CommandView](f, 200, "GET", "/api/v1/commands/"+got.ID, nil)
		if recorded.Result != tt.result || recorded.FinishedAt.IsZero() {
			t.Errorf("recorded %+v, want result %s", recorded, tt.result)
		}
	}
	f.answer(func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) {
		t.Error("an invalid request was sent")
		return nil, nil
	})
	for _, body := range []map[string]any{
		{"action": "Reset", "payload": map[string]any{"type": "Sooft"}},
		{"action": "Reset"},
		{"action": "Heartbeat"},
		{"action": "MakeCoffee", "payload": map[string]any{}},
	} {
		if got := want[api.CommandView](f, 422, "POST", path, body); got.Result != "invalid_request" || got.Error == nil || got.Error.Description == "" {
			t.Errorf("%v: %+v", body, got)
		}
	}
	for _, body := range []any{
		map[string]any{"payload": map[string]any{}}, map[string]any{"action": "Reset", "payload": []int{1}}, map[string]any{"action": "Reset", "payload": "x"},
		map[string]any{"action": "Reset", "timeout": -1}, map[string]any{"action": "Reset", "timeout": 601}, map[string]any{"action": 7}, []int{},
	} {
		f.refused(422, "POST", path, body)
	}
	commands, _ := all[api.CommandView](f, "/api/v1/commands?limit=5&station="+"CS%201")
	if len(commands) != 1+9+4 {
		t.Errorf("%d commands in the record, want 14", len(commands))
	}
}

// An asynchronous call is polled; a deadline ends a synchronous one.
func TestAsyncCall(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := open(t, where, nil)
		want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "A"})
		f.connected("A")
		release := make(chan struct{})
		f.answer(func(ctx context.Context, _ ocpp.StationID, _ ocpp.Call) (json.RawMessage, error) {
			select {
			case <-release:
				return json.RawMessage(`{"status":"Accepted"}`), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		body := map[string]any{"action": "ClearCache", "async": true}
		r := f.send("POST", "/api/v1/stations/A/calls", body)
		var command api.CommandView
		check(t, json.Unmarshal(r.body, &command))
		if r.status != 202 || command.Result != "pending" || r.header.Get("Location") != "/api/v1/commands/"+command.ID {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if got := want[api.CommandView](f, 200, "GET", "/api/v1/commands/"+command.ID, nil); got.Result != "pending" {
			t.Errorf("before its answer: %+v", got)
		}
		if got := want[api.CommandView](f, 504, "POST", "/api/v1/stations/A/calls", map[string]any{"action": "ClearCache", "timeout": 0.05}); got.Result != "timeout" {
			t.Errorf("after its deadline: %+v", got)
		}
		close(release)
		eventually(t, "the command's result", func() bool {
			got := want[api.CommandView](f, 200, "GET", "/api/v1/commands/"+command.ID, nil)
			return got.Result == "accepted" && string(got.Payload) == `{"status":"Accepted"}`
		})
	})
}

// What a station must not know twice is not told by the record.
func TestCallSecrets(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "A"})
	f.connected("A")
	f.answer(func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
		if !strings.Contains(string(call.Payload), "50617373") {
			t.Errorf("the station got %s", call.Payload)
		}
		return json.RawMessage(`{"status":"Accepted"}`), nil
	})
	r := f.send("POST", "/api/v1/stations/A/calls", map[string]any{"action": "ChangeConfiguration", "payload": map[string]any{"key": "AuthorizationKey", "value": "50617373"}})
	list := f.send("GET", "/api/v1/commands", nil)
	if r.status != 200 || strings.Contains(string(r.body), "50617373") || strings.Contains(string(list.body), "50617373") {
		t.Errorf("the password comes back: %s, %s", r.body, list.body)
	}
}
