package csms_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/authority"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestCommand(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		var answer string
		var fault error
		sent := ""
		c := open(t, where, csms.Config{Call: func(ctx context.Context, station ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			if station != "CS" || call.Version != ocpp.V16 {
				t.Errorf("call to %s in %s", station, call.Version)
			}
			if _, ok := ctx.Deadline(); !ok {
				t.Error("call without a deadline")
			}
			sent = string(call.Payload)
			if fault != nil {
				return nil, fault
			}
			return json.RawMessage(answer), nil
		}})
		if _, err := c.Command(t.Context(), csms.Command{Station: "nobody", Action: "Reset"}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("command to an unknown station: %v", err)
		}
		ask(t, c, "CS", "Heartbeat", `{}`, nil) // which says what it speaks
		for _, tt := range []struct {
			name, action, payload string
			answer                string
			fault                 error
			want, code            string
			sent                  string
		}{
			{"accepted", "Reset", `{ "type" : "Soft" }`, `{"status":"Rejected"}`, nil, csms.ResultAccepted, "", `{"type":"Soft"}`},
			{"no payload", "ClearCache", ``, `{"status":"Accepted"}`, nil, csms.ResultAccepted, "", `{}`},
			{"callerror", "Reset", `{"type":"Hard"}`, "", &ocpp.Error{Code: ocpp.NotSupported, Description: "no"}, csms.ResultCallError, "NotSupported", `{"type":"Hard"}`},
			{"timeout", "ClearCache", `{}`, "", ocpp.ErrTimeout, csms.ResultTimeout, "", `{}`},
			{"offline", "ClearCache", `{}`, "", ocpp.ErrOffline, csms.ResultOffline, "", `{}`},
			{"connection lost", "ClearCache", `{}`, "", ocpp.ErrConnectionLost, csms.ResultConnectionLost, "", `{}`},
			{"busy", "ClearCache", `{}`, "", ocpp.ErrBusy, csms.ResultBusy, "", `{}`},
			{"bus away", "ClearCache", `{}`, "", ocpp.ErrUnavailable, csms.ResultUnavailable, "", `{}`},
			{"answer lacks a field", "ClearCache", `{}`, `{}`, nil, csms.ResultInvalidAnswer, "", `{}`},
			{"request lacks a field", "Reset", `{}`, "", nil, csms.ResultInvalidRequest, "OccurrenceConstraintViolation", ""},
			{"request of another type", "Reset", `{"type":"Never"}`, "", nil, csms.ResultInvalidRequest, "PropertyConstraintViolation", ""},
			{"not JSON", "Reset", `{`, "", nil, csms.ResultInvalidRequest, "FormatViolation", ""},
			{"unknown action", "SetVariables", `{}`, "", nil, csms.ResultInvalidRequest, "", ""},
			{"not for stations", "BootNotification", `{}`, "", nil, csms.ResultInvalidRequest, "", ""},
		} {
			answer, fault, sent = tt.answer, tt.fault, ""
			k, err := c.Command(t.Context(), csms.Command{Station: "cs", Action: tt.action, Payload: json.RawMessage(tt.payload), By: "ann"})
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if k.Result != tt.want || k.ErrorCode != tt.code || sent != tt.sent || k.FinishedAt.IsZero() {
				t.Errorf("%s: result %s, code %q, sent %q; want %s, %q, %q", tt.name, k.Result, k.ErrorCode, sent, tt.want, tt.code, tt.sent)
			}
			if kept, err := c.Find(t.Context(), k.ID); err != nil || kept.Result != tt.want || kept.By != "ann" || kept.Station != "CS" {
				t.Errorf("%s: recorded %+v (%v)", tt.name, kept, err)
			}
			if tt.want == csms.ResultInvalidRequest && k.ErrorDescription == "" {
				t.Errorf("%s: not said what is wrong", tt.name)
			}
		}
		l, err := c.Record().Commands(t.Context(), "CS", store.Page{Limit: 5})
		if err != nil || len(l.Items) != 5 || l.Next == "" || l.Items[0].Action != "BootNotification" {
			t.Errorf("commands %+v (%v)", l, err)
		}
	})
}

// Secrets leave for the station and are in no record.
func TestCommandRedacted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		sent := ""
		answers := map[string]string{
			"ChangeConfiguration": `{"status":"Accepted"}`,
			"GetConfiguration":    `{"configurationKey":[{"key":"AuthorizationKey","readonly":false,"value":"hunter2"},{"key":"HeartbeatInterval","readonly":true,"value":"300"}]}`,
			"UpdateFirmware":      `{}`,
		}
		c := open(t, where, csms.Config{Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			sent = string(call.Payload)
			return json.RawMessage(answers[call.Action]), nil
		}})
		ask(t, c, "CS", "Heartbeat", `{}`, nil)
		for action, payload := range map[string]string{
			"ChangeConfiguration": `{"key":"AuthorizationKey","value":"hunter2"}`,
			"GetConfiguration":    `{}`,
			"UpdateFirmware":      `{"location":"ftp://user:hunter2@example.com/fw","retrieveDate":"2026-11-22T10:00:00Z"}`,
		} {
			k, err := c.Command(t.Context(), csms.Command{Station: "CS", Action: action, Payload: json.RawMessage(payload)})
			if err != nil || k.Result != csms.ResultAccepted {
				t.Fatalf("%s: %+v (%v)", action, k, err)
			}
			if action != "GetConfiguration" && !strings.Contains(sent, "hunter2") {
				t.Errorf("%s: the station got %s", action, sent)
			}
			kept, err := c.Find(t.Context(), k.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{string(k.Payload), string(k.Answer), string(kept.Payload), string(kept.Answer)} {
				if strings.Contains(text, "hunter2") {
					t.Errorf("%s: secret in %s", action, text)
				}
			}
		}
		// What the answers told is known, secrets by name only.
		l, err := c.Record().Variables(t.Context(), "CS", "", store.Page{})
		if err != nil || len(l.Items) != 2 {
			t.Fatalf("variables %+v (%v)", l, err)
		}
		if v := l.Items[0]; v.VariableKey.Variable != "AuthorizationKey" || v.Value != ocpp.Redacted {
			t.Errorf("variable %+v", v)
		}
		if v := l.Items[1]; v.Value != "300" || v.Mutability != "ReadOnly" || v.Attribute != "Actual" {
			t.Errorf("variable %+v", v)
		}
	})
}

func TestCommandAsync(t *testing.T) {
	release := make(chan struct{})
	c := open(t, storetest.SQLite(t), csms.Config{Call: func(ctx context.Context, _ ocpp.StationID, _ ocpp.Call) (json.RawMessage, error) {
		<-release
		return json.RawMessage(`{"status":"Accepted"}`), nil
	}})
	run(t, c)
	ask(t, c, "CS", "Heartbeat", `{}`, nil)
	k, err := c.CommandAsync(t.Context(), csms.Command{Station: "CS", Action: "ClearCache"})
	if err != nil || k.Result != csms.ResultPending {
		t.Fatalf("command %+v (%v)", k, err)
	}
	if kept, err := c.Find(t.Context(), k.ID); err != nil || kept.Result != csms.ResultPending {
		t.Errorf("recorded %+v (%v)", kept, err)
	}
	close(release)
	eventually(t, func() bool {
		kept, err := c.Find(t.Context(), k.ID)
		return err == nil && kept.Result == csms.ResultAccepted
	}, "no result")
	if k, err := c.CommandAsync(t.Context(), csms.Command{Station: "CS", Action: "Reset"}); err != nil || k.Result != csms.ResultInvalidRequest {
		t.Errorf("command %+v (%v)", k, err)
	}
	// A process that dies leaves a command without a result.
	lost, err := c.Record().AddCommand(t.Context(), store.Command{Station: "CS", Action: "ClearCache", Result: csms.ResultPending, Deadline: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if k, err := c.Find(t.Context(), lost); err != nil || k.Result != csms.ResultTimeout {
		t.Errorf("command of a dead process: %+v (%v)", k, err)
	}
}

// SignCertificate is answered first, then the chain goes to the station; a
// request that is repeated is one operation and one certificate.
func TestSignCertificate(t *testing.T) {
	delivered := make(chan string, 10)
	a := openAuthority(t, authority.NewStation{ID: "CS"})
	c := open(t, storetest.SQLite(t), csms.Config{
		Authority: a,
		Call: func(_ context.Context, _ ocpp.StationID, call ocpp.Call) (json.RawMessage, error) {
			if call.Action == "CertificateSigned" {
				delivered <- call.Action + string(call.Payload)
			}
			return json.RawMessage(`{"status":"Accepted"}`), nil
		},
	})
	connect(t, c, "CS", ocpp.V16, 1)
	request, err := json.Marshal(map[string]string{"csr": newRequest(t, "CS")})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer, err := call(c, "CS", "SignCertificate", string(request)); err != nil || answer != `{"status":"Accepted"}` {
			t.Fatalf("SignCertificate: %s (%v)", answer, err)
		}
	}
	run(t, c)
	got := delivery(t, c, "CS", delivered)
	issued, err := a.Certificates(t.Context(), store.CertificateFilter{Station: "CS"}, store.Page{})
	if err != nil || len(issued.Items) != 1 {
		t.Fatalf("%d certificates for one request (%v)", len(issued.Items), err)
	}
	chain, err := json.Marshal(a.pem(t, issued.Items[0].Fingerprint))
	if err != nil {
		t.Fatal(err)
	}
	if want := `CertificateSigned{"certificateChain":` + string(chain) + `}`; got != want {
		t.Errorf("station got %s, want %s", got, want)
	}
	eventually(t, func() bool {
		l, err := c.Record().Operations(t.Context(), store.OperationFilter{Station: "CS"}, store.Page{})
		return err == nil && len(l.Items) == 1 && l.Items[0].Status == store.OperationDone && l.Items[0].By == "station"
	}, "the renewal is not one operation that is done")
	without := open(t, storetest.SQLite(t), csms.Config{})
	if answer, err := call(without, "CS", "SignCertificate", string(request)); err != nil || answer != `{"status":"Rejected"}` {
		t.Errorf("without an authority: %s (%v)", answer, err)
	}
}
