package station_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
)

type m = map[string]any

// cli runs the binary as an operator does.
func cli(t *testing.T, n *e2e.Node, args ...string) string {
	t.Helper()
	args = append(args, "--url", n.API, "--data", n.Data)
	cmd := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("holdfast %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// register adds a station with the command line, word for word as the README says.
func register(t *testing.T, n *e2e.Node, id string, profile int) setup {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(n.Data, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if profile == 3 {
		dir := t.TempDir()
		cli(t, n, "station", "add", id, "--profile", "3", "--out", dir)
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		return setup{Endpoint: n.MTLS, Identity: id, CA: read("ca.crt"), Cert: read(id + ".crt"), Key: read(id + ".key")}
	}
	password := cli(t, n, "station", "add", id, "--profile", fmt.Sprint(profile))
	if profile == 1 {
		return setup{Endpoint: n.Plain, Identity: id, Password: password}
	}
	return setup{Endpoint: n.TLS, Identity: id, Password: password, CA: string(ca)}
}

// command is a CALL that an operator sends and the answer that the station gives.
type command struct {
	action  string
	payload m
	answer  m
}

// story is what a station of one version does, in that version's words.
type story struct {
	version  string
	boot     func(st *rpcStation)
	charge   func(st *rpcStation) (transaction string, meterValues int)
	commands []command
}

const now = "2026-05-01T10:00:00Z"

var accepted = m{"status": "Accepted"}

var v16 = story{
	version: "1.6",
	boot: func(st *rpcStation) {
		var boot struct {
			Status   string
			Interval int
		}
		st.call("BootNotification", m{"chargePointVendor": "ACME", "chargePointModel": "One", "firmwareVersion": "1.2.3"}, &boot)
		if boot.Status != "Accepted" || boot.Interval <= 0 {
			st.t.Fatalf("boot: %+v", boot)
		}
		st.call("StatusNotification", m{"connectorId": 1, "errorCode": "NoError", "status": "Available"}, nil)
	},
	charge: func(st *rpcStation) (string, int) {
		var auth struct{ IDTagInfo struct{ Status string } }
		st.call("Authorize", m{"idTag": "TAG1"}, &auth)
		if auth.IDTagInfo.Status != "Accepted" {
			st.t.Fatalf("authorize: %+v", auth)
		}
		st.call("Authorize", m{"idTag": "NOBODY"}, &auth)
		if auth.IDTagInfo.Status != "Invalid" {
			st.t.Fatalf("authorize an unknown tag: %+v", auth)
		}
		var start, again struct{ TransactionID int }
		begin := m{"connectorId": 1, "idTag": "TAG1", "meterStart": 100, "timestamp": now}
		st.call("StartTransaction", begin, &start)
		st.call("StartTransaction", begin, &again) // the answer was lost: it is sent again
		if start.TransactionID <= 0 || start != again {
			st.t.Fatalf("start: %+v, again %+v", start, again)
		}
		value := m{"connectorId": 1, "transactionId": start.TransactionID, "meterValue": []m{{"timestamp": "2026-05-01T10:05:00Z", "sampledValue": []m{{"value": "150", "unit": "Wh"}}}}}
		st.call("MeterValues", value, nil)
		st.call("MeterValues", value, nil)
		st.call("StopTransaction", m{"transactionId": start.TransactionID, "meterStop": 200, "timestamp": "2026-05-01T10:10:00Z", "idTag": "TAG1", "reason": "Local"}, nil)
		return fmt.Sprint(start.TransactionID), 1
	},
	commands: []command{
		{"RemoteStartTransaction", m{"idTag": "TAG1", "connectorId": 1}, accepted},
		{"RemoteStopTransaction", m{"transactionId": 7}, accepted},
		{"Reset", m{"type": "Soft"}, accepted},
		{"ChangeConfiguration", m{"key": "AuthorizationKey", "value": "53656372657453656372657453656372"}, accepted},
		{"GetConfiguration", m{"key": []string{"HeartbeatInterval"}}, m{"configurationKey": []m{{"key": "HeartbeatInterval", "readonly": false, "value": "300"}}}},
		{"TriggerMessage", m{"requestedMessage": "StatusNotification", "connectorId": 1}, accepted},
		{"ChangeAvailability", m{"connectorId": 1, "type": "Operative"}, accepted},
		{"UnlockConnector", m{"connectorId": 1}, m{"status": "Unlocked"}},
		{"DataTransfer", m{"vendorId": "ACME", "data": "x"}, accepted},
		{"SetChargingProfile", m{"connectorId": 1, "csChargingProfiles": m{"chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile",
			"chargingProfileKind": "Absolute", "chargingSchedule": m{"chargingRateUnit": "A", "chargingSchedulePeriod": []m{{"startPeriod": 0, "limit": 16}}}}}, accepted},
	},
}

// v2x is told for 2.0.1 and 2.1.
func v2x(version string) story {
	return story{
		version: version,
		boot: func(st *rpcStation) {
			var boot struct {
				Status   string
				Interval int
			}
			st.call("BootNotification", m{"reason": "PowerUp", "chargingStation": m{"vendorName": "ACME", "model": "One", "firmwareVersion": "1.2.3"}}, &boot)
			if boot.Status != "Accepted" || boot.Interval <= 0 {
				st.t.Fatalf("boot: %+v", boot)
			}
			st.call("StatusNotification", m{"timestamp": now, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}, nil)
		},
		charge: func(st *rpcStation) (string, int) {
			token := m{"idToken": "TAG1", "type": "ISO14443"}
			var auth struct{ IDTokenInfo struct{ Status string } }
			st.call("Authorize", m{"idToken": token}, &auth)
			if auth.IDTokenInfo.Status != "Accepted" {
				st.t.Fatalf("authorize: %+v", auth)
			}
			id := "tx-" + st.open
			event := func(kind string, seq int, more m) {
				e := m{"eventType": kind, "timestamp": now, "triggerReason": "Authorized", "seqNo": seq,
					"transactionInfo": m{"transactionId": id, "chargingState": "Charging"}, "evse": m{"id": 1, "connectorId": 1}, "idToken": token}
				for k, v := range more {
					e[k] = v
				}
				var answer struct{ IDTokenInfo struct{ Status string } }
				st.call("TransactionEvent", e, &answer)
				if answer.IDTokenInfo.Status != "Accepted" {
					st.t.Fatalf("TransactionEvent %s: %+v", kind, answer)
				}
			}
			value := m{"meterValue": []m{{"timestamp": "2026-05-01T10:05:00Z", "sampledValue": []m{{"value": 150.5}}}}}
			event("Started", 0, nil)
			event("Updated", 1, value)
			event("Updated", 1, value) // sent again
			event("Ended", 2, m{"transactionInfo": m{"transactionId": id, "chargingState": "Idle", "stoppedReason": "Local"}})
			return id, 1
		},
		commands: []command{
			{"RequestStartTransaction", m{"idToken": m{"idToken": "TAG1", "type": "ISO14443"}, "remoteStartId": 1, "evseId": 1}, accepted},
			{"RequestStopTransaction", m{"transactionId": "tx-7"}, accepted},
			{"Reset", m{"type": "Immediate"}, accepted},
			{"SetVariables", m{"setVariableData": []m{{"attributeValue": "SecretSecretSecret", "component": m{"name": "SecurityCtrlr"}, "variable": m{"name": "BasicAuthPassword"}}}},
				m{"setVariableResult": []m{{"attributeStatus": "Accepted", "component": m{"name": "SecurityCtrlr"}, "variable": m{"name": "BasicAuthPassword"}}}}},
			{"GetVariables", m{"getVariableData": []m{{"component": m{"name": "OCPPCommCtrlr"}, "variable": m{"name": "HeartbeatInterval"}}}},
				m{"getVariableResult": []m{{"attributeStatus": "Accepted", "attributeValue": "300", "component": m{"name": "OCPPCommCtrlr"}, "variable": m{"name": "HeartbeatInterval"}}}}},
			{"TriggerMessage", m{"requestedMessage": "Heartbeat"}, accepted},
			{"ChangeAvailability", m{"operationalStatus": "Operative"}, accepted},
			{"UnlockConnector", m{"evseId": 1, "connectorId": 1}, m{"status": "Unlocked"}},
			{"GetBaseReport", m{"requestId": 1, "reportBase": "FullInventory"}, accepted},
			{"GetTransactionStatus", m{}, m{"messagesInQueue": false}},
		},
	}
}

// TestStation takes an independent client through its life over each security
// profile and each version that it knows, and checks both ends.
func TestStation(t *testing.T) {
	n := e2e.All(t)
	if status := n.Do("PUT", "/api/v1/id-tokens/TAG1", m{"status": "Accepted"}, nil); status/100 != 2 {
		t.Fatalf("add ID token: %d", status)
	}
	for _, s := range []story{v16, v2x("2.0.1"), v2x("2.1")} {
		for profile := 1; profile <= 3; profile++ {
			t.Run(fmt.Sprintf("%s/profile%d", s.version, profile), func(t *testing.T) { tell(t, n, s, profile) })
		}
	}
}

func tell(t *testing.T, n *e2e.Node, s story, profile int) {
	id := fmt.Sprintf("RPC.%s-%d", s.version, profile)
	set := register(t, n, id, profile)
	// ocpp-rpc's schemas of 2.1 do not have the names that it looks for.
	set.Protocol, set.Strict, set.Answers = "ocpp"+s.version, s.version != "2.1", m{}
	for _, c := range s.commands {
		set.Answers[c.action] = c.answer
	}
	st := connect(t, set)
	if st.open != set.Protocol {
		t.Fatalf("connected as %q (refused %d), want %s", st.open, st.refused, set.Protocol)
	}
	s.boot(st)
	var beat struct{ CurrentTime time.Time }
	st.call("Heartbeat", m{}, &beat)
	if d := time.Since(beat.CurrentTime).Abs(); d > time.Minute {
		t.Errorf("heartbeat: the server's clock is off by %s", d)
	}
	transaction, values := s.charge(st)

	path := "/api/v1/stations/" + url.PathEscape(id)
	for i, c := range s.commands {
		var answer struct {
			Result  string
			Payload json.RawMessage
		}
		if i%2 == 0 {
			raw, _ := json.Marshal(c.payload)
			answer.Payload = json.RawMessage(cli(t, n, "call", id, c.action, string(raw)))
		} else if status := n.Do("POST", path+"/calls", m{"action": c.action, "payload": c.payload}, &answer); status != 200 || answer.Result != "accepted" {
			t.Errorf("%s: %d %+v", c.action, status, answer)
		}
		if got, want := canonical(t, answer.Payload), canonical(t, c.answer); got != want {
			t.Errorf("%s: answer %s, want %s", c.action, got, want)
		}
		if got, want := canonical(t, st.took(c.action)), canonical(t, c.payload); got != want {
			t.Errorf("%s: the station got %s, want %s", c.action, got, want)
		}
	}

	checkRecord(t, n, s, id, transaction, values)
	st.mu.Lock()
	bad := slices.Clone(st.bad)
	st.mu.Unlock()
	if len(bad) > 0 {
		t.Errorf("the station's own validation complains: %v", bad)
	}
}

func canonical(t *testing.T, v any) string {
	t.Helper()
	raw, ok := v.(json.RawMessage)
	if !ok {
		raw, _ = json.Marshal(v)
	}
	var x any
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Errorf("not JSON: %q", raw)
	}
	out, _ := json.Marshal(x)
	return string(out)
}

// checkRecord reads through the API what the station did.
func checkRecord(t *testing.T, n *e2e.Node, s story, id, transaction string, values int) {
	t.Helper()
	path := "/api/v1/stations/" + url.PathEscape(id)
	var station struct {
		State struct {
			Connected                          bool
			Version, Vendor, Firmware, Gateway string
		}
	}
	n.Do("GET", path, nil, &station)
	if !station.State.Connected || station.State.Version != s.version || station.State.Vendor != "ACME" || station.State.Firmware != "1.2.3" {
		t.Errorf("station: %+v", station)
	}
	var connectors struct{ Items []struct{ Status string } }
	n.Do("GET", path+"/connectors", nil, &connectors)
	if len(connectors.Items) != 1 || connectors.Items[0].Status != "Available" {
		t.Errorf("connectors: %+v", connectors)
	}
	var list struct {
		Items []struct {
			ID, Token     string
			TransactionID string `json:"transaction_id"`
			Open          bool
			Missing       int `json:"missing_events"`
		}
	}
	n.Do("GET", path+"/transactions", nil, &list)
	if len(list.Items) != 1 || list.Items[0].TransactionID != transaction || list.Items[0].Open || list.Items[0].Token != "TAG1" || list.Items[0].Missing != 0 {
		t.Fatalf("transactions: %+v, want %s once, closed", list, transaction)
	}
	var meter struct{ Items []any }
	n.Do("GET", "/api/v1/transactions/"+list.Items[0].ID+"/meter-values", nil, &meter)
	if len(meter.Items) != values {
		t.Errorf("%d meter values, want %d", len(meter.Items), values)
	}
	var commands struct {
		Items []struct{ Action, By, Result string }
	}
	n.Do("GET", "/api/v1/commands?station="+url.QueryEscape(id), nil, &commands)
	if len(commands.Items) != len(s.commands) {
		t.Errorf("%d commands in the audit record, want %d", len(commands.Items), len(s.commands))
	}
	for _, c := range commands.Items {
		if c.By != "admin" || c.Result != "accepted" {
			t.Errorf("command: %+v", c)
		}
	}
	var log struct {
		Items []struct{ Frame, Direction string }
	}
	n.Do("GET", path+"/messages?limit=1000", nil, &log)
	text := fmt.Sprint(log.Items)
	for _, want := range []string{"BootNotification", "Heartbeat", "Reset"} {
		if !strings.Contains(text, want) {
			t.Errorf("message log lacks %s", want)
		}
	}
	for _, secret := range []string{"53656372657453656372657453656372", "SecretSecretSecret"} {
		if strings.Contains(text, secret) {
			t.Error("message log holds a secret")
		}
	}
}

// TestRefused: what an independent client sees of refusals.
func TestRefused(t *testing.T) {
	n := e2e.All(t)
	good := register(t, n, "R2", 2)
	for name, tt := range map[string]struct {
		change func(*setup)
		status int
	}{
		"wrong password":  {func(s *setup) { s.Password = "wrong-wrong-wrong-wrong" }, 401},
		"unknown station": {func(s *setup) { s.Identity = "nobody" }, 404},
		"wrong profile":   {func(s *setup) { s.Endpoint = n.Plain }, 403},
	} {
		s := good
		s.Protocol, s.Answers = "ocpp1.6", m{}
		tt.change(&s)
		st := connect(t, s)
		if st.refused != tt.status {
			t.Errorf("%s: refused with %d (connected %q), want %d", name, st.refused, st.open, tt.status)
		}
	}
}
