package fleet

import (
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestJobs: a firmware update and a log upload are told status by status, with the
// id of the request, not before their time; a new one replaces the running one.
// The station restarts with the new firmware before it says that it is installed.
func TestJobs(t *testing.T) {
	ca := newTestCA(t)
	signer := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.issue(t, "Manufacturer").Certificate[0]}))
	later := time.Now().Add(24 * time.Hour).Format(time.RFC3339)
	firmware := func(at string) object {
		return object{"requestId": 7, "location": "https://127.0.0.1/fw", "retrieveDate": at, "firmware": object{"location": "https://127.0.0.1/fw", "retrieveDateTime": at, "signingCertificate": signer, "signature": "c2lnbmVk"}}
	}
	log := object{"requestId": 7, "logType": "DiagnosticsLog", "log": object{"remoteLocation": "https://127.0.0.1/log"}, "location": "https://127.0.0.1/log"}
	signed := []string{"DownloadScheduled", "Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting", "Installed"}
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
			if tt.postponed == nil {
				return
			}
			eventually(t, "FirmwareUpdated", func() (told bool) {
				s.look(cs, func(st *testStation) {
					events := st.payloads["SecurityEventNotification"]
					told = strings.Contains(string(events[len(events)-1]), `"FirmwareUpdated"`)
				})
				return told
			})
			s.look(cs, func(st *testStation) {
				boot := string(st.payloads["BootNotification"][st.boots-1])
				if st.boots != 2 || !strings.Contains(boot, `"firmwareVersion":"1.1"`) || tt.version.Is2x() != strings.Contains(boot, `"reason":"FirmwareUpdate"`) {
					t.Errorf("boot %d: %s", st.boots, boot)
				}
				boots, told := 0, 0 // statuses told before the restart: all but Installed
				for _, action := range st.seen {
					switch action {
					case "BootNotification":
						boots++
					case tt.notification:
						if boots == 1 {
							told++
						}
					}
				}
				if told != len(tt.want)-1 {
					t.Errorf("%d statuses before the restart, want %d", told, len(tt.want)-1)
				}
			})
		})
	}
}

// TestFirmwareWaits: the installation waits for the transactions to end, and
// nobody begins one meanwhile; firmware that nobody signed well is refused.
func TestFirmwareWaits(t *testing.T) {
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V201, 1, func(c *Config) { c.Behaviour = passive(); c.Behaviour.TimeFactor = 100 })
	const cs = "CS-0"
	want := func(action string, payload object, want string) {
		t.Helper()
		if got := s.status(cs, action, payload); got != want {
			t.Errorf("%s: %s, want %s", action, got, want)
		}
	}
	update := func(signer string) object {
		firmware := object{"location": "https://127.0.0.1/fw", "retrieveDateTime": "2020-01-01T00:00:00Z"}
		if signer != "" {
			firmware["signingCertificate"] = signer
		}
		return object{"requestId": 1, "firmware": firmware}
	}
	eventually(t, "boot", func() bool { return s.lastStatus(cs, 2) == "Available" })
	want("UpdateFirmware", update("nobody"), "InvalidCertificate")
	token := object{"idToken": "REMOTE", "type": "Central"}
	want("RequestStartTransaction", object{"idToken": token, "remoteStartId": 1, "evseId": 1}, "Accepted")
	want("UpdateFirmware", update(""), "Accepted")
	eventually(t, "the installation waits", func() bool { return s.lastStatus(cs, 2) == "Unavailable" })
	want("RequestStartTransaction", object{"idToken": token, "remoteStartId": 2, "evseId": 2}, "Rejected")
	if n := s.saw(cs, "FirmwareStatusNotification"); n != 2 {
		t.Errorf("%d statuses while a transaction runs", n)
	}
	var id string
	for tx := range f.Ledger().Transactions() {
		id = tx.ID
	}
	want("RequestStopTransaction", object{"transactionId": id}, "Accepted")
	eventually(t, "Installed", func() bool { return s.saw(cs, "FirmwareStatusNotification") == 5 })
	eventually(t, "free again", func() bool { return s.lastStatus(cs, 2) == "Available" })
	settle(t, f)
	if r := mustVerify(t, f, s); !r.OK() || r.Transactions != 1 {
		t.Errorf("%+v", r)
	}
}
