package ocpp

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func TestEncode(t *testing.T) {
	at := NewDateTime(time.Date(2024, 2, 3, 4, 5, 6, 789e6, time.UTC))
	for _, tt := range []struct {
		name string
		in   paint
		want string
	}{
		{"empty ones are left out", paint{Name: "a", Colour: "Red", Layers: []layer{}, Data: json.RawMessage{}}, `{` + red + `}`},
		{"zero is not empty", paint{Name: "a", Colour: "Red", Count: ptr(0), Glossy: ptr(false), Base: &layer{}},
			`{` + red + `,"count":0,"glossy":false,"base":{"depth":0}}`},
		{"nor is an object that says nothing written", paint{Name: "a", Colour: "Red", Inner: &nothing{}, Tags: []string{"x"}}, `{` + red + `,"tags":["x"]}`},
		{"order", paint{Name: "a", Colour: "Red", Second: "Green", Mixed: at, Tags: []string{"x", "y"}, Layers: []layer{{1}, {2}}},
			`{` + red + `,"second":"Green","mixed":"2024-02-03T04:05:06Z","layers":[{"depth":1},{"depth":2}],"tags":["x","y"]}`},
		{"required may be empty", paint{Colour: "Red"}, `{"name":"","colour":"Red"}`},
		{"decimals", paint{Name: "a", Colour: "Red", Share: ptr(0.1 + 0.2)}, `{` + red + `,"share":0.3}`},
		{"negative zero", paint{Name: "a", Colour: "Red", Share: ptr(math.Copysign(0, -1))}, `{` + red + `,"share":0}`},
		{"no exponent", paint{Name: "a", Colour: "Red", Share: ptr(1e21)}, `{` + red + `,"share":1000000000000000000000}`},
		{"no needless escapes", paint{Name: "<é>&\"", Colour: "Red"}, `{"name":"<é>&\"","colour":"Red"}`},
		{"needed escapes", paint{Name: "\\\n\r\t\x01", Colour: "Red"}, `{"name":"\\\n\r\t\u0001","colour":"Red"}`},
		{"free-form", paint{Name: "a", Colour: "Red", Data: json.RawMessage(` [1, 2]`), Custom: json.RawMessage(`{"vendorId":"v","x":null}`)},
			`{` + red + `,"data":[1, 2],"customData":{"vendorId":"v","x":null}}`},
	} {
		got, err := Encode(tt.in)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", tt.name, got, err, tt.want)
		}
		if again, err := Encode(&tt.in); err != nil || string(again) != tt.want {
			t.Errorf("%s, by pointer: %s, %v", tt.name, again, err)
		}
		var back paint
		if _, err := Decode(got, &back, Strict); err != nil {
			t.Errorf("%s: not accepted back: %v", tt.name, err)
		}
	}
}

func TestEncodeIsStrict(t *testing.T) {
	for _, tt := range []struct {
		in         paint
		path, rule string
		code       ErrorCode
	}{
		{paint{Name: "abcdef", Colour: "Red"}, "/name", "maxLength 5", PropertyConstraintViolation},
		{paint{Name: "\xff", Colour: "Red"}, "/name", "UTF-8", FormatViolation},
		{paint{Name: "a"}, "/colour", "enum", PropertyConstraintViolation},
		{paint{Name: "a", Colour: "Blue"}, "/colour", "enum", PropertyConstraintViolation},
		{paint{Name: "a", Colour: "Red", Count: ptr(101)}, "/count", "maximum 100", PropertyConstraintViolation},
		{paint{Name: "a", Colour: "Red", Count: ptr(1 << 40)}, "/count", "32-bit integer", PropertyConstraintViolation},
		{paint{Name: "a", Colour: "Red", Share: ptr(math.NaN())}, "/share", "type number", TypeConstraintViolation},
		{paint{Name: "a", Colour: "Red", Layers: make([]layer, 4)}, "/layers", "maxItems 3", OccurrenceConstraintViolation},
		{paint{Name: "a", Colour: "Red", Tags: []string{"abc"}}, "/tags/0", "maxLength 2", PropertyConstraintViolation},
		{paint{Name: "a", Colour: "Red", Data: json.RawMessage(`{`)}, "/data", "JSON", FormatViolation},
		{paint{Name: "a", Colour: "Red", Custom: json.RawMessage(`{}`)}, "/customData/vendorId", "required", OccurrenceConstraintViolation},
		{paint{Name: "a", Colour: "Red", Mixed: DateTime{Time: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}}, "/mixed", "format date-time", PropertyConstraintViolation},
	} {
		got, err := Encode(tt.in)
		v, ok := errors.AsType[*ViolationError](err)
		if !ok || v.Violations[0].Path != tt.path || v.Violations[0].Rule != tt.rule || v.Violations[0].Code != tt.code {
			t.Errorf("%s, %v: want %s at %s", got, err, tt.rule, tt.path)
		}
	}
}

func TestEncodeRequiredTime(t *testing.T) {
	type clock struct {
		Now DateTime `json:"now" ocpp:"required"`
	}
	if got, err := Encode(clock{}); err == nil {
		t.Errorf("no time was written as %s", got)
	}
}

func TestValidateRequest(t *testing.T) {
	a := Action{NewRequest: New[paint]}
	got, err := a.ValidateRequest([]byte(` {"colour":"Red", "note":"", "name":"a","share":1.50, "count":2.0} `))
	if want := `{` + red + `,"count":2,"share":1.5}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for _, wrong := range []string{`{` + red + `,"count":null}`, `{` + red + `,"x":1}`, `{"name":"abcdef","colour":"Red"}`, `{`} {
		if got, err := a.ValidateRequest([]byte(wrong)); err == nil {
			t.Errorf("%s goes out as %s", wrong, got)
		}
	}
}
