package csms_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/csms"
	"holdfast/csms/action201"
	"holdfast/csms/action21"
	"holdfast/ocpp"
	"holdfast/ocpp/v201"
	"holdfast/ocpp/v21"
	"holdfast/store"
	"holdfast/store/storetest"
)

var protocols2x = map[ocpp.Version]csms.Protocol{ocpp.V201: action201.Protocol(), ocpp.V21: action21.Protocol()}

var timestamps = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)

// speaker is a station that speaks OCPP 2.x.
type speaker struct {
	*csms.CSMS
	id      ocpp.StationID
	version ocpp.Version
}

func (s speaker) call(action, payload string) (json.RawMessage, error) {
	return s.Handle(context.Background(), s.id, ocpp.Call{Version: s.version, ID: "1", Action: action, Payload: json.RawMessage(payload)})
}

// expect sends a CALL that has to be answered with want; times in the answer are
// shown as "T".
func (s speaker) expect(t testing.TB, action, payload, want string) {
	t.Helper()
	answer, err := s.call(action, payload)
	if err != nil {
		t.Errorf("OCPP %s %s: %v", s.version, action, err)
		return
	}
	if got := timestamps.ReplaceAllString(string(answer), `"T"`); got != want {
		t.Errorf("OCPP %s %s: answer %s, want %s", s.version, action, got, want)
	}
}

// fill sets the fields of a message that are required, or all of them.
func fill(v reflect.Value, tag string, all bool) {
	var limit float64 // a number that the schema allows
	for p := range strings.SplitSeq(tag, ",") {
		if n, ok := strings.CutPrefix(p, "ge="); ok {
			limit, _ = strconv.ParseFloat(n, 64)
		}
	}
	switch v.Interface().(type) {
	case ocpp.DateTime:
		v.Set(reflect.ValueOf(ocpp.NewDateTime(now)))
		return
	case json.RawMessage:
		v.SetBytes([]byte(`{"vendorId":"vendor"}`))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), tag, all)
	case reflect.Struct:
		for i := range v.NumField() {
			if tag := v.Type().Field(i).Tag.Get("ocpp"); all || strings.HasPrefix(tag, "required") {
				fill(v.Field(i), tag, all)
			}
		}
	case reflect.Slice:
		_, each, _ := strings.Cut(tag, "each,")
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), each, all)
	case reflect.String:
		v.SetString("x:y")
		if e, ok := v.Interface().(interface{ Values() []string }); ok {
			v.SetString(e.Values()[0])
		}
	case reflect.Int:
		v.SetInt(int64(limit))
	case reflect.Float64:
		v.SetFloat(limit)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// answers are those that are not {}, to a request with the required fields only.
var answers = map[string]string{
	"Authorize":                `{"idTokenInfo":{"status":"Unknown"}}`,
	"BootNotification":         `{"currentTime":"T","interval":300,"status":"Accepted"}`,
	"DataTransfer":             `{"status":"UnknownVendorId"}`,
	"Get15118EVCertificate":    `{"status":"Failed","statusInfo":{"reasonCode":"NotEnabled"},"exiResponse":""}`,
	"GetCertificateStatus":     `{"status":"Failed","statusInfo":{"reasonCode":"NotEnabled"}}`,
	"Heartbeat":                `{"currentTime":"T"}`,
	"NotifyEVChargingSchedule": `{"status":"Accepted"}`,
	"SignCertificate":          `{"status":"Rejected"}`, // there is no authority

	"2.0.1 NotifyEVChargingNeeds":   `{"status":"Rejected"}`,
	"2.1 NotifyEVChargingNeeds":     `{"status":"NoChargingProfile"}`,
	"2.1 NotifyPeriodicEventStream": ``,
	"2.1 OpenPeriodicEventStream":   `{"status":"Accepted"}`,
	"2.1 PullDynamicScheduleUpdate": `{"status":"Rejected"}`,
	"2.1 VatNumberValidation":       `{"vatNumber":"x:y","status":"Rejected"}`,
	"2.1 GetCertificateChainStatus": `{"certificateStatus":[{"certificateHashData":{"hashAlgorithm":"SHA256","issuerNameHash":"x:y","issuerKeyHash":"x:y","serialNumber":"x:y"},"source":"CRL","status":"Failed","nextUpdate":"T"}]}`,
}

// Every action that a station may send is answered as its schema wants, with the
// required fields only and with all; what no rule reads is recorded.
func TestEveryAction2x(t *testing.T) {
	ruled := []string{"Authorize", "BootNotification", "FirmwareStatusNotification", "Heartbeat", "LogStatusNotification",
		"MeterValues", "NotifyReport", "SecurityEventNotification", "SignCertificate", "StatusNotification", "TransactionEvent"}
	for version, actions := range map[ocpp.Version][]ocpp.Action{ocpp.V201: v201.Actions(), ocpp.V21: v21.Actions()} {
		s := speaker{open(t, storetest.SQLite(t), csms.Config{Protocols: protocols2x}), "CS", version}
		for _, a := range actions {
			if !a.FromStation {
				if _, err := s.call(a.Name, `{}`); code(err) != ocpp.NotSupported {
					t.Errorf("OCPP %s %s: %v, want NotSupported", version, a.Name, err)
				}
				continue
			}
			for _, all := range []bool{false, true} {
				message := a.NewRequest()
				fill(reflect.ValueOf(message).Elem(), "", all)
				request, err := ocpp.Encode(message)
				if err != nil {
					t.Fatalf("OCPP %s %s: %v", version, a.Name, err)
				}
				answer, err := s.call(a.Name, string(request))
				if err != nil {
					t.Errorf("OCPP %s %s %s: %v", version, a.Name, request, err)
					continue
				}
				if a.NewResponse != nil {
					if _, err := ocpp.Decode(answer, a.NewResponse(), ocpp.Strict); err != nil {
						t.Errorf("OCPP %s %s: answer %s: %v", version, a.Name, answer, err)
					}
				}
				if all {
					continue
				}
				want, ok := answers[string(version)+" "+a.Name]
				if !ok {
					want, ok = answers[a.Name]
				}
				if !ok {
					want = `{}`
				}
				s.expect(t, a.Name, string(request), want)
			}
			recorded, err := s.Record().RecordedMessages(t.Context(), "CS", a.Name, store.Page{})
			if err != nil {
				t.Fatal(err)
			}
			want := 2 // the short one, which came twice, and the long one
			if slices.Contains(ruled, a.Name) {
				want = 0
			}
			if got := len(recorded.Items); got != want {
				t.Errorf("OCPP %s %s: %d messages recorded, want %d", version, a.Name, got, want)
			}
		}
		if _, err := s.call("Frobnicate", `{}`); code(err) != ocpp.NotImplemented {
			t.Errorf("unknown action: %v", err)
		}
	}
}

// FuzzHandle2x sends anything: it is answered as the schema wants, or with a
// CALLERROR that does not blame Holdfast.
func FuzzHandle2x(f *testing.F) {
	actions := map[bool][]ocpp.Action{false: v201.Actions(), true: v21.Actions()}
	for is21, list := range actions {
		for i, a := range list {
			message := a.NewRequest()
			fill(reflect.ValueOf(message).Elem(), "", true)
			if payload, err := ocpp.Encode(message); a.FromStation && err == nil {
				f.Add(is21, uint8(i), []byte(payload))
			}
		}
	}
	f.Add(true, uint8(0), []byte(`{`))
	c := open(f, storetest.SQLite(f), csms.Config{Protocols: protocols2x, Logger: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, is21 bool, i uint8, payload []byte) {
		list := actions[is21]
		a := list[int(i)%len(list)]
		s := speaker{c, "CS", ocpp.V201}
		if is21 {
			s.version = ocpp.V21
		}
		answer, err := s.call(a.Name, string(payload))
		switch {
		case err != nil && (code(err) == "" || code(err) == ocpp.InternalError):
			t.Errorf("OCPP %s %s %s: %v", s.version, a.Name, payload, err)
		case err == nil && a.NewResponse != nil:
			if _, err := ocpp.Decode(answer, a.NewResponse(), ocpp.Strict); err != nil {
				t.Errorf("OCPP %s %s: answer %s: %v", s.version, a.Name, answer, err)
			}
		}
	})
}
