package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestRemote16 takes one 1.6 station through the commands of the operator.
func TestRemote16(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileTLS, ca)
	f, _ := testFleet(t, s, ca, ocpp.ProfileTLS, ocpp.V16, 1, func(c *Config) { c.Behaviour = passive() })
	const cs = "CS-0"
	eventually(t, "boot and statuses", func() bool { return s.saw(cs, "StatusNotification") == 3 })
	want := func(action string, payload any, status string) {
		t.Helper()
		if got := s.status(cs, action, payload); got != status {
			t.Errorf("%s %v: %s, want %s", action, payload, got, status)
		}
	}
	want("RemoteStartTransaction", object{"idTag": "REMOTE", "connectorId": 2}, "Accepted")
	eventually(t, "StartTransaction", func() bool { return s.saw(cs, "StartTransaction") == 1 })
	var id int
	eventually(t, "transaction id", func() bool {
		for tx := range f.Ledger().Transactions() {
			id = atoi(tx.ID)
		}
		return id > 0
	})
	eventually(t, "meter values", func() bool { return s.saw(cs, "MeterValues") > 2 })
	want("RemoteStartTransaction", object{"idTag": "REMOTE", "connectorId": 2}, "Rejected")
	want("ChangeAvailability", object{"connectorId": 2, "type": "Inoperative"}, "Scheduled")
	want("RemoteStopTransaction", object{"transactionId": id + 1}, "Rejected")
	want("RemoteStopTransaction", object{"transactionId": id}, "Accepted")
	eventually(t, "StopTransaction", func() bool { return s.saw(cs, "StopTransaction") == 1 })
	s.look(cs, func(st *testStation) {
		if r := st.record[0]; r.Reason != "Remote" || r.IDTag != "REMOTE" || r.Connector != 2 {
			t.Errorf("%+v", r)
		}
	})
	want("ChangeAvailability", object{"connectorId": 0, "type": "Operative"}, "Accepted")
	want("TriggerMessage", object{"requestedMessage": "Heartbeat"}, "Accepted")
	eventually(t, "triggered heartbeat", func() bool { return s.saw(cs, "Heartbeat") == 1 })
	want("TriggerMessage", object{"requestedMessage": "BootNotification"}, "Rejected")
	want("TriggerMessage", object{"requestedMessage": "Nonsense"}, "NotImplemented")
	want("ChangeConfiguration", object{"key": "HeartbeatInterval", "value": "7200"}, "Accepted")
	want("ChangeConfiguration", object{"key": "HeartbeatInterval", "value": "x"}, "Rejected")
	want("ChangeConfiguration", object{"key": "NumberOfConnectors", "value": "3"}, "Rejected")
	want("ChangeConfiguration", object{"key": "Nonsense", "value": "3"}, "NotSupported")
	frame := s.call(cs, "GetConfiguration", object{"key": []string{"HeartbeatInterval", "AuthorizationKey", "Nonsense"}})
	if got, want := string(frame.Payload), `{"configurationKey":[{"key":"HeartbeatInterval","readonly":false,"value":"7200"},{"key":"AuthorizationKey","readonly":false}],"unknownKey":["Nonsense"]}`; got != want {
		t.Errorf("GetConfiguration: %s", got)
	}
	want("UnlockConnector", object{"connectorId": 1}, "Unlocked")
	want("ClearCache", object{}, "Accepted")
	want("DataTransfer", object{"vendorId": "nobody"}, "UnknownVendorId")
	want("SendLocalList", object{"listVersion": 3, "updateType": "Full", "localAuthorizationList": []object{{"idTag": "A", "idTagInfo": object{"status": "Accepted"}}}}, "Accepted")
	want("SendLocalList", object{"listVersion": 2, "updateType": "Differential"}, "VersionMismatch")
	if frame := s.call(cs, "GetLocalListVersion", object{}); string(frame.Payload) != `{"listVersion":3}` {
		t.Errorf("GetLocalListVersion: %s", frame.Payload)
	}
	expiry := time.Now().Add(time.Hour).Format(time.RFC3339)
	want("ReserveNow", object{"connectorId": 1, "expiryDate": expiry, "idTag": "R", "reservationId": 5}, "Accepted")
	want("RemoteStartTransaction", object{"idTag": "OTHER", "connectorId": 1}, "Rejected")
	want("CancelReservation", object{"reservationId": 5}, "Accepted")
	want("CancelReservation", object{"reservationId": 5}, "Rejected")
	profile := object{"connectorId": 1, "csChargingProfiles": object{"chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile",
		"chargingProfileKind": "Absolute", "chargingSchedule": object{"chargingRateUnit": "A", "chargingSchedulePeriod": []object{{"startPeriod": 0, "limit": 16}}}}}
	want("GetCompositeSchedule", object{"connectorId": 1, "duration": 60}, "Rejected")
	want("SetChargingProfile", profile, "Accepted")
	frame = s.call(cs, "GetCompositeSchedule", object{"connectorId": 1, "duration": 60})
	if got, want := string(frame.Payload), `"chargingSchedule":{"chargingRateUnit":"W","duration":60,"chargingSchedulePeriod":[{"startPeriod":0,"limit":11040}]}}`; !strings.HasSuffix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	want("ClearChargingProfile", object{"id": 1}, "Accepted")
	want("ClearChargingProfile", object{"id": 1}, "Unknown")
	want("GetLog", object{"requestId": 1, "logType": "SecurityLog"}, "Accepted")
	want("NoSuchAction", object{}, "NotImplemented")
	want("Reset", object{"type": 5}, "TypeConstraintViolation")
	want("Reset", object{"type": "Soft"}, "Accepted")
	eventually(t, "boot after reset", func() bool { return s.saw(cs, "BootNotification") == 2 })
	settle(t, f)
	if r := mustVerify(t, f, s); !r.OK() {
		t.Errorf("%+v", r)
	}
}

// TestRemote2x takes one 2.0.1 station through the commands of the operator.
func TestRemote2x(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	f, _ := testFleet(t, s, ca, ocpp.ProfileMTLS, ocpp.V201, 1, func(c *Config) { c.Behaviour = passive() })
	const cs = "CS-0"
	eventually(t, "boot and statuses", func() bool { return s.saw(cs, "StatusNotification") == 2 })
	want := func(action string, payload any, status string) {
		t.Helper()
		if got := s.status(cs, action, payload); got != status {
			t.Errorf("%s %v: %s, want %s", action, payload, got, status)
		}
	}
	token := object{"idToken": "REMOTE", "type": "Central"}
	want("RequestStartTransaction", object{"idToken": token, "remoteStartId": 7, "evseId": 1}, "Accepted")
	eventually(t, "events", func() bool { return s.saw(cs, "TransactionEvent") > 4 })
	var id string
	for tx := range f.Ledger().Transactions() {
		id = tx.ID
	}
	if frame := s.call(cs, "GetTransactionStatus", object{"transactionId": id}); !json.Valid(frame.Payload) || string(frame.Payload)[:24] != `{"ongoingIndicator":true` {
		t.Errorf("GetTransactionStatus: %s", frame.Payload)
	}
	want("UnlockConnector", object{"evseId": 1, "connectorId": 1}, "OngoingAuthorizedTransaction")
	want("RequestStopTransaction", object{"transactionId": "nope"}, "Rejected")
	want("RequestStopTransaction", object{"transactionId": id}, "Accepted")
	eventually(t, "end", func() bool { return f.Stats().Transactions == 0 && f.Stats().Queued == 0 })
	eventually(t, "car gone", func() bool { return s.lastStatus(cs, 1) == "Available" })
	s.look(cs, func(st *testStation) {
		if r := st.record[0]; r.Reason != "Remote" || r.IDTag != "REMOTE" || r.Stop.IsZero() {
			t.Errorf("%+v", r)
		}
	})
	set := func(component, variable, value string) string {
		frame := s.call(cs, "SetVariables", object{"setVariableData": []object{{"attributeValue": value, "component": object{"name": component}, "variable": object{"name": variable}}}})
		var answer struct {
			Results []variableResult `json:"setVariableResult"`
		}
		json.Unmarshal(frame.Payload, &answer)
		if len(answer.Results) != 1 {
			t.Fatalf("SetVariables: %s", frame.Payload)
		}
		return answer.Results[0].Status
	}
	for _, v := range [][4]string{
		{"OCPPCommCtrlr", "HeartbeatInterval", "3600", "Accepted"},
		{"OCPPCommCtrlr", "HeartbeatInterval", "-1", "Rejected"},
		{"OCPPCommCtrlr", "Nonsense", "1", "UnknownVariable"},
		{"Nonsense", "Nonsense", "1", "UnknownComponent"},
	} {
		if got := set(v[0], v[1], v[2]); got != v[3] {
			t.Errorf("%v: %s", v, got)
		}
	}
	frame := s.call(cs, "GetVariables", object{"getVariableData": []object{{"component": object{"name": "OCPPCommCtrlr"}, "variable": object{"name": "HeartbeatInterval"}}, {"component": object{"name": "SecurityCtrlr"}, "variable": object{"name": "BasicAuthPassword"}}}})
	if got, want := string(frame.Payload), `{"getVariableResult":[{"attributeStatus":"Accepted","attributeValue":"3600","component":{"name":"OCPPCommCtrlr"},"variable":{"name":"HeartbeatInterval"}},{"attributeStatus":"Rejected","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}`; got != want {
		t.Errorf("GetVariables: %s", got)
	}
	for _, evse := range []any{nil, object{"id": 1}} {
		for _, to := range []string{"Inoperative", "Operative"} {
			payload := object{"operationalStatus": to}
			if evse != nil {
				payload["evse"] = evse
			}
			want("ChangeAvailability", payload, "Accepted")
			if to == "Inoperative" {
				want("RequestStartTransaction", object{"idToken": token, "remoteStartId": 9, "evseId": 1}, "Rejected")
			}
		}
	}
	want("ChangeAvailability", object{"operationalStatus": "Operative", "evse": object{"id": 3}}, "Rejected")
	expiry := f.clock(f.elapsed()).Add(time.Hour).Format(time.RFC3339)
	other := object{"idToken": "OTHER", "type": "Central"}
	want("ReserveNow", object{"id": 5, "expiryDateTime": expiry, "idToken": token, "evseId": 1}, "Accepted")
	want("ReserveNow", object{"id": 6, "expiryDateTime": expiry, "idToken": other, "evseId": 1}, "Occupied")
	want("RequestStartTransaction", object{"idToken": other, "remoteStartId": 9, "evseId": 1}, "Rejected")
	want("CancelReservation", object{"reservationId": 5}, "Accepted")
	want("CancelReservation", object{"reservationId": 5}, "Rejected")
	want("SendLocalList", object{"versionNumber": 3, "updateType": "Full", "localAuthorizationList": []object{{"idToken": token, "idTokenInfo": object{"status": "Accepted"}}}}, "Accepted")
	want("SendLocalList", object{"versionNumber": 3, "updateType": "Differential"}, "VersionMismatch")
	if frame := s.call(cs, "GetLocalListVersion", object{}); string(frame.Payload) != `{"versionNumber":3}` {
		t.Errorf("GetLocalListVersion: %s", frame.Payload)
	}
	want("ClearCache", object{}, "Accepted")
	want("GetCompositeSchedule", object{"evseId": 1, "duration": 60}, "Rejected")
	want("SetChargingProfile", object{"evseId": 1, "chargingProfile": object{"id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute",
		"chargingSchedule": []object{{"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": []object{{"startPeriod": 0, "limit": 4000}}}}}}, "Accepted")
	want("GetCompositeSchedule", object{"evseId": 1, "duration": 60}, "Accepted")
	want("ClearChargingProfile", object{"chargingProfileId": 1}, "Accepted")
	want("GetBaseReport", object{"requestId": 3, "reportBase": "FullInventory"}, "Accepted")
	eventually(t, "reports", func() bool { return s.saw(cs, "NotifyReport") >= 2 })
	want("TriggerMessage", object{"requestedMessage": "StatusNotification"}, "Rejected")
	before := s.saw(cs, "StatusNotification")
	want("TriggerMessage", object{"requestedMessage": "StatusNotification", "evse": object{"id": 1, "connectorId": 1}}, "Accepted")
	eventually(t, "triggered status", func() bool { return s.saw(cs, "StatusNotification") > before })
	want("RequestStartTransaction", object{"idToken": token, "remoteStartId": 8, "evseId": 2}, "Accepted")
	eventually(t, "transaction", func() bool { return f.Stats().Transactions == 1 })
	want("Reset", object{"type": "OnIdle"}, "Scheduled")
	want("Reset", object{"type": "Immediate"}, "Accepted")
	eventually(t, "boot after reset", func() bool { return s.saw(cs, "BootNotification") == 2 })
	settle(t, f)
	if r := mustVerify(t, f, s); !r.OK() || r.Transactions != 2 {
		t.Errorf("%+v", r)
	}
}

// TestAvailability: ChangeAvailability waits for a transaction, not for the car
// that stays plugged in after it.
func TestAvailability(t *testing.T) {
	for _, tt := range []struct {
		version             ocpp.Version
		charging, finishing string
		availability        func(to string) any
		start               string
		startRequest        any
		stop                string
		stopRequest         func(id string) any
	}{
		{ocpp.V16, "Charging", "Finishing",
			func(to string) any { return object{"connectorId": 1, "type": to} },
			"RemoteStartTransaction", object{"idTag": "REMOTE", "connectorId": 1},
			"RemoteStopTransaction", func(id string) any { return object{"transactionId": atoi(id)} }},
		{ocpp.V201, "Occupied", "Occupied",
			func(to string) any { return object{"operationalStatus": to, "evse": object{"id": 1}} },
			"RequestStartTransaction", object{"idToken": object{"idToken": "REMOTE", "type": "Central"}, "remoteStartId": 1, "evseId": 1},
			"RequestStopTransaction", func(id string) any { return object{"transactionId": id} }},
	} {
		t.Run(string(tt.version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, tt.version, 1, func(c *Config) {
				c.Behaviour = passive()
				c.Behaviour.UnplugDelay = time.Hour
			})
			const cs = "CS-0"
			command := func(action string, payload any, want, status string) {
				t.Helper()
				if got := s.status(cs, action, payload); got != want {
					t.Errorf("%s: %s, want %s", action, got, want)
				}
				eventually(t, status, func() bool { return s.lastStatus(cs, 1) == status })
			}
			eventually(t, "boot", func() bool { return s.lastStatus(cs, 1) == "Available" })
			command("ChangeAvailability", tt.availability("Inoperative"), "Accepted", "Unavailable")
			command(tt.start, tt.startRequest, "Rejected", "Unavailable")
			command("ChangeAvailability", tt.availability("Operative"), "Accepted", "Available")
			command(tt.start, tt.startRequest, "Accepted", tt.charging)
			command("ChangeAvailability", tt.availability("Inoperative"), "Scheduled", tt.charging)
			var id string
			eventually(t, "transaction id", func() bool {
				for tx := range f.Ledger().Transactions() {
					id = tx.ID
				}
				return id != ""
			})
			command(tt.stop, tt.stopRequest(id), "Accepted", "Unavailable") // what was scheduled
			command("ChangeAvailability", tt.availability("Operative"), "Accepted", tt.finishing)
			command(tt.start, tt.startRequest, "Rejected", tt.finishing)
			command("ChangeAvailability", tt.availability("Inoperative"), "Accepted", "Unavailable")
			settle(t, f)
			if r := mustVerify(t, f, s); !r.OK() || r.Transactions != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}
