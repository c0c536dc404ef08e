package csms_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/authority"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// each2x runs test for both versions.
func each2x(t *testing.T, cfg csms.Config, test func(t *testing.T, s speaker)) {
	for _, version := range []ocpp.Version{ocpp.V201, ocpp.V21} {
		t.Run(string(version), func(t *testing.T) {
			test(t, open2x(t, storetest.SQLite(t), version, cfg))
		})
	}
}

func open2x(t testing.TB, where string, version ocpp.Version, cfg csms.Config) speaker {
	cfg.Protocols = protocols2x
	cfg.Now = func() time.Time { return now }
	return speaker{open(t, where, cfg), "CS", version}
}

// TestPostgres2x goes through what writes most.
func TestPostgres2x(t *testing.T) {
	s := open2x(t, storetest.Postgres(t), ocpp.V21, csms.Config{})
	for id, test := range map[ocpp.StationID]func(*testing.T, speaker){
		"transaction": testTransactionEvents2x, "report": testNotifyReport2x, "event": testNotifyEvent2x,
	} {
		s.id = id
		test(t, s)
	}
}

// transactionEvent makes a request; more is what it has besides the required
// fields, such as `,"offline":true`.
func transactionEvent(seqNo int, eventType, info, more string) string {
	return fmt.Sprintf(`{"eventType":%q,"timestamp":"2026-11-22T08:%02d:00Z","triggerReason":"Trigger","seqNo":%d,"transactionInfo":{"transactionId":"tx-1"%s}%s}`,
		eventType, seqNo, seqNo, info, more)
}

func meterValue(minute int, samples string) string {
	return fmt.Sprintf(`,"meterValue":[{"timestamp":"2026-11-22T08:%02d:00Z","sampledValue":[%s]}]`, minute, samples)
}

// A transaction is the same whatever order its events come in, and however often.
func TestTransactionEvents2x(t *testing.T) { each2x(t, csms.Config{}, testTransactionEvents2x) }

func testTransactionEvents2x(t *testing.T, s speaker) {
	putToken(t, s.CSMS, store.IDToken{Token: "card"})
	const token = `,"idToken":{"idToken":"Card","type":"ISO14443"}`
	events := []struct{ request, answer string }{
		// The end comes before the start.
		{transactionEvent(5, "Ended", `,"chargingState":"Idle","stoppedReason":"Local"`, `,"offline":true,"evse":{"id":2}`+token+
			meterValue(5, `{"value":1.5,"unitOfMeasure":{"unit":"kWh"}},{"value":16.50,"measurand":"Current.Import","phase":"L1"}`)),
			`{"idTokenInfo":{"status":"Accepted"}}`},
		{transactionEvent(0, "Started", `,"chargingState":"EVConnected","remoteStartId":77`, `,"offline":true,"reservationId":9,"evse":{"id":2,"connectorId":1}`+
			meterValue(0, `{"value":1,"location":"Inlet"},{"value":100.0,"measurand":"Energy.Active.Import.Register","location":"Outlet"}`)),
			`{}`},
		{transactionEvent(1, "Updated", `,"chargingState":"Charging"`, token), `{"idTokenInfo":{"status":"Accepted"}}`},
		// 2 to 3 are lost.
		{transactionEvent(4, "Updated", `,"chargingState":"SuspendedEV"`, `,"offline":false`+
			meterValue(4, `{"value":14,"unitOfMeasure":{"unit":"Wh","multiplier":2}}`)), `{}`},
	}
	for range 3 {
		for _, e := range events {
			s.expect(t, "TransactionEvent", e.request, e.answer)
		}
	}
	tx, err := s.Record().Transaction(t.Context(), s.id, "tx-1")
	if err != nil {
		t.Fatal(err)
	}
	if tx.Open || tx.Events != 4 || tx.SeqMin != 0 || tx.SeqMax != 5 || tx.Missing != 2 || !tx.Offline || tx.Version != s.version {
		t.Errorf("transaction %+v", tx)
	}
	if tx.EVSE != 2 || tx.Connector != 1 || tx.Token != "Card" || tx.TokenType != "ISO14443" || tx.StopToken != "Card" || tx.TokenStatus != "Accepted" ||
		*tx.RemoteStartID != 77 || *tx.ReservationID != 9 || tx.StoppedReason != "Local" || tx.ChargingState != "Idle" || tx.Quality != "" {
		t.Errorf("transaction %+v", tx)
	}
	if *tx.MeterStart != 100 || *tx.MeterStop != 1500 || *tx.MeterLast != 1500 {
		t.Errorf("energy %v to %v, last %v", *tx.MeterStart, *tx.MeterStop, *tx.MeterLast)
	}
	if !tx.StartedAt.Equal(now.Add(-2*time.Hour)) || !tx.EndedAt.Equal(now.Add(-2*time.Hour+5*time.Minute)) {
		t.Errorf("from %v to %v", tx.StartedAt, tx.EndedAt)
	}
	gaps, err := s.Record().Gaps(t.Context(), s.id, "tx-1")
	if want := "[{2 3}]"; err != nil || fmt.Sprint(gaps) != want {
		t.Errorf("gaps %v (%v), want %s", gaps, err, want)
	}
	values := meterValues(t, s.CSMS, s.id, "tx-1")
	if len(values) != 3 || values[2].EVSE != 2 || *values[2].SeqNo != 5 ||
		string(values[2].Samples) != `[{"value":1.5,"unitOfMeasure":{"unit":"kWh"}},{"value":16.50,"measurand":"Current.Import","phase":"L1"}]` {
		t.Errorf("meter values %+v", values)
	}
}

// Whoever is refused learns it in a CALLRESULT, and the transaction is recorded.
func TestTransactionTokens2x(t *testing.T) {
	each2x(t, csms.Config{}, func(t *testing.T, s speaker) {
		putToken(t, s.CSMS, store.IDToken{Token: "blocked", Status: "Blocked"})
		for token, want := range map[string]string{
			`{"idToken":"blocked","type":"ISO14443"}`:  "Blocked",
			`{"idToken":"stranger","type":"KeyCode"}`:  "Unknown",
			`{"idToken":"","type":"NoAuthorization"}`:  "Accepted",
			`{"idToken":"","type":"Central"}`:          "Invalid",
			`{"idToken":"blocked","type":"Imaginary"}`: "Blocked",
		} {
			s.expect(t, "TransactionEvent", transactionEvent(0, "Started", "", `,"idToken":`+token), `{"idTokenInfo":{"status":"`+want+`"}}`)
		}
		if tx := transactions(t, s.CSMS, s.id); len(tx) != 1 || !tx[0].Open {
			t.Errorf("transactions %+v", tx)
		}
		for _, id := range []string{"", strings.Repeat("x", 145)} {
			_, err := s.call("TransactionEvent", strings.Replace(transactionEvent(0, "Started", "", ""), "tx-1", id, 1))
			if code(err) != ocpp.PropertyConstraintViolation {
				t.Errorf("transactionId of %d characters: %v", len(id), err)
			}
		}
	})
}

func TestAuthorize2x(t *testing.T) {
	each2x(t, csms.Config{}, func(t *testing.T, s speaker) {
		long := strings.Repeat("g", 37) // too long for 2.0.1
		for _, token := range []store.IDToken{
			{Token: "good", Group: "family", ExpiresAt: now.Add(time.Hour)}, {Token: "blocked", Status: "Blocked"}, {Token: "expired", ExpiresAt: now}, {Token: "long", Group: long},
		} {
			putToken(t, s.CSMS, token)
		}
		group := `,"groupIdToken":{"idToken":"` + long + `","type":"Central"}`
		if s.version == ocpp.V201 {
			group = ""
		}
		for request, want := range map[string]string{
			`{"idToken":{"idToken":"GOOD","type":"ISO14443"}}`:                    `{"status":"Accepted","cacheExpiryDateTime":"T","groupIdToken":{"idToken":"family","type":"Central"}}`,
			`{"idToken":{"idToken":"blocked","type":"ISO14443"}}`:                 `{"status":"Blocked"}`,
			`{"idToken":{"idToken":"expired","type":"ISO14443"}}`:                 `{"status":"Expired","cacheExpiryDateTime":"T"}`,
			`{"idToken":{"idToken":"stranger","type":"ISO14443"}}`:                `{"status":"Unknown"}`,
			`{"idToken":{"idToken":"long","type":"ISO14443"}}`:                    `{"status":"Accepted"` + group + `}`,
			`{"idToken":{"idToken":"","type":"NoAuthorization"}}`:                 `{"status":"Accepted"}`,
			`{"idToken":{"idToken":"","type":"Central"}}`:                         `{"status":"Invalid"}`,
			`{"idToken":{"idToken":"long","type":"eMAID"},"certificate":""}`:      `{"status":"Accepted"` + group + `}`,
			`{"idToken":{"idToken":"good","type":"eMAID"},"certificate":"a PEM"}`: `{"status":"Invalid"},"certificateStatus":"CertChainError"`,
		} {
			s.expect(t, "Authorize", request, `{"idTokenInfo":`+want+`}`)
		}
	})
}

// Before it is accepted a station boots, and sends what it was asked for.
func TestRegistration2x(t *testing.T) {
	each2x(t, csms.Config{
		Settings: csms.Settings{RegistrationDefault: store.Pending, PendingInterval: 20 * time.Second},
		Call: func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) {
			return json.RawMessage(`{"status":"Accepted"}`), nil
		},
	}, func(t *testing.T, s speaker) {
		const (
			boot   = `{"reason":"PowerUp","chargingStation":{"vendorName":"V","model":"a model of more than 20 characters","serialNumber":"S","firmwareVersion":"1"}}`
			status = `{"timestamp":"2026-11-22T08:00:00Z","connectorStatus":"Occupied","evseId":1,"connectorId":2}`
			report = `{"requestId":1,"generatedAt":"2026-11-22T08:00:00Z","seqNo":0}`
		)
		refused := func(action, payload string) {
			t.Helper()
			if _, err := s.call(action, payload); code(err) != ocpp.SecurityError {
				t.Errorf("%s: %v, want SecurityError", action, err)
			}
		}
		command := func(action, payload string) {
			t.Helper()
			k, err := s.Command(t.Context(), csms.Command{Station: s.id, Action: action, Payload: json.RawMessage(payload)})
			if err != nil || k.Result != csms.ResultAccepted {
				t.Errorf("%s: %+v (%v)", action, k, err)
			}
		}
		refused("Heartbeat", `{}`)
		s.expect(t, "BootNotification", boot, `{"currentTime":"T","interval":20,"status":"Pending"}`)
		refused("StatusNotification", status)
		refused("NotifyReport", report)
		refused("TransactionEvent", transactionEvent(0, "Started", "", ""))
		command("TriggerMessage", `{"requestedMessage":"StatusNotification","evse":{"id":1,"connectorId":2}}`)
		s.expect(t, "StatusNotification", status, `{}`)
		refused("NotifyReport", report)
		command("GetBaseReport", `{"requestId":1,"reportBase":"FullInventory"}`)
		s.expect(t, "NotifyReport", report, `{}`)
		refused("Heartbeat", `{}`)
		if err := s.SetRegistration(t.Context(), s.id, store.Rejected, "test"); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "BootNotification", boot, `{"currentTime":"T","interval":300,"status":"Rejected"}`)
		refused("StatusNotification", status)
		if err := s.SetRegistration(t.Context(), s.id, store.Accepted, "test"); err != nil {
			t.Fatal(err)
		}
		s.expect(t, "BootNotification", boot, `{"currentTime":"T","interval":300,"status":"Accepted"}`)
		s.expect(t, "Heartbeat", `{}`, `{"currentTime":"T"}`)
		got, err := s.Record().Station(t.Context(), s.id)
		if err != nil || got.Vendor != "V" || got.Serial != "S" || got.Firmware != "1" || got.Version != s.version || !strings.Contains(got.BootQuality, "/chargingStation/model: maxLength 20") {
			t.Errorf("station %+v (%v)", got, err)
		}
		connectors, err := s.Record().Connectors(t.Context(), s.id)
		if err != nil || len(connectors) != 1 || connectors[0].EVSE != 1 || connectors[0].Connector != 2 || connectors[0].Status != "Occupied" {
			t.Errorf("connectors %+v (%v)", connectors, err)
		}
	})
}

func variables(t testing.TB, s speaker) map[store.VariableKey]store.Variable {
	t.Helper()
	l, err := s.Record().Variables(t.Context(), s.id, "", store.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	byKey := make(map[store.VariableKey]store.Variable)
	for _, v := range l.Items {
		byKey[v.VariableKey] = v
	}
	return byKey
}

// The parts of a report come in any order, and some of them twice.
func TestNotifyReport2x(t *testing.T) { each2x(t, csms.Config{}, testNotifyReport2x) }

func testNotifyReport2x(t *testing.T, s speaker) {
	const head = `{"requestId":4,"generatedAt":"2026-11-22T08:00:00Z",`
	parts := []string{
		head + `"seqNo":0,"tbc":true,"reportData":[
				{"component":{"name":"OCPPCommCtrlr"},"variable":{"name":"HeartbeatInterval"},"variableAttribute":[{"value":"300"}],
					"variableCharacteristics":{"dataType":"integer","unit":"s","supportsMonitoring":false}},
				{"component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"},"variableAttribute":[{"value":"hunter2","mutability":"WriteOnly"}]}]}`,
		head + `"seqNo":1,"tbc":true,"reportData":[
				{"component":{"name":"Connector","instance":"left","evse":{"id":1,"connectorId":2}},"variable":{"name":"Limit","instance":"max"},
					"variableAttribute":[{"type":"Target","value":"16","mutability":"ReadOnly"},{"type":"MaxSet","value":"32"}],"variableCharacteristics":null}]}`,
		head + `"seqNo":2}`,
	}
	for _, i := range []int{2, 1, 0, 1, 0} {
		s.expect(t, "NotifyReport", parts[i], `{}`)
	}
	got := variables(t, s)
	if len(got) != 4 {
		t.Errorf("%d attributes, want 4: %+v", len(got), got)
	}
	interval := got[store.VariableKey{Component: "OCPPCommCtrlr", Variable: "HeartbeatInterval", Attribute: "Actual"}]
	if interval.Value != "300" || interval.Mutability != "ReadWrite" || interval.DataType != "integer" || !strings.Contains(string(interval.Characteristics), `"unit":"s"`) {
		t.Errorf("interval %+v", interval)
	}
	target := got[store.VariableKey{Component: "Connector", ComponentInstance: "left", EVSE: 1, Connector: 2, Variable: "Limit", VariableInstance: "max", Attribute: "Target"}]
	if target.Value != "16" || target.Mutability != "ReadOnly" || target.DataType != "" || target.Characteristics != nil {
		t.Errorf("target %+v", target)
	}
	if v := got[store.VariableKey{Component: "SecurityCtrlr", Variable: "BasicAuthPassword", Attribute: "Actual"}]; v.Value != ocpp.Redacted {
		t.Errorf("password %+v", v)
	}
}

func TestNotifyEvent2x(t *testing.T) { each2x(t, csms.Config{}, testNotifyEvent2x) }

func testNotifyEvent2x(t *testing.T, s speaker) {
	event := func(id int, value, component, variable string) string {
		return fmt.Sprintf(`{"eventId":%d,"timestamp":"2026-11-22T08:%02d:00Z","trigger":"Delta","actualValue":%q,"eventNotificationType":"HardWiredNotification","component":%s,"variable":{"name":%q}}`,
			id, id, value, component, variable)
	}
	const connector = `{"name":"Connector","evse":{"id":1,"connectorId":1}}`
	request := `{"generatedAt":"2026-11-22T08:00:00Z","seqNo":0,"eventData":[` + strings.Join([]string{
		event(1, "Occupied", connector, "AvailabilityState"),
		event(2, "Faulted", strings.Replace(connector, "Connector", "connector", 1), "availabilitystate"),
		event(3, "Available", `{"name":"ChargingStation"}`, "AvailabilityState"),
		event(4, "true", connector, "Problem"),
	}, ",") + `]}`
	s.expect(t, "NotifyEvent", request, `{}`)
	s.expect(t, "NotifyEvent", request, `{}`)
	connectors, err := s.Record().Connectors(t.Context(), s.id)
	if err != nil || len(connectors) != 1 || connectors[0].EVSE != 1 || connectors[0].Connector != 1 || connectors[0].Status != "Faulted" ||
		!connectors[0].Since.Equal(now.Add(-2*time.Hour+2*time.Minute)) {
		t.Errorf("connectors %+v (%v)", connectors, err)
	}
	got := variables(t, s)
	if v := got[store.VariableKey{Component: "ChargingStation", Variable: "AvailabilityState", Attribute: "Actual"}]; v.Value != "Available" {
		t.Errorf("variables %+v", got)
	}
	if v := got[store.VariableKey{Component: "Connector", EVSE: 1, Connector: 1, Variable: "Problem", Attribute: "Actual"}]; v.Value != "true" {
		t.Errorf("variables %+v", got)
	}
	recorded, err := s.Record().RecordedMessages(t.Context(), s.id, "NotifyEvent", store.Page{})
	if err != nil || len(recorded.Items) != 1 {
		t.Errorf("%d messages recorded (%v), want 1", len(recorded.Items), err)
	}
	var many []string
	for i := range 101 {
		many = append(many, event(i%60, "Available", fmt.Sprintf(`{"name":"Connector","evse":{"id":1,"connectorId":%d}}`, i+1), "AvailabilityState"))
	}
	if _, err := s.call("NotifyEvent", `{"generatedAt":"2026-11-22T08:00:00Z","seqNo":0,"eventData":[`+strings.Join(many, ",")+`]}`); code(err) != ocpp.OccurrenceConstraintViolation {
		t.Errorf("states of 101 connectors: %v", err)
	}
}

// What a station says of its variables when asked is known afterwards.
func TestLearn2x(t *testing.T) {
	const (
		comm     = `"component":{"name":"OCPPCommCtrlr"}`
		interval = comm + `,"variable":{"name":"HeartbeatInterval"}`
		retries  = comm + `,"variable":{"name":"MessageAttempts","instance":"TransactionEvent"}`
		unknown  = comm + `,"variable":{"name":"Nothing"}`
	)
	learned := map[string]string{
		"GetVariables": `{"getVariableResult":[
			{"attributeStatus":"Accepted","attributeType":"Target","attributeValue":"30",` + interval + `},
			{"attributeStatus":"UnknownVariable",` + unknown + `}]}`,
		"SetVariables": `{"setVariableResult":[
			{"attributeStatus":"RebootRequired",` + strings.Replace(retries, "MessageAttempts", "messageattempts", 1) + `},
			{"attributeStatus":"Rejected",` + unknown + `},
			{"attributeStatus":"Accepted","attributeType":"Actual",` + interval + `}]}`,
	}
	each2x(t, csms.Config{Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
		return json.RawMessage(learned[call.Action]), nil
	}}, func(t *testing.T, s speaker) {
		s.expect(t, "Heartbeat", `{}`, `{"currentTime":"T"}`) // which says what it speaks
		for action, payload := range map[string]string{
			"GetVariables": `{"getVariableData":[{"attributeType":"Target",` + interval + `},{` + unknown + `}]}`,
			"SetVariables": `{"setVariableData":[{"attributeValue":"60",` + interval + `},{"attributeValue":"5",` + retries + `},{"attributeValue":"1",` + unknown + `}]}`,
		} {
			k, err := s.Command(t.Context(), csms.Command{Station: s.id, Action: action, Payload: json.RawMessage(payload)})
			if err != nil || k.Result != csms.ResultAccepted {
				t.Fatalf("%s: %+v (%v)", action, k, err)
			}
		}
		got := variables(t, s)
		for key, want := range map[store.VariableKey]string{
			{Component: "OCPPCommCtrlr", Variable: "HeartbeatInterval", Attribute: "Target"}:                                     "30",
			{Component: "OCPPCommCtrlr", Variable: "HeartbeatInterval", Attribute: "Actual"}:                                     "60",
			{Component: "OCPPCommCtrlr", Variable: "MessageAttempts", VariableInstance: "TransactionEvent", Attribute: "Actual"}: "5",
		} {
			if v, ok := got[key]; !ok || v.Value != want {
				t.Errorf("%+v is %q, want %q", key, v.Value, want)
			}
		}
		if len(got) != 3 {
			t.Errorf("%d variables, want 3: %+v", len(got), got)
		}
	})
}

// The chain goes out as it was asked for; what the authority does not sign is
// refused and recorded.
func TestSignCertificate2x(t *testing.T) {
	for version, id := range map[ocpp.Version]string{ocpp.V201: "", ocpp.V21: `,"requestId":0`} {
		delivered := make(chan string, 10)
		a := openAuthority(t, authority.NewStation{ID: "CS"})
		s := speaker{open(t, storetest.SQLite(t), csms.Config{
			Protocols: protocols2x,
			Authority: a,
			Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
				if call.Action == "CertificateSigned" {
					delivered <- call.Action + string(call.Payload)
				}
				return json.RawMessage(`{"status":"Accepted"}`), nil
			},
		}), "CS", version}
		connect(t, s.CSMS, "CS", version, 1)
		run(t, s.CSMS)
		s.expect(t, "SignCertificate", `{"csr":"request","certificateType":"V2GCertificate"}`, `{"status":"Rejected"}`)
		csr, err := json.Marshal(newRequest(t, "CS"))
		if err != nil {
			t.Fatal(err)
		}
		s.expect(t, "SignCertificate", `{"csr":`+string(csr)+`,"certificateType":"ChargingStationCertificate","requestId":0}`, `{"status":"Accepted"}`)
		got := delivery(t, s.CSMS, "CS", delivered)
		issued, err := a.Certificates(t.Context(), store.CertificateFilter{Station: "CS"}, store.Page{})
		if err != nil || len(issued.Items) != 1 {
			t.Fatalf("%d certificates (%v)", len(issued.Items), err)
		}
		chain, err := json.Marshal(a.pem(t, issued.Items[0].Fingerprint))
		if err != nil {
			t.Fatal(err)
		}
		if want := `CertificateSigned{"certificateChain":` + string(chain) + `,"certificateType":"ChargingStationCertificate"` + id + `}`; got != want {
			t.Errorf("station got %s, want %s", got, want)
		}
		recorded, err := s.Record().RecordedMessages(t.Context(), s.id, "SignCertificate", store.Page{})
		if err != nil || len(recorded.Items) != 2 {
			t.Errorf("%d messages recorded (%v), want 2", len(recorded.Items), err)
		}
	}
}

func TestNotifications2x(t *testing.T) {
	each2x(t, csms.Config{Settings: csms.Settings{DataTransferVendors: []string{"known"}}}, func(t *testing.T, s speaker) {
		s.expect(t, "FirmwareStatusNotification", `{"status":"Installed","requestId":4}`, `{}`)
		s.expect(t, "LogStatusNotification", `{"status":"Idle"}`, `{}`)
		s.expect(t, "PublishFirmwareStatusNotification", `{"status":"Published","requestId":5,"location":["https://example.com/fw"]}`, `{}`)
		s.expect(t, "SecurityEventNotification", `{"type":"Whatever","timestamp":"2026-11-22T08:00:00Z","techInfo":"x"}`, `{}`)
		s.expect(t, "DataTransfer", `{"vendorId":"known","data":{"any":["thing"]}}`, `{"status":"Accepted"}`)
		s.expect(t, "MeterValues", `{"evseId":3,"meterValue":[{"timestamp":"2026-11-22T08:00:00Z","sampledValue":[{"value":7,"vendors":"own"}]}]}`, `{}`)
		progress, err := s.Record().Progress(t.Context(), s.id)
		if err != nil || len(progress) != 3 || progress[0].Status != "Installed" || *progress[0].RequestID != 4 ||
			progress[1].RequestID != nil || progress[2].Kind != store.ProgressPublishFirmware {
			t.Errorf("progress %+v (%v)", progress, err)
		}
		events, err := s.Record().SecurityEvents(t.Context(), s.id, store.Page{})
		if err != nil || len(events.Items) != 1 || !events.Items[0].At.Equal(now.Add(-2*time.Hour)) {
			t.Errorf("security events %+v (%v)", events, err)
		}
		values := meterValues(t, s.CSMS, s.id, "")
		if len(values) != 1 || values[0].EVSE != 3 || string(values[0].Samples) != `[{"value":7,"vendors":"own"}]` || !strings.Contains(values[0].Quality, "vendors: unknown field") {
			t.Errorf("meter values %+v", values)
		}
	})
}

// What an answer would have to repeat wrongly is refused; the station is told why.
func TestRepeatedInAnswer21(t *testing.T) {
	s := speaker{open(t, storetest.SQLite(t), csms.Config{Protocols: protocols2x}), "CS", ocpp.V21}
	for action, payload := range map[string]string{
		"VatNumberValidation": `{"vatNumber":"a number of more than 20 characters"}`,
		"GetCertificateChainStatus": `{"certificateStatusRequests":[{"certificateHashData":{"hashAlgorithm":"MD5","issuerNameHash":"x","issuerKeyHash":"x","serialNumber":"x"},
			"source":"OCSP","urls":["http://127.0.0.1/"]}]}`,
	} {
		if _, err := s.call(action, payload); code(err) != ocpp.PropertyConstraintViolation {
			t.Errorf("%s: %v, want PropertyConstraintViolation", action, err)
		}
	}
}
