package fleet

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestSameSeed: the sessions of a station depend on the seed and its identity alone.
func TestSameSeed(t *testing.T) {
	plans := func(seed uint64, id ocpp.StationID) (plans []session) {
		f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1"}, Seed: seed,
			Behaviour: Behaviour{IDTags: []string{"A", "B", "C"}}, Stations: []Identity{{ID: "other", Profile: 1}, {ID: id, Profile: 1, Connectors: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			plans = append(plans, f.behave.plan(&f.stations[1].connectors[i%2].random))
		}
		return plans
	}
	same := func(a, b []session) (n int) {
		for i := range a {
			if a[i] == b[i] {
				n++
			}
		}
		return n
	}
	first := plans(7, "X")
	if n := same(first, plans(7, "X")); n != 100 {
		t.Errorf("same seed: %d of 100 sessions the same", n)
	}
	if n := same(first, plans(8, "X")) + same(first, plans(7, "Y")); n > 0 {
		t.Errorf("another seed or station: %d sessions the same", n)
	}
	var gap, length time.Duration
	for _, p := range first {
		gap, length = gap+p.gap/100, length+p.length/100
	}
	if gap < 20*time.Minute || gap > 45*time.Minute || length < 35*time.Minute || length > 45*time.Minute {
		t.Errorf("mean gap %s, mean length %s", gap, length)
	}
}

// TestEnergy: the register follows the curve in the stations' time.
func TestEnergy(t *testing.T) {
	f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1"}, Stations: []Identity{{ID: "A", Profile: 1}},
		Behaviour: Behaviour{TimeFactor: 60, Curve: []float64{6000, 6000, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	s := f.stations[0]
	c := &s.connectors[0]
	c.register, c.power = 0, f.behave.power(0)
	c.tx = &transaction{length: time.Minute} // an hour of the stations' time
	var last sample
	for at := time.Duration(0); at <= time.Minute; at += time.Second {
		v := s.sample(0, at)
		if v.energy < last.energy || v.at <= last.at {
			t.Fatalf("%+v after %+v", v, last)
		}
		last = v
	}
	if math.Abs(float64(last.energy)-4500) > 2 || last.power != 0 { // 3,000 Wh + half of 3,000
		t.Errorf("%+v", last)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	p := h.percentiles()
	for _, tt := range []struct{ got, want time.Duration }{
		{p.P50, 5 * time.Millisecond}, {p.P90, 9 * time.Millisecond}, {p.P99, 9900 * time.Microsecond}, {p.Max, 9999 * time.Microsecond},
	} {
		if math.Abs(float64(tt.got-tt.want)) > 0.002*float64(tt.want) {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
	h.add(math.MaxInt64)
	if p := h.percentiles(); p.Count != 10_001 || p.Max < longestTime || p.Max > longestTime*11/10 {
		t.Errorf("%+v", p)
	}
}

// TestDay: drivers come when the day is busy, and as many as without a rhythm.
func TestDay(t *testing.T) {
	const days = 400
	b := Behaviour{SessionGap: time.Hour, Day: []float64{0, 0.5, 2.5, 1}}.withDefaults()
	random, at := rand.NewPCG(1, 1), time.Duration(0)
	var came [4]int
	for {
		at += b.wait(at, b.plan(random).gap)
		if at >= days*24*time.Hour {
			break
		}
		came[int(at/(6*time.Hour))%4]++
	}
	for i, want := range []float64{0, 0.5, 2.5, 1} {
		if got := float64(came[i]) / (6 * days); math.Abs(got-want) > 0.1 {
			t.Errorf("quarter %d of the day: %.2f per hour, want %g", i, got, want)
		}
	}
	if b.Day = nil; b.wait(at, time.Second) != time.Second {
		t.Error("without a rhythm")
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://h/ocpp", 2: "wss://h"}, Stations: []Identity{{ID: "A", Profile: 1}}}
	}
	if _, err := New(good()); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"scheme":      func(c *Config) { c.Targets[2] = "ws://h" },
		"no host":     func(c *Config) { c.Targets[1] = "ws://" },
		"profile":     func(c *Config) { c.Targets[4] = "wss://h" },
		"no target":   func(c *Config) { c.Stations[0].Profile = 3 },
		"twice":       func(c *Config) { c.Stations = append(c.Stations, Identity{ID: "a", Profile: 1}) },
		"identity":    func(c *Config) { c.Stations[0].ID = "a/b" },
		"version":     func(c *Config) { c.Stations[0].Version = "2.0" },
		"certificate": func(c *Config) { c.Targets[3] = "wss://h"; c.Stations[0].Profile = 3 },
		"connectors":  func(c *Config) { c.Stations[0].Connectors = 99 },
		"rate":        func(c *Config) { c.Rate = -1 },
		"day":         func(c *Config) { c.Behaviour.Day = []float64{0, 0} },
		"night":       func(c *Config) { c.Behaviour.Day = []float64{2, -1} },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSameActions: what stations tell a server is the same in every run with the
// same seed, message by message of a kind; only when depends on the machine.
func TestSameActions(t *testing.T) {
	const stations, sessions = 2, 5
	run := func(version ocpp.Version, seed uint64) (told [stations][]string) {
		s := newTestServer(t, ocpp.ProfilePlain, nil)
		f, stop := testFleet(t, s, nil, ocpp.ProfilePlain, version, stations, func(c *Config) {
			c.Seed, c.Behaviour.IDTags = seed, []string{"A", "B", "C", "D"}
			for i := range c.Stations {
				c.Stations[i].Connectors = 1
			}
		})
		eventually(t, "sessions", func() bool {
			for i := range stations {
				if s.saw(fmt.Sprintf("CS-%d", i), "Authorize") <= sessions {
					return false
				}
			}
			return true
		})
		settle(t, f)
		stop()
		for i := range stations {
			s.look(fmt.Sprintf("CS-%d", i), func(st *testStation) {
				for _, p := range st.payloads["Authorize"][:sessions] {
					told[i] = append(told[i], string(p))
				}
				for _, r := range st.record[:sessions] {
					told[i] = append(told[i], fmt.Sprint(r.Connector, r.IDTag, r.Reason))
				}
				var reports []string
				for _, p := range st.payloads["StatusNotification"] {
					var x struct {
						Status    string `json:"status"`
						Connector string `json:"connectorStatus"`
					}
					json.Unmarshal(p, &x)
					reports = append(reports, x.Status+x.Connector)
				}
				told[i] = append(told[i], reports[:2*sessions]...)
			})
		}
		return told
	}
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			first, again, other := run(version, 7), run(version, 7), run(version, 8)
			for i := range stations {
				if !slices.Equal(first[i], again[i]) {
					t.Errorf("station %d: %q, in the next run %q", i, first[i], again[i])
				}
				if slices.Equal(first[i], other[i]) {
					t.Errorf("station %d: another seed, the same actions: %q", i, first[i])
				}
			}
		})
	}
}
