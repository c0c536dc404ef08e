package csms_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/csms"
	"holdfast/csms/action16"
	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestHandleRefuses(t *testing.T) {
	p := action16.Protocol()
	p.Handlers["Heartbeat"] = func(context.Context, *csms.CSMS, csms.Message) (json.RawMessage, error) { panic("boom") }
	c := open(t, storetest.SQLite(t), csms.Config{Protocols: map[ocpp.Version]csms.Protocol{ocpp.V16: p}})
	for _, tt := range []struct {
		version         ocpp.Version
		action, payload string
		want            ocpp.ErrorCode
	}{
		{ocpp.V16, "Nonsense", `{}`, ocpp.NotImplemented},
		{ocpp.V16, "authorize", `{"idTag":"x"}`, ocpp.NotImplemented}, // case matters
		{ocpp.V21, "Authorize", `{"idTag":"x"}`, ocpp.NotImplemented},
		{ocpp.V16, "Reset", `{"type":"Hard"}`, ocpp.NotSupported},
		{ocpp.V16, "Authorize", `{}`, ocpp.OccurrenceConstraintViolation},
		{ocpp.V16, "Authorize", `{"idTag":5}`, ocpp.TypeConstraintViolation},
		{ocpp.V16, "Heartbeat", `{}`, ocpp.InternalError},
	} {
		_, err := c.Handle(t.Context(), "CS", ocpp.Call{Version: tt.version, Action: tt.action, Payload: json.RawMessage(tt.payload)})
		if code(err) != tt.want {
			t.Errorf("%s %s: %v, want %s", tt.action, tt.payload, err, tt.want)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if v := l.GetValue(); v == "Nonsense" || v == "authorize" || v == "CS" {
					t.Errorf("%s has label %s=%s, which a station made up", f.GetName(), l.GetName(), v)
				}
			}
			if f.GetName() == "holdfast_csms_panics_total" && m.GetCounter().GetValue() != 1 {
				t.Errorf("%v panics counted", m.GetCounter().GetValue())
			}
		}
	}
}

func TestRegistration(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{Settings: csms.Settings{
			RegistrationDefault: store.Pending, TolerateBeforeAccept: []ocpp.Version{},
			HeartbeatInterval: time.Hour, PendingInterval: 20 * time.Second, RejectedInterval: 10 * time.Minute,
		}, Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			return json.RawMessage(`{"status":"Accepted"}`), nil
		}})
		other := open(t, where, csms.Config{}) // follows
		if strings.HasPrefix(where, "postgres") {
			run(t, other)
		}
		const boot = `{"chargePointVendor":"V","chargePointModel":"M","chargePointSerialNumber":"S","firmwareVersion":"1.2"}`
		expect := func(registration v16.RegistrationStatus, interval int, heartbeat ocpp.ErrorCode) {
			t.Helper()
			var answer v16.BootNotificationResponse
			ask(t, c, "CS", "BootNotification", boot, &answer)
			if answer.Status != registration || answer.Interval != interval || answer.CurrentTime.IsZero() {
				t.Errorf("booted as %+v, want %s, %d", answer, registration, interval)
			}
			if _, err := call(c, "CS", "Heartbeat", `{}`); code(err) != heartbeat {
				t.Errorf("heartbeat while %s: %v", registration, err)
			}
		}
		set := func(r store.Registration) {
			t.Helper()
			if err := c.SetRegistration(t.Context(), "CS", r, "test"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := call(c, "CS", "Heartbeat", `{}`); code(err) != ocpp.SecurityError {
			t.Errorf("heartbeat before the boot: %v", err)
		}
		expect("Pending", 20, ocpp.SecurityError)
		// What it is asked for, it may send; nothing else.
		k, err := c.Command(t.Context(), csms.Command{Station: "CS", Action: "TriggerMessage", Payload: json.RawMessage(`{"requestedMessage":"StatusNotification"}`)})
		if err != nil || k.Result != csms.ResultAccepted {
			t.Fatalf("trigger: %+v (%v)", k, err)
		}
		ask(t, c, "CS", "StatusNotification", `{"connectorId":1,"errorCode":"NoError","status":"Available"}`, nil)
		expect("Pending", 20, ocpp.SecurityError)
		set(store.Rejected)
		expect("Rejected", 600, ocpp.SecurityError)
		if strings.HasPrefix(where, "postgres") { // two processes
			eventually(t, func() bool {
				_, err := call(other, "CS", "Heartbeat", `{}`)
				return code(err) == ocpp.SecurityError
			}, "the other process does not follow to Rejected")
		}
		set(store.Accepted)
		expect("Accepted", 3600, "")
		if strings.HasPrefix(where, "postgres") {
			eventually(t, func() bool {
				_, err := call(other, "CS", "Heartbeat", `{}`)
				return err == nil
			}, "the other process does not follow to Accepted")
		}
		s, err := c.Record().Station(t.Context(), "cs")
		if err != nil || s.Vendor != "V" || s.Model != "M" || s.Serial != "S" || s.Firmware != "1.2" || s.Version != ocpp.V16 || s.Station != "CS" || s.BootAt.IsZero() {
			t.Errorf("station %+v (%v)", s, err)
		}
		tolerant := open(t, where, csms.Config{Settings: csms.Settings{RegistrationDefault: store.Pending}})
		ask(t, tolerant, "another", "StatusNotification", `{"connectorId":1,"errorCode":"NoError","status":"Available"}`, nil)
	})
}

// A known station's heartbeat needs no SQL; what does need it says so, and does
// not answer.
func TestWithoutDatabase(t *testing.T) {
	c := open(t, storetest.SQLite(t), csms.Config{})
	ask(t, c, "CS", "Heartbeat", `{}`, nil)
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Record().Close(); err != nil {
		t.Fatal(err)
	}
	ask(t, c, "CS", "Heartbeat", `{}`, nil)
	if err := c.Ready(t.Context()); err == nil {
		t.Error("ready without a database")
	}
	if _, err := call(c, "CS", "StartTransaction", fmt.Sprintf(start, 1)); code(err) != ocpp.InternalError {
		t.Errorf("StartTransaction: %v, want InternalError: the station repeats it", err)
	}
	if _, err := call(c, "CS", "Authorize", `{"idTag":"x"}`); !errors.Is(err, ocpp.ErrUnavailable) {
		t.Errorf("Authorize: %v, want no answer", err)
	}
}

// What is wrong in a message and does not matter is recorded beside it.
func TestQuality(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{Now: func() time.Time { return now }})
		ask(t, c, "CS", "BootNotification", `{"chargePointVendor":"a vendor's name of more than 20 characters","chargePointModel":"","iccid":null}`, nil)
		ask(t, c, "NUL", "BootNotification", `{"chargePointVendor":"V\u0000\u0000","chargePointModel":"M","x\u0000":1}`, nil)
		s, err := c.Record().Station(t.Context(), "CS")
		if err != nil || !strings.Contains(s.BootQuality, "/chargePointVendor: maxLength 20") {
			t.Errorf("boot quality %q (%v)", s.BootQuality, err)
		}
		ask(t, c, "CS", "StatusNotification", `{"connectorId":1,"errorCode":"Error","status":"Available","timestamp":"1970-01-01T00:00:07Z"}`, nil)
		connectors, err := c.Record().Connectors(t.Context(), "CS")
		if err != nil || len(connectors) != 1 || !strings.Contains(connectors[0].Quality, "/errorCode: enum") || !connectors[0].Since.Equal(now) {
			t.Errorf("connectors %+v (%v)", connectors, err)
		}
		ask(t, c, "CS", "StartTransaction", `{"connectorId":1,"idTag":"a tag of more than twenty characters","meterStart":0,"timestamp":"2026-11-22 09:00"}`, nil)
		if tx := transactions(t, c, "CS")[0]; !strings.Contains(tx.Quality, "maxLength 20") || !strings.Contains(tx.Quality, "date-time") {
			t.Errorf("transaction quality %q", tx.Quality)
		}
	})
}

func TestStatus(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		var events []csms.Event
		clock := now
		c := open(t, where, csms.Config{Publish: func(e csms.Event) { events = append(events, e) }, Now: func() time.Time { return clock }})
		const status = `{"connectorId":%d,"errorCode":"NoError","status":%q,"timestamp":%q}`
		ask(t, c, "CS", "StatusNotification", fmt.Sprintf(status, 1, "Available", "2026-11-22T08:00:00Z"), nil)
		ask(t, c, "CS", "StatusNotification", fmt.Sprintf(status, 1, "Available", "2026-11-22T09:00:00Z"), nil)
		ask(t, c, "CS", "StatusNotification", fmt.Sprintf(status, 0, "Available", "2099-01-01T00:00:00Z"), nil)
		k, err := c.Record().Connectors(t.Context(), "CS")
		if err != nil || len(k) != 2 || !k[1].Since.Equal(now.Add(-2*time.Hour)) || !k[0].Since.Equal(now) {
			t.Errorf("connectors %+v (%v): a status that stays keeps its beginning, one from the future begins now", k, err)
		}
		if len(events) != 2 || string(events[0].Data) != `{"connector":1,"status":"Available","error_code":"NoError"}` {
			t.Errorf("events %s", events)
		}
		// A station cannot fill the record with connectors.
		var last error
		for i := range 1010 {
			_, last = call(c, "CS", "StatusNotification", fmt.Sprintf(status, i, "Available", "2026-11-22T08:00:00Z"))
		}
		if code(last) != ocpp.OccurrenceConstraintViolation {
			t.Errorf("connector 1009: %v", last)
		}
	})
}

func TestNotifications(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		c := open(t, where, csms.Config{Settings: csms.Settings{DataTransferVendors: []string{"known"}}, Now: func() time.Time { return now }})
		ask(t, c, "CS", "FirmwareStatusNotification", `{"status":"Downloading"}`, nil)
		ask(t, c, "CS", "SignedFirmwareStatusNotification", `{"status":"Installed","requestId":4}`, nil)
		ask(t, c, "CS", "LogStatusNotification", `{"status":"Uploaded","requestId":9}`, nil)
		ask(t, c, "CS", "DiagnosticsStatusNotification", `{"status":"Idle"}`, nil)
		progress, err := c.Record().Progress(t.Context(), "CS")
		if err != nil || len(progress) != 3 || progress[1].Status != "Installed" || *progress[1].RequestID != 4 {
			t.Errorf("progress %+v (%v)", progress, err)
		}
		for i := range 70 {
			ask(t, c, "CS", "SecurityEventNotification", fmt.Sprintf(`{"type":"Whatever","timestamp":"2026-11-22T09:00:00Z","techInfo":"%d"}`, i%65), nil)
		}
		l, err := c.Record().SecurityEvents(t.Context(), "CS", store.Page{})
		if err != nil || len(l.Items) != 60 || l.Items[0].TechInfo != "59" {
			t.Errorf("%d security events (%v), want the first 60 of a minute", len(l.Items), err)
		}
		for vendor, want := range map[string]v16.DataTransferStatus{"known": "Accepted", "unknown": "UnknownVendorId"} {
			for i := range 60 {
				var answer v16.DataTransferResponse
				ask(t, c, "CS", "DataTransfer", fmt.Sprintf(`{"vendorId":%q,"data":"{\"password\":\"hunter2\",\"n\":%d}"}`, vendor, i), &answer)
				if answer.Status != want {
					t.Errorf("vendor %s: %s", vendor, answer.Status)
				}
			}
		}
		recorded, err := c.Record().RecordedMessages(t.Context(), "CS", "DataTransfer", store.Page{})
		if err != nil || len(recorded.Items) > 50 || len(recorded.Items) == 0 {
			t.Errorf("%d messages recorded (%v), want at most 50", len(recorded.Items), err)
		}
		for _, r := range recorded.Items {
			if strings.Contains(string(r.Payload), "hunter2") {
				t.Fatalf("secret recorded: %s", r.Payload)
			}
		}
	})
}
