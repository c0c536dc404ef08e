package fleet

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestHabitsShow: a station with a habit, or one to which a fault happens, does
// something else than one without, in every version that suits. What it is, and
// what a server makes of it, is tried against a Holdfast (e2e/faults); this is so
// that none is a name alone.
func TestHabitsShow(t *testing.T) {
	ca := newTestCA(t)
	for _, habit := range Faults() {
		if habit.Connecting() || habit == NeedsPings { // TestProbe, TestStationsThatDrop
			continue
		}
		for _, version := range fuzzVersions {
			profile := ocpp.ProfilePlain
			if !habit.Suits(profile, version) {
				profile = ocpp.ProfileMTLS
			}
			if !habit.Suits(profile, version) {
				continue
			}
			id := Identity{ID: "RAW ID|1", Profile: profile, Version: version, Password: "secret", Certificate: ca.issue(t, "A")}
			without, event := lifeOf(t, ca, id, NoFault), habit
			if habit.Quirk() {
				id.Quirks, event = []Fault{habit}, NoFault
			}
			if slices.Equal(lifeOf(t, ca, id, event), without) {
				t.Errorf("%s, %s: the station does nothing else", habit, version)
			}
		}
	}
	if a, b := lifeOf(t, ca, Identity{ID: "A", Profile: 1}, NoFault), lifeOf(t, ca, Identity{ID: "A", Profile: 1}, NoFault); !slices.Equal(a, b) {
		t.Error("two stations without habits differ: the comparison proves nothing")
	}
}

// lifeOf is what a station presents and sends while everything happens to it that
// habits are about, and an event if it is not NoFault.
func lifeOf(t *testing.T, ca *testCA, id Identity, event Fault) (seen []string) {
	m, err := NewSimulation([]Config{{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1/ocpp", 2: "wss://127.0.0.1/ocpp", 3: "wss://127.0.0.1/ocpp"}, Stations: []Identity{id},
		Roots: ca.anchors(), Behaviour: Behaviour{SessionGap: time.Minute, SessionLength: time.Minute, MeterInterval: 10 * time.Second, RenewBefore: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	s := m.stations[id.ID]
	h := s.endpoint()
	seen = append(seen, h.request("key"))
	if s.id.TLS != nil {
		seen = append(seen, "other TLS")
		if reflect.DeepEqual(*s.id.TLS, ClientTLS{}) {
			t.Errorf("quirks %v: TLS as of any station", id.Quirks)
		}
	}
	m.pending = true
	m.Join(id.ID)
	root := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newTestCA(t).anchors()[0].Raw}))
	rootUse, read := "CSMSRootCertificate", func() {
		for _, name := range [][2]string{{"SecurityCtrlr", "BasicAuthPassword"}, {"SampledDataCtrlr", "TxUpdatedMeasurands"}} {
			m.Call(id.ID, "GetVariables", map[string]any{"getVariableData": []any{map[string]any{"component": map[string]any{"name": name[0]}, "variable": map[string]any{"name": name[1]}}}})
		}
	}
	if s.id.Version == ocpp.V16 {
		rootUse, read = "CentralSystemRootCertificate", func() { m.Call(id.ID, "GetConfiguration", map[string]any{}) }
	}
	m.After(22*time.Millisecond, func() { m.Call(id.ID, "ClearCache", nil) }) // before the boot is answered
	if event != NoFault {
		m.After(100*time.Second, func() { m.Fault(id.ID, event) })
	}
	m.After(2*time.Minute, func() { m.Call(id.ID, "ClearCache", nil); m.Call(id.ID, "ClearCache", nil) })
	m.After(3*time.Minute, read)
	m.After(4*time.Minute, func() {
		m.Call(id.ID, "InstallCertificate", map[string]any{"certificateType": rootUse, "certificate": root})
	})
	m.After(5*time.Minute, func() {
		m.Call(id.ID, "ReserveNow", map[string]any{"id": 1, "reservationId": 1, "expiryDateTime": "2026-01-05T01:00:00.5Z", "expiryDate": "2026-01-05T01:00:00.5Z"})
	})
	m.After(6*time.Minute, func() {
		c := s.conn
		if c == nil {
			return
		}
		began := time.Now()
		c.quirks = s.quirks
		ping := bufio.NewReader(bytes.NewReader([]byte{0x80 | opPing, 1, 'x'}))
		if _, err := c.readMessage(ping); err != nil {
			m.note(s, "drops at a ping")
		}
		if time.Since(began) >= slowRead/2 && s.quirks.has(SlowReader) {
			m.note(s, "reads slowly")
		}
		c.write(opText, make([]byte, 100))
	})
	m.After(7*time.Minute, func() {
		if s.conn != nil {
			s.lost(io.ErrUnexpectedEOF)
		}
	})
	m.Run(20 * time.Minute)
	return append(seen, m.Sent[id.ID]...)
}
