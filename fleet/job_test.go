package fleet

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestJobs: a firmware update and a log upload are told status by status, with the
// id of the request, not before their time; a new one replaces the running one.
func TestJobs(t *testing.T) {
	later := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	firmware := func(at string) object {
		return object{"requestId": 7, "location": "https://127.0.0.1/fw", "retrieveDate": at, "firmware": object{"location": "https://127.0.0.1/fw", "retrieveDateTime": at}}
	}
	log := object{"requestId": 7, "logType": "DiagnosticsLog", "log": object{"remoteLocation": "https://127.0.0.1/log"}, "location": "https://127.0.0.1/log"}
	signed := []string{"Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed"}
	for _, tt := range []struct {
		version              ocpp.Version
		action, notification string
		payload, postponed   object // postponed nil: the action has no time
		want                 []string
		again                string // the answer while one runs; empty: it has no status
	}{
		{ocpp.V16, "UpdateFirmware", "FirmwareStatusNotification", firmware(""), firmware(later), []string{"Downloading", "Downloaded", "Installing", "Installed"}, ""},
		{ocpp.V16, "SignedUpdateFirmware", "SignedFirmwareStatusNotification", firmware(""), firmware(later), signed, "AcceptedCanceled"},
		{ocpp.V16, "GetDiagnostics", "DiagnosticsStatusNotification", log, nil, []string{"Uploading", "Uploaded"}, ""},
		{ocpp.V16, "GetLog", "LogStatusNotification", log, nil, []string{"Uploading", "Uploaded"}, "AcceptedCanceled"},
		{ocpp.V201, "UpdateFirmware", "FirmwareStatusNotification", firmware(""), firmware(later), signed, "AcceptedCanceled"},
		{ocpp.V21, "GetLog", "LogStatusNotification", log, nil, []string{"Uploading", "Uploaded"}, "AcceptedCanceled"},
	} {
		t.Run(string(tt.version)+" "+tt.action, func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			testFleet(t, s, nil, ocpp.ProfilePlain, tt.version, 1, func(c *Config) { c.Behaviour = passive(); c.Behaviour.TimeFactor = 100 })
			const cs = "CS-0"
			eventually(t, "boot", func() bool { return s.saw(cs, "StatusNotification") > 1 })
			if tt.postponed != nil { // the update that follows takes its place
				s.call(cs, tt.action, tt.postponed)
				if got := s.status(cs, tt.action, tt.payload); got != tt.again {
					t.Errorf("while another waits: %q, want %q", got, tt.again)
				}
			} else {
				s.call(cs, tt.action, tt.payload)
			}
			var got []string
			statuses := func() []string {
				s.look(cs, func(st *testStation) {
					got = nil
					for _, p := range st.payloads[tt.notification] {
						var x jobStatus
						json.Unmarshal(p, &x)
						got = append(got, x.Status)
						if wantID := tt.again != ""; wantID != (x.RequestID != nil && *x.RequestID == 7) {
							t.Errorf("%s", p)
						}
					}
				})
				return got
			}
			eventually(t, "the last status", func() bool { return len(statuses()) >= len(tt.want) })
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
