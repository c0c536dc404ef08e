package scenario

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// identities are n stations without credentials.
func identities(n int) []fleet.Identity {
	list := make([]fleet.Identity, n)
	for i := range list {
		list[i] = fleet.Identity{ID: ocpp.StationID(fmt.Sprintf("CS-%05d", i+1))}
	}
	return list
}

func parse(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestShipped reads every scenario that comes with the program, and makes its plan.
func TestShipped(t *testing.T) {
	want := []string{"certificates", "churn", "firmware-night", "flaky-mobile", "leak-hunt", "misbehaving", "steady", "storm", "workday"}
	if got := Shipped(); !slices.Equal(got, want) {
		t.Errorf("shipped %v", got)
	}
	for _, name := range want {
		s, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name != name || len(s.About) < 40 || len(s.Assert) == 0 {
			t.Errorf("%s: name %q, about %q, %d assertions", name, s.Name, s.About, len(s.Assert))
		}
		joins := make(map[int]bool)
		for a := range s.Plan(s.Assign(identities(s.Stations), false), 1) {
			if a.What == Join {
				joins[a.Station] = true
			}
		}
		if len(joins) != s.Stations {
			t.Errorf("%s: %d of %d stations ever connect", name, len(joins), s.Stations)
		}
	}
}

// TestDeterminism: the plan depends on the scenario, the stations and the seed,
// and on nothing else.
func TestDeterminism(t *testing.T) {
	for _, name := range Shipped() {
		plan := func(seed uint64) []Action {
			s, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			actions := slices.Collect(s.Plan(s.Assign(identities(s.Stations), false), seed))
			for i := range actions {
				actions[i].Command = nil // a pointer into the scenario
			}
			return actions
		}
		a, again, other := plan(7), plan(7), plan(8)
		if !reflect.DeepEqual(a, again) {
			t.Errorf("%s: the same seed makes another plan", name)
		}
		if reflect.DeepEqual(a, other) && name != "steady" { // whose stations come in the order that the seed shuffles
			t.Errorf("%s: another seed makes the same plan", name)
		}
		if !slices.IsSortedFunc(a, func(x, y Action) int { return int(x.At - y.At) }) {
			t.Errorf("%s: not in the order of time", name)
		}
	}
}

// TestErrors: what is wrong is said with its line.
func TestErrors(t *testing.T) {
	const head = "name: t\nphases:\n  - name: a\n    for: 10s\n"
	for _, tt := range []struct {
		text, want string
		line       int
	}{
		{"", "empty", 0},
		{"name: t\nstatoins: 5\n", "statoins", 2},
		{"name: t\nphases: []\n", "at least one", 2},
		{"name: t\n", "phases", 1},
		{"name: t\nbehaviour:\n  arrival: at_once\nphases: [{name: a, for: 1s}]", "poisson or diurnal", 3},
		{"name: a b\nphases: [{name: a, for: 1s}]", `name "a b"`, 1},
		{"name: t\nphases:\n  - name: a\n    for: soon\n", `"soon" is not a duration`, 4},
		{"name: t\nphases:\n  - name: a\n", "how long", 3},
		{head + "    churn:\n      - rate: 5\n        faults: {reset: 1}\n", `"5" is not a rate`, 6},
		{head + "    churn:\n      - rate: 5/s\n        faults:\n          reset: 1\n          resett: 1\n", `unknown fault "resett"`, 9},
		{head + "    churn:\n      - rate: 5/s\n        faults: {clean-close: 1}\n", "do you mean clean_close?", 7},
		{head + "    churn:\n      - rate: 5/s\n        faults: {reset: -1}\n", "weight", 7},
		{head + "    churn:\n      - faults: {reset: 1}\n", "rate is missing", 6},
		{head + "    churn:\n      - rate: 0.1/h\n        faults: {reset: 1}\n", "not a rate", 6},
		{head + "    churn:\n      - rate: 1000000/s\n        faults: {reset: 1}\n      - rate: 1000001/s\n", "not a rate", 8},
		{"name: t\nphases:\n  - name: a\n    for: 10h\n    churn:\n      - rate: 9999/s\n        faults: {reset: 1}\n", "at most 10,000,000", 6},
		{head + "    storm:\n      - fault: reset\n        at: 11s\n", "does not end", 7},
		{head + "    connect:\n      - who: nobody\n", `no cohort "nobody"`, 6},
		{head + "    connect:\n      - share: 0%\n", "share in whole percent", 6},
		{head + "    connect:\n      - arrival: sometimes\n", "not an arrival process", 6},
		{head + "    connect:\n      - rate: 5/s\n        within: 3s\n", "not both", 6},
		{head + "    commands:\n      - rate: 5/s\n", "action is missing", 6},
		{head + "    duplicates:\n      - who: all\n", "share of stations", 6},
		{head + "cohorts:\n  - name: a\n    share: 60%\n  - name: b\n    share: 60%\n", "add up to 120%", 9},
		{head + "cohorts:\n  - name: all\n    share: 60%\n", "not all or rest", 6},
		{head + "cohorts:\n  - name: a\n    share: 60%\n    quirks: [no_such]\n", "unknown quirk", 8},
		{head + "cohorts:\n  - name: a\n    share: 60%\n    tls: {min: \"1.3\", max: \"1.2\"}\n", "min is above max", 8},
		{head + "cohorts:\n  - name: a\n    share: 60%\n    tls: {suites: [TLS_NULL]}\n", "not a cipher suite", 8},
		{head + "versions: [1.5]\n", "OCPP version", 5},
		{head + "profiles: [2, 4]\n", "security profile 4", 5},
		{head + "assert:\n  - p99 < 50\n", "needs a unit", 6},
		{head + "assert:\n  - speed > 1\n", `no figure "speed"`, 6},
		{head + "behaviour:\n  curve: [1, -1]\n", "power -1 W", 6},
		{"name: [\n", "", 1},
		{"name: t\nabout: !x y\n", "a tag", 2},
		{"name: t\nphases: &a [{name: a, for: 1s}]\nassert: *a\n", "an anchor", 2},
		{"name: t\nassert: *a\n", "an alias", 2},
		{"behaviour: {back_off:{A}}\nassert:\n  ! 000\n", "", 3},
		{"name: t\nname: u\n", "already defined", 2},
	} {
		_, err := Parse("f.yaml", []byte(tt.text))
		invalid, ok := err.(*Invalid)
		if !ok {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		found := slices.ContainsFunc(invalid.Problems, func(p *Problem) bool {
			return strings.Contains(p.What, tt.want) && p.Line == tt.line
		})
		if !found {
			t.Errorf("%q: %v, want %q in line %d", tt.text, err, tt.want, tt.line)
		}
	}
	if _, err := Load("no-such-scenario"); err == nil || !strings.Contains(err.Error(), "workday") {
		t.Errorf("%v", err)
	}
}

// TestAssign: cohorts get their shares, profiles and versions take turns within.
func TestAssign(t *testing.T) {
	s := parse(t, `
name: t
profiles: [2, 3]
versions: ["1.6", "2.0.1"]
cohorts:
  - {name: a, share: 10%}
  - {name: b, share: 30%, profiles: [1]}
phases: [{name: p, for: 1s}]
`)
	count := make(map[string]int)
	kinds := make(map[string]int)
	for _, x := range s.Assign(identities(1000), false) {
		name := s.Cohorts[x.Cohort].Name
		count[name]++
		kinds[fmt.Sprintf("%s %d %s", name, x.Profile, x.Version)]++
	}
	if count["a"] != 100 || count["b"] != 300 || count["rest"] != 600 {
		t.Errorf("%v", count)
	}
	if kinds["rest 2 1.6"] != 150 || kinds["rest 3 2.0.1"] != 150 || kinds["b 1 1.6"] != 150 || kinds["a 3 1.6"] != 25 {
		t.Errorf("%v", kinds)
	}
	few := make(map[int]int)
	for _, x := range s.Assign(identities(10), false) {
		few[x.Cohort]++
	}
	if few[0] == 0 || few[1] == 0 {
		t.Errorf("of ten stations: %v", few)
	}
}

// TestArrivals: so many come as the rate says, in the rhythm that the process says.
func TestArrivals(t *testing.T) {
	for _, arrival := range []Arrival{Even, Poisson, Diurnal} {
		s := parse(t, fmt.Sprintf(`
name: t
phases:
  - {name: in, for: 100s, connect: [{arrival: %s}]}
  - {name: churn, for: 1000s, churn: [{rate: 10/s, arrival: %s, faults: {reset: 3, silent: 1}}]}
  - {name: out, for: 10s, leave: [{share: 50%%, arrival: at_once}]}
`, arrival, arrival))
		joined, left, evening, night := 0, 0, 0, 0
		faults := make(map[fleet.Fault]int)
		for a := range s.Plan(s.Assign(identities(500), false), 3) {
			switch a.What {
			case Join:
				joined++
				if a.At >= 100*time.Second {
					t.Errorf("%s: joined at %s", arrival, a.At)
				}
			case Leave:
				left++
				if a.At != 1100*time.Second {
					t.Errorf("%s: left at %s", arrival, a.At)
				}
			case Fault:
				faults[a.Fault]++
				switch hour := int((a.At - 100*time.Second) * 24 / (1000 * time.Second)); {
				case hour >= 17 && hour < 20:
					evening++
				case hour >= 1 && hour < 4:
					night++
				}
			}
		}
		total := faults[fleet.Cut] + faults[fleet.Silent]
		if joined != 500 || left != 250 || total < 9500 || total > 10500 {
			t.Errorf("%s: %d joined, %d left, %v", arrival, joined, left, faults)
		}
		if r := float64(faults[fleet.Cut]) / float64(faults[fleet.Silent]); r < 2.7 || r > 3.3 {
			t.Errorf("%s: %v, want 3 to 1", arrival, faults)
		}
		if busy := float64(evening) / float64(night); (arrival == Diurnal) != (busy > 5) {
			t.Errorf("%s: %d in the evening, %d at night", arrival, evening, night)
		}
	}
}

func TestOverride(t *testing.T) {
	s, err := Load("storm")
	if err != nil {
		t.Fatal(err)
	}
	whole := s.For()
	s.Apply(Override{Stations: 40, Profiles: []ocpp.SecurityProfile{1}, For: whole / 5, Rate: 4, Idle: true})
	stations := s.Assign(identities(s.Stations), false)
	if s.For() != whole/5 || s.Stations != 40 || stations[7].Profile != 1 {
		t.Errorf("%s, %d stations, %+v", s.For(), s.Stations, stations[7])
	}
	if got := s.Length(stations); got != whole/5-time.Duration(s.Phases[0].For)+10*time.Second { // 40 at 4/s
		t.Errorf("length %s", got)
	}
	last := time.Duration(0)
	for a := range s.Plan(stations, 1) {
		if a.What == Join {
			last = a.At
		}
	}
	if last < 9*time.Second || last > 10*time.Second {
		t.Errorf("the last of 40 at 4/s joined at %s", last)
	}
}

func TestAssertions(t *testing.T) {
	for _, tt := range []struct {
		text  string
		value float64
		holds bool
	}{
		{"p99 < 50ms", 0.049, true},
		{"p99<50ms", 0.05, false},
		{"p99(StartTransaction) <= 1.5s", 1.5, true},
		{"lost == 0", 1, false},
		{"lost=0", 0, true},
		{"connected >= 99%", 98.9, false},
		{"errors.tls != 0", 1, true},
		{"connects > 5", 5, false},
		{"max > 1m", 61, true},
	} {
		a, err := ParseAssertion(tt.text)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := a.Holds(tt.value); got != tt.holds {
			t.Errorf("%s with %g: %v", tt.text, tt.value, got)
		}
	}
	for _, bad := range []string{"", "p99", "p99 < fast", "p99 < 50", "lost < 5ms", "lost(StartTransaction) < 5", "p99 < 5%", "errors.", "errors.tsl > 0", "nothing > 1", "p > 1ms", "lost.x>1", "p99 ~ 3ms", "lost > -1"} {
		if a, err := ParseAssertion(bad); err == nil {
			t.Errorf("%q was taken: %+v", bad, a)
		}
	}
}

// TestDrivers: drivers come in the rhythm of the day where the scenario says so.
func TestDrivers(t *testing.T) {
	s := parse(t, `{name: t, behaviour: {arrival: diurnal}, cohorts: [{name: steady, share: 50%, behaviour: {arrival: poisson}}], phases: [{name: a, for: 1s}]}`)
	if got := s.FleetConfig(fleet.Config{}, 0, nil, nil).Behaviour.Day; got != nil {
		t.Errorf("steady: %v", got)
	}
	got := s.FleetConfig(fleet.Config{}, 1, nil, nil).Behaviour.Day
	sum := 0.0
	for _, w := range got {
		sum += w
	}
	if len(got) != 24 || math.Abs(sum-24) > 1e-9 || got[3] >= got[18] {
		t.Errorf("%v: sum %g", got, sum)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Shipped() {
		text, err := Text(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("name: t\nphases: [{name: a, for: 1s, churn: [{rate: 1/s, faults: {reset: 0}}]}]"))
	f.Add([]byte("name: &a t\nabout: *a\nphases: [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("fuzz", text)
		if err != nil {
			if _, ok := err.(*Invalid); !ok {
				t.Fatal(err)
			}
			return
		}
		n := 0
		for range s.Plan(s.Assign(identities(7), false), 1) {
			if n++; n == 1000 {
				break
			}
		}
	})
}
