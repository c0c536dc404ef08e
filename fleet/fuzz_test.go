package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

var fuzzVersions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}

// commandedStation is a station of a simulation that has booted.
func commandedStation(t *testing.T, version uint8) (*Simulation, *station) {
	m, err := NewSimulation([]Config{{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1"},
		Behaviour: Behaviour{SessionGap: -1, TimeFactor: 60}, Stations: []Identity{{ID: "A", Profile: 1, Version: fuzzVersions[int(version)%3], Connectors: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	m.Join("A")
	m.Run(time.Second)
	return m, m.stations["A"]
}

// order sends a CALL to the station, and wants one answer that is OCPP-J.
func (m *Simulation) ordered(t *testing.T, s *station, action string, payload []byte) {
	before := len(m.Sent["A"])
	data := ocpp.AppendCall(nil, "fuzz", action, json.RawMessage(payload), false)
	frame, bad := ocpp.Parse(data)
	s.handle(data)
	s.pump()
	if bad != nil || frame.ID != "fuzz" {
		return
	}
	answers := 0
	for _, sent := range m.Sent["A"][before:] {
		_, message, _ := strings.Cut(sent, " ")
		if f, bad := ocpp.Parse([]byte(message)); bad == nil && f.ID == "fuzz" && f.Type != ocpp.TypeCall {
			answers++
		}
	}
	if answers != 1 {
		t.Errorf("%s %q: %d answers", action, payload, answers)
	}
	m.Run(m.at + time.Minute) // what follows
}

// FuzzCommand: whatever a server calls for, a station answers once and lives on.
func FuzzCommand(f *testing.F) {
	for v, version := range fuzzVersions {
		for _, action := range Commands(version) {
			f.Add(uint8(v), action, []byte(`{}`))
		}
	}
	for _, seed := range []struct{ action, payload string }{
		{"SetChargingProfile", `{"connectorId":0,"csChargingProfiles":{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"ChargePointMaxProfile","chargingProfileKind":"Recurring","recurrencyKind":"Daily","chargingSchedule":{"startSchedule":"2026-01-01T00:00:00Z","chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":10.5,"numberPhases":1}]}}}`},
		{"SendLocalList", `{"listVersion":1,"updateType":"Full","localAuthorizationList":[{"idTag":"A","idTagInfo":{"status":"Accepted"}},{"idTag":"B"}]}`},
		{"ReserveNow", `{"connectorId":1,"expiryDate":"2030-01-01T00:00:00Z","idTag":"A","reservationId":1}`},
		{"RemoteStartTransaction", `{"connectorId":1,"idTag":"A","chargingProfile":{}}`},
		{"ChangeConfiguration", `{"key":"MeterValueSampleInterval","value":"1"}`},
		{"TriggerMessage", `{"requestedMessage":"MeterValues","connectorId":1}`},
		{"UpdateFirmware", `{"location":"x","retrieveDate":"2030-01-01T00:00:00Z"}`},
		{"InstallCertificate", `{"certificateType":"CentralSystemRootCertificate","certificate":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}`},
	} {
		f.Add(uint8(0), seed.action, []byte(seed.payload))
	}
	for _, seed := range []struct{ action, payload string }{
		{"SetChargingProfile", `{"evseId":1,"chargingProfile":{"id":1,"stackLevel":0,"chargingProfilePurpose":"TxDefaultProfile","chargingProfileKind":"Relative","chargingSchedule":[{"id":1,"duration":60,"chargingRateUnit":"W","chargingSchedulePeriod":[{"startPeriod":0,"limit":1}]}]}}`},
		{"GetChargingProfiles", `{"requestId":1,"evseId":0,"chargingProfile":{"chargingProfileId":[1]}}`},
		{"GetReport", `{"requestId":1,"componentCriteria":["Enabled"],"componentVariable":[{"component":{"name":"AuthCacheCtrlr"}}]}`},
		{"SetVariables", `{"setVariableData":[{"attributeValue":"1","component":{"name":"NetworkConfiguration","instance":"1"},"variable":{"name":"SecurityProfile"}}]}`},
		{"SetNetworkProfile", `{"configurationSlot":2,"connectionData":{"ocppCsmsUrl":"wss://x/","securityProfile":3,"ocppVersion":"OCPP20","ocppTransport":"JSON","ocppInterface":"Wired0","messageTimeout":30}}`},
		{"DeleteCertificate", `{"certificateHashData":{"hashAlgorithm":"SHA256","issuerNameHash":"00","issuerKeyHash":"00","serialNumber":"1"}}`},
		{"RequestStartTransaction", `{"idToken":{"idToken":"A","type":"Central"},"remoteStartId":1,"evseId":1}`},
	} {
		f.Add(uint8(1), seed.action, []byte(seed.payload))
	}
	f.Fuzz(func(t *testing.T, version uint8, action string, payload []byte) {
		m, s := commandedStation(t, version)
		for range 2 { // the second time there is something from the first
			if s.conn == nil || s.state != accepted {
				return
			}
			m.ordered(t, s, action, payload)
		}
	})
}

// FuzzChargingProfile: whatever a profile says, a car draws between nothing and
// what it wants, and the composite schedule is in order and within its bounds.
func FuzzChargingProfile(f *testing.F) {
	f.Add(uint8(0), "Absolute", "", "W", 0, 3600, 11000.0, 3, 60, int64(0), int64(86400), 600)
	f.Add(uint8(1), "Recurring", "Daily", "A", 0, 0, 16.0, 1, 3600, int64(-86400), int64(86400), 86400)
	f.Add(uint8(2), "Relative", "", "A", 0, 1, -1.0, 0, 1, int64(1), int64(0), 1<<31-1)
	f.Add(uint8(1), "Recurring", "Daily", "d", 0, 45, -372.0, -55, 3513, int64(-86424), int64(86400), 86400)
	f.Fuzz(func(t *testing.T, version uint8, kind, recurrency, unit string, first, duration int, limit float64, phases, second int, from, to int64, seconds int) {
		m, s := commandedStation(t, version)
		at := func(seconds int64) string {
			const years = 100 * 365 * 24 * 3600
			return simStart.Add(time.Duration(min(max(seconds, -years), years)) * time.Second).Format(time.RFC3339)
		}
		schedule := map[string]any{"id": 1, "chargingRateUnit": unit, "duration": duration, "startSchedule": at(from), "chargingSchedulePeriod": []any{
			map[string]any{"startPeriod": first, "limit": limit, "numberPhases": phases}, map[string]any{"startPeriod": second, "limit": limit / 2}}}
		profile := map[string]any{"chargingProfileId": 1, "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": kind,
			"recurrencyKind": recurrency, "validFrom": at(from), "validTo": at(to), "chargingSchedule": schedule}
		payload := map[string]any{"connectorId": 1, "csChargingProfiles": profile}
		if s.id.Version.Is2x() {
			profile["chargingSchedule"] = []any{schedule}
			payload = map[string]any{"evseId": 1, "chargingProfile": profile}
		}
		text, err := json.Marshal(payload)
		if err != nil {
			return // NaN and infinity are not JSON
		}
		m.ordered(t, s, "SetChargingProfile", text)
		s.connectors[0].plan = session{length: 10 * 24 * time.Hour}
		s.begin(0, start{tag: "A"})
		m.Run(m.at + time.Minute)
		wanted := slices.Max(s.f.behave.Curve)
		if got := s.power(0, m.at); !(got >= 0 && got <= wanted) {
			t.Errorf("%s: the car draws %g W", text, got)
		}
		c, ok := s.composite(1, seconds, "W")
		if !ok {
			return
		}
		if *c.Duration < 1 || *c.Duration > int(maxComposite/time.Second) || len(c.Periods) == 0 || len(c.Periods) > maxPeriods {
			t.Errorf("%s: composite %+v", text, c)
		}
		for i, p := range c.Periods {
			if i == 0 && p.Start != 0 || i > 0 && p.Start <= c.Periods[i-1].Start || p.Start > *c.Duration || !(p.Limit >= 0) {
				t.Errorf("%s: period %d of %+v", text, i, c.Periods)
			}
		}
	})
}

// FuzzCertificate: no certificate that a server installs, signs or deletes upsets
// a station.
func FuzzCertificate(f *testing.F) {
	ca := newTestCA(f)
	for _, der := range [][]byte{ca.anchors()[0].Raw, ca.issue(f, "A").Certificate[0], {0x30, 0x80}, nil} {
		f.Add(uint8(1), der)
	}
	f.Fuzz(func(t *testing.T, version uint8, der []byte) {
		m, s := commandedStation(t, version)
		use := s.rootUse()
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		for _, c := range []struct {
			action  string
			payload any
		}{
			{"InstallCertificate", map[string]any{"certificateType": use, "certificate": text}},
			{"GetInstalledCertificateIds", map[string]any{"certificateType": use}},
			{"CertificateSigned", map[string]any{"certificateChain": text, "requestId": 1}},
		} {
			if s.conn != nil && s.state == accepted {
				m.ordered(t, s, c.action, encode(c.payload))
			}
		}
	})
}

// FuzzUpgradeAnswer: whatever a server answers to the upgrade request, it is taken
// only with the right key and subprotocol.
func FuzzUpgradeAnswer(f *testing.F) {
	const key, accept = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455 §1.3
	good := fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n", accept)
	for _, answer := range []string{good, strings.Replace(good, "101", "401", 1), strings.Replace(good, "ocpp1.6", "ocpp2.1", 1), "HTTP/1.1 101\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"} {
		f.Add([]byte(answer))
	}
	if err := checkUpgrade(bufio.NewReader(strings.NewReader(good)), key, "ocpp1.6"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		err := checkUpgrade(bufio.NewReader(bytes.NewReader(answer)), key, "ocpp1.6")
		if err == nil && (!bytes.Contains(answer, []byte(accept)) || !bytes.Contains(answer, []byte("ocpp1.6")) || !bytes.Contains(answer, []byte("101"))) {
			t.Errorf("taken: %q", answer)
		}
	})
}
