package fleet_test

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

// simulate runs a shipped scenario with so many stations, and returns what each
// of them sent.
func simulate(t *testing.T, name string, stations int, seed uint64) map[ocpp.StationID][]string {
	t.Helper()
	s, err := scenario.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	s.Apply(scenario.Override{Stations: stations})
	ids := make([]fleet.Identity, stations)
	for i := range ids {
		ids[i] = fleet.Identity{ID: ocpp.StationID(fmt.Sprintf("CS-%05d", i+1)), Password: "secret", Certificate: new(tls.Certificate)}
	}
	plan := s.Assign(ids, false)
	base := fleet.Config{Seed: seed, Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1/ocpp", 2: "wss://127.0.0.1/ocpp", 3: "wss://127.0.0.1/ocpp"}}
	var configs []fleet.Config
	for k := range s.Cohorts {
		configs = append(configs, s.FleetConfig(base, k, plan, func(int) bool { return true }))
	}
	m, err := fleet.NewSimulation(configs)
	if err != nil {
		t.Fatal(err)
	}
	for a := range s.Plan(plan, seed) {
		id := plan[a.Station].ID
		m.After(a.At, func() {
			switch a.What {
			case scenario.Join:
				m.Join(id)
			case scenario.Leave:
				m.Leave(id)
			case scenario.Fault:
				m.Fault(id, a.Fault)
			case scenario.Double:
				m.Close(id, 4001)
			case scenario.Call:
				m.Call(id, a.Command.Action, a.Command.Payload)
			}
		})
	}
	m.Run(s.Length(plan) + time.Minute)
	return m.Sent
}

// TestSameMessages: in every shipped scenario the same seed makes every station
// send the same messages at the same times, to the byte, and another seed others.
func TestSameMessages(t *testing.T) {
	for _, name := range scenario.Shipped() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const stations = 30
			first := simulate(t, name, stations, 7)
			if len(first) != stations {
				t.Errorf("%d of %d stations did something", len(first), stations)
			}
			messages, charged := 0, 0
			for _, sent := range first {
				messages += len(sent)
				for _, m := range sent {
					if strings.Contains(m, `"StopTransaction"`) || strings.Contains(m, `"Ended"`) {
						charged++
					}
				}
			}
			for range 2 { // maps have another order each time
				again := simulate(t, name, stations, 7)
				for id, sent := range first {
					if slices.Equal(sent, again[id]) {
						continue
					}
					i := 0
					for i < min(len(sent), len(again[id])) && sent[i] == again[id][i] {
						i++
					}
					t.Fatalf("station %s: message %d\n%.300s\nand now\n%.300s", id, i, at(sent, i), at(again[id], i))
				}
			}
			if other := simulate(t, name, stations, 8); maps.EqualFunc(first, other, slices.Equal) {
				t.Error("another seed makes the same messages")
			}
			t.Logf("%d messages and changes of connections, %d transactions ended", messages, charged)
		})
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}
