package ocpp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/ocpp/v16"
	"holdfast/ocpp/v201"
	"holdfast/ocpp/v21"
)

// packageOf is one version's message types.
type packageOf struct {
	version      ocpp.Version
	actions      []ocpp.Action
	lookup       func(string) (ocpp.Action, bool)
	count, sends int
	up, down     int // actions that a station, the CSMS may send
}

var packages = []packageOf{
	{ocpp.V16, v16.Actions(), v16.Lookup, 39, 0, 14, 26},
	{ocpp.V201, v201.Actions(), v201.Lookup, 64, 0, 25, 40},
	{ocpp.V21, v21.Actions(), v21.Lookup, 91, 1, 37, 55},
}

func TestActions(t *testing.T) {
	for _, p := range packages {
		sends, up, down := 0, 0, 0
		for _, a := range p.actions {
			found, ok := p.lookup(a.Name)
			if !ok || found.Name != a.Name || a.NewRequest == nil || a.Send != (a.NewResponse == nil) {
				t.Errorf("%s %s: %+v", p.version, a.Name, found)
			}
			if a.Send {
				sends++
			}
			if a.FromStation {
				up++
			}
			if a.FromCSMS {
				down++
			}
			if a.FromStation && a.FromCSMS && a.Name != "DataTransfer" || !a.FromStation && !a.FromCSMS {
				t.Errorf("%s %s: from station %v, from CSMS %v", p.version, a.Name, a.FromStation, a.FromCSMS)
			}
		}
		if len(p.actions) != p.count || sends != p.sends || up != p.up || down != p.down {
			t.Errorf("%s: %d actions, %d of them SENDs, %d up, %d down", p.version, len(p.actions), sends, up, down)
		}
		for _, name := range []string{"", "heartbeat", "Heartbeats", "Zz"} {
			if _, ok := p.lookup(name); ok {
				t.Errorf("%s: %q was found", p.version, name)
			}
		}
	}
}

// messages calls f with every request and response of every version.
func messages(t *testing.T, f func(t *testing.T, fresh func() any)) {
	for _, p := range packages {
		for _, a := range p.actions {
			t.Run(fmt.Sprintf("%s/%s/request", p.version, a.Name), func(t *testing.T) { f(t, a.NewRequest) })
			if a.NewResponse != nil {
				t.Run(fmt.Sprintf("%s/%s/response", p.version, a.Name), func(t *testing.T) { f(t, a.NewResponse) })
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	messages(t, func(t *testing.T, fresh func() any) {
		for _, full := range []bool{false, true} {
			message := fresh()
			fill(reflect.ValueOf(message).Elem(), "", full)
			payload, err := ocpp.Encode(message)
			if err != nil {
				t.Fatal(err)
			}
			back := fresh()
			tolerated, err := ocpp.Decode(payload, back, ocpp.Strict)
			if err != nil || len(tolerated) > 0 || !reflect.DeepEqual(back, message) {
				t.Errorf("%s\ncame back as %+v, %v %v", payload, back, tolerated, err)
			}
			again, err := ocpp.Encode(back)
			if err != nil || string(again) != string(payload) {
				t.Errorf("%s\nwas written again as %s, %v", payload, again, err)
			}
			// encoding/json reads and writes the same.
			plain := fresh()
			if err := json.Unmarshal(payload, plain); err != nil || !reflect.DeepEqual(plain, message) {
				t.Errorf("%s\nencoding/json reads %+v, %v", payload, plain, err)
			}
			var plainly bytes.Buffer
			e := json.NewEncoder(&plainly)
			e.SetEscapeHTML(false)
			if err := e.Encode(message); err != nil || strings.TrimSpace(plainly.String()) != string(payload) {
				t.Errorf("%s\nencoding/json writes %s, %v", payload, &plainly, err)
			}
		}
	})
}

// Each rule of each top-level field of every message is kept, with its code.
func TestEveryFieldIsChecked(t *testing.T) {
	messages(t, func(t *testing.T, fresh func() any) {
		message := fresh()
		fill(reflect.ValueOf(message).Elem(), "", true)
		payload, err := ocpp.Encode(message)
		if err != nil {
			t.Fatal(err)
		}
		typ := reflect.TypeOf(message).Elem()
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, rules := jsonName(f), rulesOf(f.Tag.Get("ocpp"))
			change := func(code ocpp.ErrorCode, mode ocpp.Mode, value string) {
				t.Helper()
				var fields map[string]json.RawMessage
				json.Unmarshal(payload, &fields)
				delete(fields, name)
				if value != "" {
					fields[name] = json.RawMessage(value)
				}
				changed, _ := json.Marshal(fields)
				tolerated, err := ocpp.Decode(changed, fresh(), mode)
				if code == "" {
					if err != nil {
						t.Errorf("%s is %.80s: %v", name, value, err)
					}
					return
				}
				answer, ok := errors.AsType[*ocpp.Error](err)
				if !ok && mode == ocpp.Tolerant && len(tolerated) == 1 {
					answer, ok = &ocpp.Error{Code: tolerated[0].Code}, true
				}
				if !ok || answer.Code != code {
					t.Errorf("%s is %.80s: %v, want %s", name, value, err, code)
				}
			}
			if _, required := rules["required"]; required {
				change(ocpp.OccurrenceConstraintViolation, ocpp.Tolerant, "")
			} else {
				change("", ocpp.Strict, "")
				change("", ocpp.Tolerant, "null")
			}
			kind := f.Type
			if kind.Kind() == reflect.Pointer {
				kind = kind.Elem()
			}
			if kind == rawType && !strings.Contains(f.Tag.Get("ocpp"), "customData") {
				continue // anything goes
			}
			wrong := "7"
			if k := kind.Kind(); k == reflect.Int || k == reflect.Float64 {
				wrong = `"7"`
			}
			change(ocpp.TypeConstraintViolation, ocpp.Tolerant, wrong)
			if n := rules["max"]; n != "" && kind.Kind() == reflect.String {
				long, _ := strconv.Atoi(n)
				change(ocpp.PropertyConstraintViolation, ocpp.Strict, `"`+strings.Repeat("x", long+1)+`"`)
				change(ocpp.PropertyConstraintViolation, ocpp.Tolerant, `"`+strings.Repeat("x", long+1)+`"`)
			}
			if _, ok := reflect.Zero(kind).Interface().(interface{ Values() []string }); ok {
				change(ocpp.PropertyConstraintViolation, ocpp.Strict, `"no such value"`)
				change(ocpp.PropertyConstraintViolation, ocpp.Tolerant, `"no such value"`)
			}
			if kind == timeType {
				change(ocpp.PropertyConstraintViolation, ocpp.Strict, `"2024-01-01T00:00:00"`)
			}
		}
	})
}

var (
	rawType  = reflect.TypeFor[json.RawMessage]()
	timeType = reflect.TypeFor[ocpp.DateTime]()
)

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func rulesOf(tag string) map[string]string {
	rules := map[string]string{}
	for part := range strings.SplitSeq(tag, ",") {
		key, value, _ := strings.Cut(part, "=")
		rules[key] = value
	}
	return rules
}

// fill makes v a valid value at the edge of its rules: with every field, the
// longest strings and arrays, or with what is required and the shortest ones.
func fill(v reflect.Value, tag string, full bool) {
	rules := rulesOf(tag)
	switch {
	case v.Type() == rawType:
		if _, ok := rules["customData"]; ok {
			v.SetBytes([]byte(`{"vendorId":"com.example","extra":[1,{"a":null}]}`))
		} else {
			v.SetBytes([]byte(`{"anything":["goes",1.5,false]}`))
		}
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(ocpp.NewDateTime(time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC))))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), tag, full)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			own := v.Type().Field(i).Tag.Get("ocpp")
			if _, required := rulesOf(own)["required"]; required || full {
				fill(v.Field(i), own, full)
			}
		}
	case v.Kind() == reflect.Slice:
		_, each, _ := strings.Cut(tag, "each,")
		low, high, _ := strings.Cut(rules["items"], "..")
		n, _ := strconv.Atoi(low)
		if full {
			n = max(n, 2)
			if most, err := strconv.Atoi(high); err == nil {
				n = min(most, 4)
			}
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), each, full)
		}
	case v.Kind() == reflect.String:
		if e, ok := v.Interface().(interface{ Values() []string }); ok {
			values := e.Values()
			v.SetString(values[0])
			if full {
				v.SetString(values[len(values)-1])
			}
			return
		}
		_, uri := rules["uri"]
		n, err := strconv.Atoi(rules["max"])
		switch {
		case uri:
			v.SetString("https://firmware.example/a?b=c&d=%20")
		case full && err == nil:
			v.SetString(strings.Repeat("é", n))
		default:
			v.SetString("x")
		}
	case v.Kind() == reflect.Int:
		v.SetInt(7)
		if n, err := strconv.Atoi(rules["le"]); err == nil {
			v.SetInt(int64(n))
		} else if full && rules["ge"] == "" {
			v.SetInt(-1 << 31)
		}
	case v.Kind() == reflect.Float64:
		v.SetFloat(1.5)
		if n, err := strconv.ParseFloat(rules["le"], 64); err == nil {
			v.SetFloat(n)
		}
	case v.Kind() == reflect.Bool:
		v.SetBool(full)
	}
}

// Facts that are easily got wrong. A payload is taken by Strict, or it is not.
func TestTrickyFacts(t *testing.T) {
	for _, tt := range []struct {
		version ocpp.Version
		action  string
		payload string
		ok      bool
	}{
		{ocpp.V16, "MeterValues", `{"connectorId":1,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1","unit":"Celsius"},{"value":"1","unit":"Celcius"}]}]}`, true},
		{ocpp.V16, "MeterValues", `{"connectorId":1,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":1}]}]}`, false},
		{ocpp.V16, "MeterValues", `{"connectorId":1,"meterValue":[]}`, false},
		{ocpp.V16, "MeterValues", `{"connectorId":1,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[]}]}`, false},
		{ocpp.V16, "StopTransaction", `{"transactionId":-1,"meterStop":0,"timestamp":"2024-01-01T00:00:00Z","transactionData":[]}`, true},
		{ocpp.V16, "StopTransaction", `{"transactionId":1,"meterStop":0,"timestamp":"2024-01-01T00:00:00Z","transactionData":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1","unit":"Celsius"}]}]}`, true},
		{ocpp.V16, "StopTransaction", `{"transactionId":1,"meterStop":0,"timestamp":"2024-01-01T00:00:00Z","reason":"DeAuthorized"}`, true},
		{ocpp.V16, "SetChargingProfile", `{"connectorId":1,"csChargingProfiles":{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Relative","chargingSchedule":{"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":6.1}]}}}`, true},
		{ocpp.V16, "SetChargingProfile", `{"connectorId":1,"csChargingProfiles":{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Relative","chargingSchedule":{"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":6.15}]}}}`, false},
		{ocpp.V16, "SetChargingProfile", `{"connectorId":1,"chargingProfile":{}}`, false},
		{ocpp.V16, "ChangeConfiguration", `{"key":"k","value":"` + strings.Repeat("x", 500) + `"}`, true},
		{ocpp.V16, "ChangeConfiguration", `{"key":"k","value":"` + strings.Repeat("x", 501) + `"}`, false},
		{ocpp.V16, "StatusNotification", `{"connectorId":0,"errorCode":"NoError","status":"SuspendedEVSE","info":"` + strings.Repeat("x", 50) + `"}`, true},
		{ocpp.V16, "StatusNotification", `{"connectorId":0,"errorCode":"NoError","status":"SuspendedEVSE","info":"` + strings.Repeat("x", 51) + `"}`, false},
		{ocpp.V16, "DataTransfer", `{"vendorId":"v","data":"{}"}`, true},
		{ocpp.V16, "DataTransfer", `{"vendorId":"v","data":{}}`, false},
		{ocpp.V16, "Reset", `{"type":"Immediate"}`, false},
		{ocpp.V16, "ExtendedTriggerMessage", `{"requestedMessage":"SignChargePointCertificate"}`, true},
		{ocpp.V16, "TriggerMessage", `{"requestedMessage":"SignChargePointCertificate"}`, false},
		{ocpp.V16, "UpdateFirmware", `{"location":"ftp://h/f","retrieveDate":"2024-01-01T00:00:00Z"}`, true},

		{ocpp.V201, "MeterValues", `{"evseId":1,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":1.25}]}]}`, true},
		{ocpp.V201, "MeterValues", `{"evseId":1,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1"}]}]}`, false},
		{ocpp.V201, "DataTransfer", `{"vendorId":"v","data":[1]}`, true},
		{ocpp.V201, "Authorize", `{"idToken":{"idToken":"` + strings.Repeat("x", 36) + `","type":"eMAID"}}`, true},
		{ocpp.V201, "Authorize", `{"idToken":{"idToken":"` + strings.Repeat("x", 37) + `","type":"eMAID"}}`, false},
		{ocpp.V201, "Authorize", `{"idToken":{"idToken":"x","type":"DirectPayment"}}`, false},
		{ocpp.V201, "Reset", `{"type":"ImmediateAndResume"}`, false},
		{ocpp.V201, "Heartbeat", `{"customData":{"vendorId":"v","any":{"thing":1}}}`, true},
		{ocpp.V201, "Heartbeat", `{"customData":{"any":1}}`, false},
		{ocpp.V201, "Heartbeat", `{"any":1}`, false},

		{ocpp.V21, "Authorize", `{"idToken":{"idToken":"` + strings.Repeat("x", 255) + `","type":"DirectPayment"}}`, true},
		{ocpp.V21, "Authorize", `{"idToken":{"idToken":"x","type":"` + strings.Repeat("x", 21) + `"}}`, false},
		{ocpp.V21, "Reset", `{"type":"ImmediateAndResume"}`, true},
		{ocpp.V21, "SignCertificate", `{"csr":"x","requestId":7,"certificateType":"V2G20Certificate"}`, true},
		{ocpp.V21, "NotifyPeriodicEventStream", `{"id":1,"pending":0,"basetime":"2024-01-01T00:00:00Z","data":[{"t":0.5,"v":"1"}]}`, true},
		{ocpp.V21, "NotifyPeriodicEventStream", `{"id":1,"pending":0,"baseTime":"2024-01-01T00:00:00Z","data":[{"t":0.5,"v":"1"}]}`, false},
		{ocpp.V21, "TriggerMessage", `{"requestedMessage":"CustomTrigger","customTrigger":"x"}`, true},
	} {
		i := slices.IndexFunc(packages, func(p packageOf) bool { return p.version == tt.version })
		a, ok := packages[i].lookup(tt.action)
		if !ok {
			t.Fatalf("%s %s: no such action", tt.version, tt.action)
		}
		if _, err := a.ValidateRequest(json.RawMessage(tt.payload)); err == nil != tt.ok {
			t.Errorf("%s %s %.120s: %v", tt.version, tt.action, tt.payload, err)
		}
	}
}

// What stations send against the schema does not stop them from charging.
func TestTolerated(t *testing.T) {
	for _, tt := range []struct {
		version ocpp.Version
		action  string
		payload string
		paths   []string
	}{
		{ocpp.V16, "BootNotification", `{"chargePointVendor":"A vendor with a name that is too long","chargePointModel":"","iccid":null,"imsi":"","extra":1}`,
			[]string{"/chargePointModel", "/chargePointVendor", "/extra", "/iccid"}},
		{ocpp.V16, "StatusNotification", `{"connectorId":1,"errorCode":"Error","status":"Available","info":"` + strings.Repeat("x", 51) + `","timestamp":"2024-01-01T00:00:00.1234567"}`,
			[]string{"/errorCode", "/info", "/timestamp"}},
		{ocpp.V16, "StartTransaction", `{"connectorId":1,"idTag":"` + strings.Repeat("x", 21) + `","meterStart":10.0,"timestamp":"1970-01-01T00:00:00Z","reservationId":null}`,
			[]string{"/idTag", "/reservationId", "/timestamp"}},
		{ocpp.V16, "MeterValues", `{"connectorId":1,"meterValue":[{"timestamp":"now","sampledValue":[{"value":"1","unit":"Hz","context":"Request.Energy"}]}]}`,
			[]string{"/meterValue/0/sampledValue/0/context", "/meterValue/0/sampledValue/0/unit", "/meterValue/0/timestamp"}},
		{ocpp.V201, "TransactionEvent", `{"eventType":"Ended","timestamp":"2024-01-01 00:00:00","triggerReason":"Whatever","seqNo":1,"transactionInfo":{"transactionId":"` + strings.Repeat("x", 37) + `"},"meterValue":[]}`,
			[]string{"/meterValue", "/timestamp", "/transactionInfo/transactionId", "/triggerReason"}},
	} {
		i := slices.IndexFunc(packages, func(p packageOf) bool { return p.version == tt.version })
		a, _ := packages[i].lookup(tt.action)
		tolerated, err := ocpp.Decode(json.RawMessage(tt.payload), a.NewRequest(), ocpp.Tolerant)
		paths := map[string]bool{}
		for _, v := range tolerated {
			paths[v.Path] = true
		}
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(paths)), tt.paths) {
			t.Errorf("%s %s: %v, tolerated %v", tt.version, tt.action, err, tolerated)
		}
	}
}
