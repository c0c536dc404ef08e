package csms_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store/storetest"
)

const (
	hashData  = `"hashAlgorithm":"SHA256","issuerNameHash":"aa","issuerKeyHash":"bb","serialNumber":"77"`
	exiAnswer = `{"status":"Accepted","exiResponse":"QUI="}`
)

// TestEVCertificate2x: what the provider says goes to the station if it is as the
// schema wants it; else the station is told Failed, never nothing.
func TestEVCertificate2x(t *testing.T) {
	request := `{"iso15118SchemaVersion":"urn:iso:15118:2:2013:MsgDef","action":"Install","exiRequest":"QUE="}`
	var says string
	var fails error
	each2x(t, csms.Config{EVCertificate: func(_ context.Context, station ocpp.StationID, v ocpp.Version, got json.RawMessage) (json.RawMessage, error) {
		if station != "CS" || !v.Is2x() || string(got) != request {
			t.Errorf("asked for %s, %s: %s", station, v, got)
		}
		return json.RawMessage(says), fails
	}}, func(t *testing.T, s speaker) {
		for _, tt := range []struct {
			says  string
			fails error
			want  string
		}{
			{exiAnswer, nil, exiAnswer},
			{`{"status":"Failed","exiResponse":""}`, nil, `{"status":"Failed","exiResponse":""}`},
			{`{"status":"Accepted"}`, nil, ""},
			{`{"status":"Perhaps","exiResponse":"QUI="}`, nil, ""},
			{`{"status":"Accepted","exiResponse":"` + strings.Repeat("x", 17001) + `"}`, nil, ""},
			{`[]`, nil, ""},
			{``, errors.New("away"), ""},
			{``, &csms.ForwardError{Code: csms.CodeInternalError, Err: errors.New("away")}, ""},
		} {
			says, fails = tt.says, tt.fails
			if tt.want == "" {
				tt.want = `{"status":"Failed","statusInfo":{"reasonCode":"InternalError"},"exiResponse":""}`
			}
			s.expect(t, "Get15118EVCertificate", request, tt.want)
		}
		if _, err := s.call("Get15118EVCertificate", `{"action":"Install"}`); code(err) == "" {
			t.Errorf("a broken request: %v", err)
		}
	})
}

// TestCertificateStatus2x: the OCSP response goes to the station as base64, if it
// fits into the answer of its version.
func TestCertificateStatus2x(t *testing.T) {
	var answer csms.OCSPAnswer
	var fails error
	each2x(t, csms.Config{OCSP: func(_ context.Context, q csms.OCSPQuestion) (csms.OCSPAnswer, error) {
		if want := (csms.OCSPQuestion{HashAlgorithm: "SHA256", IssuerNameHash: "aa", IssuerKeyHash: "bb", SerialNumber: "77", URLs: []string{"http://a/"}}); !reflect.DeepEqual(q, want) {
			t.Errorf("asked %+v", q)
		}
		return answer, fails
	}}, func(t *testing.T, s speaker) {
		limit := map[ocpp.Version]int{ocpp.V201: 5500, ocpp.V21: 18000}[s.version]
		for _, tt := range []struct {
			size  int
			fails error
			want  string
		}{
			{100, nil, ""},
			{limit / 4 * 3, nil, ""},
			{limit/4*3 + 1, nil, `{"status":"Failed","statusInfo":{"reasonCode":"TooLargeElement"}}`},
			{0, &csms.ForwardError{Code: csms.CodeInvalidURL, Err: errors.New("not listed")}, `{"status":"Failed","statusInfo":{"reasonCode":"InvalidURL"}}`},
			{0, errors.New("away"), `{"status":"Failed","statusInfo":{"reasonCode":"InternalError"}}`},
		} {
			answer, fails = csms.OCSPAnswer{Status: csms.StatusRevoked, DER: make([]byte, tt.size)}, tt.fails
			if tt.want == "" {
				tt.want = fmt.Sprintf(`{"status":"Accepted","ocspResult":%q}`, base64.StdEncoding.EncodeToString(answer.DER))
			}
			s.expect(t, "GetCertificateStatus", `{"ocspRequestData":{`+hashData+`,"responderURL":"http://a/"}}`, tt.want)
		}
	})
}

// TestCertificateChainStatus21: each certificate has its own answer, and says when
// to ask again.
func TestCertificateChainStatus21(t *testing.T) {
	next := now.Add(36 * time.Hour)
	s := open2x(t, storetest.SQLite(t), ocpp.V21, csms.Config{OCSP: func(_ context.Context, q csms.OCSPQuestion) (csms.OCSPAnswer, error) {
		switch q.URLs[0] {
		case "http://good/":
			return csms.OCSPAnswer{Status: csms.StatusGood, NextUpdate: next}, nil
		case "http://revoked/":
			return csms.OCSPAnswer{Status: csms.StatusRevoked}, nil
		case "http://away/":
			return csms.OCSPAnswer{}, errors.New("away")
		}
		return csms.OCSPAnswer{}, &csms.ForwardError{Code: csms.CodeInvalidURL, Err: errors.New("not listed")}
	}})
	ask := func(source, url string) (status, nextUpdate string) {
		t.Helper()
		payload, err := s.call("GetCertificateChainStatus", fmt.Sprintf(`{"certificateStatusRequests":[{"certificateHashData":{%s},"source":%q,"urls":[%q]}]}`, hashData, source, url))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			CertificateStatus []struct{ Status, NextUpdate string }
		}
		if err := json.Unmarshal(payload, &answer); err != nil || len(answer.CertificateStatus) != 1 {
			t.Fatalf("%s: %v", payload, err)
		}
		return answer.CertificateStatus[0].Status, answer.CertificateStatus[0].NextUpdate
	}
	at := func(d time.Duration) string { return now.Add(d).Format("2006-01-02T15:04:05Z") }
	for _, tt := range []struct{ source, url, status, next string }{
		{"OCSP", "http://good/", "Good", at(36 * time.Hour)},
		{"OCSP", "http://revoked/", "Revoked", at(time.Hour)},
		{"OCSP", "http://away/", "Failed", at(time.Hour)},
		{"OCSP", "http://elsewhere/", "Failed", at(24 * time.Hour)},
		{"CRL", "http://good/", "Failed", at(24 * time.Hour)},
	} {
		if status, next := ask(tt.source, tt.url); status != tt.status || next != tt.next {
			t.Errorf("%s %s: %s until %s, want %s until %s", tt.source, tt.url, status, next, tt.status, tt.next)
		}
	}
}
