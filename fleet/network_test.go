package fleet

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/ocpp"
)

// setVariable sets one variable of a 2.x station and returns the attributeStatus.
func (s *testServer) setVariable(station string, c component, v, value string) string {
	s.t.Helper()
	frame := s.call(station, "SetVariables", object{"setVariableData": []object{{"attributeValue": value, "component": c, "variable": object{"name": v}}}})
	var answer struct {
		Results []variableResult `json:"setVariableResult"`
	}
	json.Unmarshal(frame.Payload, &answer)
	if len(answer.Results) != 1 {
		s.t.Fatalf("SetVariables: %s", frame.Payload)
	}
	return answer.Results[0].Status
}

// sign gives a station a certificate that its server will know as the station's.
func (s *testServer) sign(station, trigger, message string, ca *testCA) {
	s.t.Helper()
	requests := s.csrs(station)
	if got := s.status(station, trigger, object{"requestedMessage": message}); got != "Accepted" {
		s.t.Fatalf("trigger: %s", got)
	}
	r := <-requests
	with := object{"certificateChain": pemOf(ca.sign(s.t, station, r.parsed.PublicKey))}
	if r.RequestID != nil {
		with["requestId"] = *r.RequestID
	}
	if got := s.status(station, "CertificateSigned", with); got != "Accepted" {
		s.t.Fatalf("CertificateSigned: %s", got)
	}
}

// TestRaiseProfile16 takes a 1.6 station from security profile 2 to 3, and back
// where profile 3 does not work.
func TestRaiseProfile16(t *testing.T) {
	ca := newTestCA(t)
	for _, works := range []bool{true, false} {
		t.Run(map[bool]string{true: "works", false: "refused"}[works], func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfileTLS, ca)
			clients := ca
			if !works {
				clients = newTestCA(t)
			}
			up := newTestServer(t, ocpp.ProfileMTLS, ca)
			f, _ := testFleet(t, s, ca, ocpp.ProfileTLS, ocpp.V16, 1, func(c *Config) {
				c.Behaviour = passive()
				c.Targets[ocpp.ProfileMTLS] = up.target()
			})
			eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
			raise := func(value string) string {
				return s.status("CS-0", "ChangeConfiguration", object{"key": "SecurityProfile", "value": value})
			}
			for _, value := range []string{"1", "2", "3", "4", "x"} { // 3: there is no certificate yet
				if got := raise(value); got != "Rejected" {
					t.Errorf("SecurityProfile %s: %s", value, got)
				}
			}
			s.sign("CS-0", "ExtendedTriggerMessage", "SignChargePointCertificate", clients)
			if got := raise("3"); got != "Accepted" {
				t.Fatalf("SecurityProfile 3: %s", got)
			}
			now, profile := up, "3"
			if !works {
				eventually(t, "fall back", func() bool { return f.Stats().Errors["tls"] >= networkAttempts && f.Stats().Connected[2] == 1 })
				now, profile = s, "2"
			} else {
				eventually(t, "profile 3", func() bool { return f.Stats().Connected[3] == 1 })
			}
			frame := now.call("CS-0", "GetConfiguration", object{"key": []string{"SecurityProfile"}})
			if !strings.Contains(string(frame.Payload), `"value":"`+profile+`"`) {
				t.Errorf("%s", frame.Payload)
			}
			if n := f.Stats().Connected; n[2]+n[3] != 1 {
				t.Errorf("connected %v", n)
			}
			if works { // never downwards, and profile 2 is forgotten
				if got := now.status("CS-0", "ChangeConfiguration", object{"key": "SecurityProfile", "value": "2"}); got != "Rejected" {
					t.Errorf("downwards: %s", got)
				}
			}
		})
	}
}

// TestNetworkSlots takes a 2.x station to another network configuration: it
// counts from the next start on, falls back, and a higher security profile is
// for good.
func TestNetworkSlots(t *testing.T) {
	ca := newTestCA(t)
	comm := component{Name: "OCPPCommCtrlr"}
	for _, version := range []ocpp.Version{ocpp.V201, ocpp.V21} {
		t.Run(string(version), func(t *testing.T) {
			s, up := newTestServer(t, ocpp.ProfileTLS, ca), newTestServer(t, ocpp.ProfileMTLS, ca)
			f, _ := testFleet(t, s, ca, ocpp.ProfileTLS, version, 1, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
			profile := func(number, security int, url string) string {
				return s.status("CS-0", "SetNetworkProfile", object{"configurationSlot": number, "connectionData": object{"ocppTransport": "JSON",
					"ocppVersion": "OCPP20", "ocppCsmsUrl": url, "securityProfile": security, "ocppInterface": "Wired0", "messageTimeout": 30}})
			}
			for what, got := range map[string]string{
				"slot in use":    profile(1, 2, s.target()),
				"no such slot":   profile(9, 2, s.target()),
				"downwards":      profile(2, 1, "ws://127.0.0.1:1/ocpp"),
				"no certificate": profile(2, 3, up.target()),
				"no URL":         profile(2, 2, "here"),
			} {
				if got != "Rejected" {
					t.Errorf("%s: %s", what, got)
				}
			}
			if got := s.setVariable("CS-0", comm, "NetworkConfigurationPriority", "2,1"); got != "Rejected" {
				t.Errorf("priority of an empty slot: %s", got)
			}
			// Slot 2 leads nowhere: the station falls back to slot 1.
			if got := profile(2, 2, "wss://127.0.0.1:1/ocpp"); got != "Accepted" {
				t.Fatalf("SetNetworkProfile: %s", got)
			}
			if got := s.setVariable("CS-0", comm, "NetworkConfigurationPriority", "2,1"); got != "Accepted" {
				t.Fatalf("priority: %s", got)
			}
			restart := func() {
				t.Helper()
				if got := s.status("CS-0", "Reset", object{"type": "OnIdle"}); got != "Accepted" {
					t.Fatalf("Reset: %s", got)
				}
			}
			restart()
			eventually(t, "fall back", func() bool {
				return s.saw("CS-0", "BootNotification") == 2 && f.Stats().Errors["dial"] == networkAttempts
			})
			eventually(t, "statuses", func() bool { return s.saw("CS-0", "StatusNotification") > 3 })
			// Slot 3 is the same station with its certificate.
			s.sign("CS-0", "TriggerMessage", "SignChargingStationCertificate", ca)
			if version == ocpp.V21 {
				slot3 := component{Name: "NetworkConfiguration", Instance: "3"}
				for _, v := range [][2]string{{"OcppCsmsUrl", up.target()}, {"SecurityProfile", "3"}, {"OcppTransport", "JSON"}} {
					if got := s.setVariable("CS-0", slot3, v[0], v[1]); got != "Accepted" {
						t.Errorf("%v: %s", v, got)
					}
				}
				if got := s.setVariable("CS-0", component{Name: "NetworkConfiguration", Instance: "1"}, "OcppCsmsUrl", up.target()); got != "Rejected" {
					t.Errorf("slot in use: %s", got)
				}
				frame := s.call("CS-0", "GetVariables", object{"getVariableData": []object{{"component": slot3, "variable": object{"name": "OcppCsmsUrl"}}}})
				if !strings.Contains(string(frame.Payload), up.target()) {
					t.Errorf("%s", frame.Payload)
				}
			} else if got := profile(3, 3, up.target()); got != "Accepted" {
				t.Fatalf("SetNetworkProfile: %s", got)
			}
			if got := s.setVariable("CS-0", comm, "NetworkConfigurationPriority", "3,1"); got != "Accepted" {
				t.Fatalf("priority: %s", got)
			}
			restart()
			eventually(t, "boot with profile 3", func() bool { return up.saw("CS-0", "BootNotification") == 1 })
			eventually(t, "statuses", func() bool { return up.saw("CS-0", "StatusNotification") > 1 })
			frame := up.call("CS-0", "GetVariables", object{"getVariableData": []object{
				{"component": object{"name": "SecurityCtrlr"}, "variable": object{"name": "SecurityProfile"}},
				{"component": comm, "variable": object{"name": "NetworkConfigurationPriority"}},
			}})
			for _, want := range []string{`"attributeValue":"3","component":{"name":"SecurityCtrlr"}`, `"attributeValue":"3","component":{"name":"OCPPCommCtrlr"}`} {
				if !strings.Contains(string(frame.Payload), want) {
					t.Errorf("%s", frame.Payload)
				}
			}
			if got := up.events("CS-0"); !slices.Contains(got, "StartupOfTheDevice") {
				t.Errorf("security events %v", got)
			}
		})
	}
}
