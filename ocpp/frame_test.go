package ocpp

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Frame
		id   MessageID // of the FrameError
		code ErrorCode
	}{
		{in: `[2,"1","Heartbeat",{}]`, want: Frame{Type: TypeCall, ID: "1", Action: "Heartbeat", Payload: []byte(`{}`)}},
		{in: "[ 2 ,\n\"1\" , \"Heartbeat\" , { } ] \x00", want: Frame{Type: TypeCall, ID: "1", Action: "Heartbeat", Payload: []byte(`{ }`)}},
		{in: `[2,"1","Heartbeat",null]`, want: Frame{Type: TypeCall, ID: "1", Action: "Heartbeat", Payload: []byte(`{}`)}},
		{in: `[3,"1",{"a":1}]`, want: Frame{Type: TypeResult, ID: "1", Payload: []byte(`{"a":1}`)}},
		{in: `[6,"1","NotifyPeriodicEventStream",{}]`, want: Frame{Type: TypeSend, ID: "1", Action: "NotifyPeriodicEventStream", Payload: []byte(`{}`)}},
		{in: `[4,"1","GenericError","",{}]`, want: Frame{Type: TypeError, ID: "1"}},
		{in: `[2,"1"]`, id: "1", code: ProtocolError},
		{in: `[2,"1","Heartbeat"]`, id: "1", code: ProtocolError},
		{in: `[2,"1","Heartbeat",[]]`, id: "1", code: FormatViolation},
		{in: `[2,"1",7,{}]`, id: "1", code: ProtocolError},
		{in: `[2,7,"Heartbeat",{}]`, id: "-1", code: RPCFrameworkError},
		{in: `[2,"","Heartbeat",{}]`, id: "-1", code: RPCFrameworkError},
		{in: `[9,"1","Heartbeat",{}]`, id: "1", code: MessageTypeNotSupported},
		{in: `[]`, id: "-1", code: RPCFrameworkError},
		{in: `{}`, id: "-1", code: RPCFrameworkError},
		{in: ``, id: "-1", code: RPCFrameworkError},
		{in: `[2,"17","Heartbeat",{`, id: "17", code: FormatViolation},
		{in: `,[2,"17","Heartbeat",{}]`, id: "17", code: FormatViolation},
		{in: "[2,\"17\",\"X\",{\"a\":\"\xff\"}]", id: "17", code: FormatViolation},
		{in: `[2,"` + strings.Repeat("x", 300) + `","A",{}]`, id: "-1", code: RPCFrameworkError},
	} {
		got, err := Parse([]byte(tt.in))
		if tt.code != "" {
			if err == nil || err.ID != tt.id || err.Code != tt.code {
				t.Errorf("Parse(%q): %+v, %v, want %s for %s", tt.in, got, err, tt.code, tt.id)
			}
			continue
		}
		if err != nil || got.Type != tt.want.Type || got.ID != tt.want.ID || got.Action != tt.want.Action || string(got.Payload) != string(tt.want.Payload) {
			t.Errorf("Parse(%q) = %+v, %v", tt.in, got, err)
		}
	}
}

func TestAppend(t *testing.T) {
	for got, want := range map[string]string{
		string(AppendCall(nil, "1", "Reset", []byte(`{"type":"Soft"}`), false)):                                                  `[2,"1","Reset",{"type":"Soft"}]`,
		string(AppendCall(nil, "1", "X", nil, true)):                                                                             `[6,"1","X",{}]`,
		string(AppendResult(nil, "\"", nil)):                                                                                     `[3,"\"",{}]`,
		string(AppendError(nil, V16, "1", &Error{Code: FormatViolation})):                                                        `[4,"1","FormationViolation","",{}]`,
		string(AppendError(nil, V16, "1", &Error{Code: OccurrenceConstraintViolation})):                                          `[4,"1","OccurenceConstraintViolation","",{}]`,
		string(AppendError(nil, V201, "1", &Error{Code: OccurrenceConstraintViolation, Details: json.RawMessage(`{"path":1}`)})): `[4,"1","OccurrenceConstraintViolation","",{"path":1}]`,
		string(AppendResultError(nil, "1", &Error{Code: GenericError, Description: "x"})):                                        `[5,"1","GenericError","x",{}]`,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	long := AppendError(nil, V21, "1", &Error{Code: GenericError, Description: strings.Repeat("ü", 300)})
	if f, err := Parse(long); err != nil || len([]rune(f.Err.Description)) != 255 {
		t.Errorf("long description: %v %v", f, err)
	}
}

func TestParseStationID(t *testing.T) {
	for path, want := range map[string]StationID{
		"/ocpp/CS1":                         "CS1",
		"//ocpp///CS1/":                     "CS1",
		"/ocpp/RDAM%20123?x=1":              "RDAM 123",
		"/RDAM%7C123":                       "RDAM|123",
		"/ocpp/RDAM|123":                    "RDAM|123",
		"/a/b/c/AL.1*":                      "AL.1*",
		"/ocpp/%C3%BC":                      "ü",
		"/":                                 "",
		"":                                  "",
		"/ocpp/%2":                          "",
		"/ocpp/a%2Fb":                       "",
		"/ocpp/a%00b":                       "",
		"/ocpp/%ff":                         "",
		"/ocpp/%20":                         "",
		"/ocpp/" + strings.Repeat("x", 256): "",
	} {
		got, err := ParseStationID(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseStationID(%q) = %q, %v", path, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`[2,"1","Heartbeat",{}]`, `[3,"1",{}]`, `[4,"1","E","d",{}]`, `[2,"1"]`, `[[[`, `[2,"\u0000","a",{}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := Parse(data)
		if err != nil {
			if err.ID == "" || err.Code == "" {
				t.Fatalf("%q: nothing to answer: %+v", data, err)
			}
			AppendError(nil, V201, err.ID, &Error{Code: err.Code, Description: err.What})
			return
		}
		if frame.Type == TypeCall {
			again, err := Parse(AppendCall(nil, frame.ID, frame.Action, frame.Payload, false))
			if err != nil || again.ID != frame.ID || again.Action != frame.Action {
				t.Fatalf("%q does not survive: %v", data, err)
			}
		}
		Redact(data)
	})
}

func FuzzParseStationID(f *testing.F) {
	for _, s := range []string{"/ocpp/CS1", "/%7C", "/%", "//a//", "/a?b", "/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		id, err := ParseStationID(path)
		if err == nil && id.Check() != nil {
			t.Fatalf("%q: accepted identity %q fails its own check", path, id)
		}
	})
}

func TestVersionOf(t *testing.T) {
	for name, want := range map[string]Version{"ocpp1.6": V16, "OCPP2.0.1": V201, "ocpp2.1": V21, "ocpp2.0": "", "": ""} {
		if got, ok := VersionOf(name); got != want || ok != (want != "") {
			t.Errorf("VersionOf(%q) = %q", name, got)
		}
	}
	var err error = &Error{Code: GenericError}
	if e, ok := errors.AsType[*Error](err); !ok || e.Error() != "GenericError" {
		t.Error("Error is not an error")
	}
}
