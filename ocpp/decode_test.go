package ocpp

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

type colour string

func (colour) Values() []string { return []string{"Red", "Green"} }

// paint has a field of every kind.
type paint struct {
	Name   string          `json:"name" ocpp:"required,max=5"`
	Colour colour          `json:"colour" ocpp:"required"`
	Second colour          `json:"second,omitempty"`
	Note   string          `json:"note,omitempty" ocpp:"max=3"`
	Mixed  DateTime        `json:"mixed,omitzero"`
	Count  *int            `json:"count,omitempty" ocpp:"ge=0,le=100"`
	Share  *float64        `json:"share,omitempty" ocpp:"step=0.1"`
	Glossy *bool           `json:"glossy,omitempty"`
	Source string          `json:"source,omitempty" ocpp:"uri"`
	Layers []layer         `json:"layers,omitempty" ocpp:"items=1..3"`
	Inner  *nothing        `json:"inner,omitempty"`
	Tags   []string        `json:"tags,omitempty" ocpp:"each,max=2"`
	Base   *layer          `json:"base,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Custom json.RawMessage `json:"customData,omitempty" ocpp:"customData"`
}

type nothing struct {
	Note string `json:"note,omitempty"`
}

type layer struct {
	Depth int `json:"depth" ocpp:"required"`
}

const red = `"name":"a","colour":"Red"`

func TestDecodeViolations(t *testing.T) {
	const (
		ok       = iota // nothing to say
		noted           // allowed, and worth a note
		tolerate        // refused by Strict only
		refuse
	)
	for _, tt := range []struct {
		name, in string
		verdict  int
		path     string
		rule     string
		value    string
		code     ErrorCode
	}{
		{"minimal", `{` + red + `}`, ok, "", "", "", ""},
		{"blanks", " {\n\t\"name\" : \"a\" ,\r\n\"colour\":\"Red\" } ", ok, "", "", "", ""},
		{"other order", `{"colour":"Red","name":"a"}`, ok, "", "", "", ""},
		{"characters, not bytes", `{"name":"äöüßé","colour":"Red"}`, ok, "", "", "", ""},
		{"escapes", `{"n\u0061me":"\u00e4\n\"\\\ud83d\ude00","colour":"Red"}`, ok, "", "", "", ""},
		{"1.0 is an integer", `{` + red + `,"count":1.0}`, ok, "", "", "", ""},
		{"1e2 is an integer", `{` + red + `,"count":1e2}`, ok, "", "", "", ""},
		{"0.3 is a multiple of 0.1", `{` + red + `,"share":0.3}`, ok, "", "", "", ""},
		{"16.1", `{` + red + `,"share":16.1}`, ok, "", "", "", ""},
		{"any", `{` + red + `,"data":null}`, ok, "", "", "", ""},
		{"empty optional string", `{` + red + `,"note":""}`, ok, "", "", "", ""},
		{"open customData", `{` + red + `,"customData":{"vendorId":"v","x":[{}]}}`, ok, "", "", "", ""},

		{"empty required string", `{"name":"","colour":"Red"}`, noted, "/name", "not empty", "empty string", PropertyConstraintViolation},
		{"NUL", `{"name":"a\u0000","colour":"Red"}`, noted, "/name", "no NUL", "string with NUL", FormatViolation},
		{"clock not set", `{` + red + `,"mixed":"1970-01-01T00:00:00Z"}`, noted, "/mixed", "a clock that is set", "string, unset clock", PropertyConstraintViolation},

		{"too long", `{"name":"abcdef","colour":"Red"}`, tolerate, "/name", "maxLength 5", "string of 6 characters", PropertyConstraintViolation},
		{"too long item", `{` + red + `,"tags":["a","abc"]}`, tolerate, "/tags/1", "maxLength 2", "string of 3 characters", PropertyConstraintViolation},
		{"unknown value", `{"name":"a","colour":"Blue"}`, tolerate, "/colour", "enum", "string of 4 characters", PropertyConstraintViolation},
		{"empty enum", `{` + red + `,"second":""}`, tolerate, "/second", "enum", "string of 0 characters", PropertyConstraintViolation},
		{"null optional", `{` + red + `,"count":null}`, tolerate, "/count", "type integer", "null", TypeConstraintViolation},
		{"null object", `{` + red + `,"base":null}`, tolerate, "/base", "type object", "null", TypeConstraintViolation},
		{"unknown field", `{` + red + `,"x/~":true}`, tolerate, "/x~1~0", "unknown field", "boolean", FormatViolation},
		{"unknown field, deep", `{` + red + `,"base":{"depth":1,"y":[1,"]"]}}`, tolerate, "/base/y", "unknown field", "array", FormatViolation},
		{"twice", `{` + red + `,"name":"b"}`, tolerate, "/name", "once", "a second one", FormatViolation},
		{"too few", `{` + red + `,"layers":[]}`, tolerate, "/layers", "minItems 1", "array of 0 items", OccurrenceConstraintViolation},
		{"too many", `{` + red + `,"layers":[{"depth":1},{"depth":2},{"depth":3},{"depth":4}]}`, tolerate, "/layers", "maxItems 3", "array of 4 items", OccurrenceConstraintViolation},
		{"too small", `{` + red + `,"count":-1}`, tolerate, "/count", "minimum 0", "number below", PropertyConstraintViolation},
		{"too great", `{` + red + `,"count":101}`, tolerate, "/count", "maximum 100", "number above", PropertyConstraintViolation},
		{"between", `{` + red + `,"share":0.25}`, tolerate, "/share", "multipleOf 0.1", "number between", PropertyConstraintViolation},
		{"no URI", `{` + red + `,"source":"file.bin"}`, tolerate, "/source", "format uri", "string of 8 characters", PropertyConstraintViolation},
		{"not quite a URI", `{` + red + `,"source":"ftp://h/ä"}`, tolerate, "/source", "format uri", "string of 9 characters", PropertyConstraintViolation},
		{"no zone", `{` + red + `,"mixed":"2024-01-01T00:00:00"}`, tolerate, "/mixed", "format date-time", "string, assumed zone", PropertyConstraintViolation},
		{"no time", `{` + red + `,"mixed":"now"}`, tolerate, "/mixed", "format date-time", "string, unreadable", PropertyConstraintViolation},
		{"empty time", `{` + red + `,"mixed":""}`, tolerate, "/mixed", "format date-time", "empty string", PropertyConstraintViolation},

		{"missing", `{"colour":"Red"}`, refuse, "/name", "required", "nothing", OccurrenceConstraintViolation},
		{"missing, deep", `{` + red + `,"layers":[{"depth":1},{}]}`, refuse, "/layers/1/depth", "required", "nothing", OccurrenceConstraintViolation},
		{"null required", `{"name":null,"colour":"Red"}`, refuse, "/name", "type string", "null", TypeConstraintViolation},
		{"null item", `{` + red + `,"layers":[null]}`, refuse, "/layers/0", "type object", "null", TypeConstraintViolation},
		{"number for string", `{"name":1,"colour":"Red"}`, refuse, "/name", "type string", "number", TypeConstraintViolation},
		{"string for number", `{` + red + `,"share":"1"}`, refuse, "/share", "type number", "string", TypeConstraintViolation},
		{"string for boolean", `{` + red + `,"glossy":"true"}`, refuse, "/glossy", "type boolean", "string", TypeConstraintViolation},
		{"array for object", `{` + red + `,"base":[]}`, refuse, "/base", "type object", "array", TypeConstraintViolation},
		{"object for array", `{` + red + `,"layers":{"depth":1}}`, refuse, "/layers", "type array", "object", TypeConstraintViolation},
		{"boolean for time", `{` + red + `,"mixed":false}`, refuse, "/mixed", "type string", "boolean", TypeConstraintViolation},
		{"fraction", `{` + red + `,"count":1.5}`, refuse, "/count", "type integer", "number with a fraction", TypeConstraintViolation},
		{"beyond 32 bits", `{` + red + `,"count":2147483648}`, refuse, "/count", "32-bit integer", "number beyond", PropertyConstraintViolation},
		{"far beyond 32 bits", `{` + red + `,"count":1e300}`, refuse, "/count", "32-bit integer", "number beyond", PropertyConstraintViolation},
		{"beyond 64 bits", `{` + red + `,"share":1e999}`, refuse, "/share", "64-bit decimal", "number beyond", PropertyConstraintViolation},
		{"string for customData", `{` + red + `,"customData":"x"}`, refuse, "/customData", "type object", "string", TypeConstraintViolation},
		{"customData of nobody", `{` + red + `,"customData":{}}`, refuse, "/customData/vendorId", "required", "nothing", OccurrenceConstraintViolation},
		{"deep customData", `{` + red + `,"customData":{"vendorId":"v","x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + `}}`, refuse, "/customData/x", "depth 32", "deeper nesting", FormatViolation},
		{"deep data", `{` + red + `,"data":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, refuse, "/data", "depth 32", "deeper nesting", FormatViolation},
		{"endless items", `{` + red + `,"tags":[""` + strings.Repeat(`,""`, maxItems+5) + `]}`, refuse, "/tags", "at most 32768 items in a message", "more", OccurrenceConstraintViolation},
		{"array", `[]`, refuse, "", "type object", "array", TypeConstraintViolation},
		{"null", `null`, refuse, "", "type object", "null", TypeConstraintViolation},
		{"empty", ``, refuse, "", "JSON", "something else", FormatViolation},
		{"cut off", `{"name":"a"`, refuse, "", "JSON", "something else", FormatViolation},
		{"not UTF-8", "{\"name\":\"\xff\",\"colour\":\"Red\"}", refuse, "", "UTF-8", "other bytes", FormatViolation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, mode := range []Mode{Tolerant, Strict} {
				var got paint
				tolerated, err := Decode([]byte(tt.in), &got, mode)
				want := Violation{tt.path, tt.rule, tt.value, tt.code}
				if tt.verdict == refuse || tt.verdict == tolerate && mode == Strict {
					v, ok := errors.AsType[*ViolationError](err)
					if !ok || v.Violations[0] != want {
						t.Fatalf("mode %v: %v, want %v", mode, err, want)
					}
					answer, ok := errors.AsType[*Error](err)
					if !ok || answer.Code != tt.code || !json.Valid(answer.Details) {
						t.Errorf("mode %v: answers %v", mode, answer)
					}
					continue
				}
				if err != nil {
					t.Fatalf("mode %v: %v", mode, err)
				}
				if tt.verdict == ok && len(tolerated) > 0 || tt.verdict != ok && (len(tolerated) != 1 || tolerated[0] != want) {
					t.Errorf("mode %v: tolerated %v, want %v", mode, tolerated, want)
				}
			}
		})
	}
}

// What is tolerated is there to be used.
func TestDecodeKeepsWhatItTolerates(t *testing.T) {
	var got paint
	_, err := Decode([]byte(`{"name":"far too long","colour":"Octarine","count":1e2,"layers":[],"base":null,
		"data":{"a": 1},"mixed":"2024-01-01 10:00:00.1234567","x":1}`), &got, Tolerant)
	count := 100
	want := paint{Name: "far too long", Colour: "Octarine", Count: &count, Layers: []layer{}, Data: json.RawMessage(`{"a": 1}`),
		Mixed: ParseDateTime("2024-01-01 10:00:00.1234567")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func TestDecodeClears(t *testing.T) {
	got := paint{Note: "old", Layers: make([]layer, 3)}
	if _, err := Decode([]byte(`{`+red+`}`), &got, Strict); err != nil || got.Note != "" || got.Layers != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// A secret in a wrong place must not come back out of it.
func TestViolationsHoldNoValues(t *testing.T) {
	const secret = "hunter2hunter2"
	var got paint
	tolerated, err := Decode([]byte(`{"name":"`+secret+`","colour":"`+secret+`","count":"`+secret+`","x":"`+secret+`","mixed":"`+secret+`"}`), &got, Tolerant)
	answer, _ := errors.AsType[*Error](err)
	shown, _ := json.Marshal([]any{tolerated, err.Error(), answer})
	if strings.Contains(string(shown), secret) {
		t.Errorf("shows a value: %s", shown)
	}
}

func TestViolationsAreBounded(t *testing.T) {
	long := strings.Repeat("é", 1000)
	in := `{` + red + strings.Repeat(`,"`+long+`":1`, 500) + `,"tags":[1` + strings.Repeat(",1", 500) + `]}`
	var got paint
	tolerated, err := Decode([]byte(in), &got, Tolerant)
	if len(tolerated) != maxViolations || len(tolerated[0].Path) > 80 {
		t.Errorf("%d tolerated, the first at %s", len(tolerated), tolerated[0].Path)
	}
	v, ok := errors.AsType[*ViolationError](err)
	if !ok || len(v.Violations) != maxViolations {
		t.Fatalf("%v", err)
	}
	answer, _ := errors.AsType[*Error](err)
	if len(AppendError(nil, V16, "1", answer)) > 8192 {
		t.Error("the answer is long")
	}
	if want := "/tags/0: type string, found number (and 15 more)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
