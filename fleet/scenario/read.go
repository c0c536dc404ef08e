package scenario

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"holdfast/fleet"
	"holdfast/ocpp"
)

//go:embed shipped/*.yaml
var shipped embed.FS

// Shipped are the names of the scenarios that come with the program.
func Shipped() []string {
	entries, _ := shipped.ReadDir("shipped") // embedded: cannot fail
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Text is a shipped scenario as it is written.
func Text(name string) ([]byte, error) { return shipped.ReadFile("shipped/" + name + ".yaml") }

// Load reads a shipped scenario by its name, or a file.
func Load(name string) (*Scenario, error) {
	if slices.Contains(Shipped(), name) {
		text, err := Text(name)
		if err != nil {
			return nil, err
		}
		return Parse(name, text)
	}
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("scenario %s: neither a file nor one of %s", name, strings.Join(Shipped(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	return Parse(name, text)
}

// Problem is one thing that is wrong with a scenario file.
type Problem struct {
	Line, Column int // zero: of the file as a whole
	What         string
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.What
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.What)
}

// Invalid is a scenario file that cannot be used.
type Invalid struct {
	File     string
	Problems []*Problem
}

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.File + ": " + p.Error()
	}
	return strings.Join(lines, "; ")
}

// source finds the line of a key.
type source struct{ file *ast.File }

func (s source) find(path string) (line, column int) {
	p, err := yaml.PathString(path)
	if err != nil || s.file == nil {
		return 0, 0
	}
	node, err := p.FilterFile(s.file)
	if err != nil || node == nil || node.GetToken() == nil {
		if i := strings.LastIndexAny(path, ".["); i > 0 { // a key that is not there: where it belongs
			return s.find(path[:i])
		}
		return 0, 0
	}
	// The first token of a mapping or sequence is not its first line.
	for t := node.GetToken(); ; {
		switch n := node.(type) {
		case *ast.MappingNode:
			if len(n.Values) > 0 {
				t = n.Values[0].Key.GetToken()
			}
		case *ast.MappingValueNode:
			t = n.Key.GetToken()
		}
		return t.Position.Line, t.Position.Column
	}
}

// Parse reads a scenario. name is for error messages. Every error is an *Invalid
// with the lines.
func Parse(name string, text []byte) (*Scenario, error) {
	fail := func(p ...*Problem) (*Scenario, error) { return nil, &Invalid{File: name, Problems: p} }
	if len(text) > MaxFile {
		return fail(&Problem{What: fmt.Sprintf("more than %d bytes", MaxFile)})
	}
	s, problem := decode(text)
	if problem != nil {
		return fail(problem)
	}
	if problems := s.check(); len(problems) > 0 {
		return fail(problems...)
	}
	s.fill()
	return s, nil
}

// decode reads what the YAML types say.
func decode(text []byte) (s *Scenario, problem *Problem) {
	defer func() { // the YAML library does for some texts that are no YAML
		if recover() != nil {
			s, problem = nil, &Problem{What: "this is not YAML that can be understood"}
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, problemOf(err)
	}
	if len(file.Docs) != 1 {
		return nil, &Problem{What: "one YAML document is wanted"}
	}
	var p plain
	if ast.Walk(&p, file.Docs[0]); p.problem != nil {
		return nil, p.problem
	}
	s = new(Scenario)
	if err := yaml.NewDecoder(strings.NewReader(string(text)), yaml.Strict()).Decode(s); err != nil {
		return nil, problemOf(err)
	}
	s.source = source{file}
	return s, nil
}

// plain finds what a scenario does not need of YAML and what would make a small
// file grow without bound: tags, anchors and aliases.
type plain struct{ problem *Problem }

func (p *plain) Visit(node ast.Node) ast.Visitor {
	what := ""
	switch node.(type) {
	case *ast.TagNode:
		what = "a tag (!)"
	case *ast.AnchorNode:
		what = "an anchor (&)"
	case *ast.AliasNode:
		what = "an alias (*)"
	}
	if what == "" || p.problem != nil {
		return p
	}
	p.problem = &Problem{What: what + " has no place in a scenario; put text that begins like this in quotes"}
	if t := node.GetToken(); t != nil && t.Position != nil {
		p.problem.Line, p.problem.Column = t.Position.Line, t.Position.Column
	}
	return nil
}

func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		p := &Problem{What: e.GetMessage()}
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
		return p
	}
	if errors.Is(err, io.EOF) {
		return &Problem{What: "the file is empty"}
	}
	return &Problem{What: err.Error()}
}

// fill sets the defaults.
func (s *Scenario) fill() {
	if s.Stations == 0 {
		s.Stations = 100
	}
	if len(s.Profiles) == 0 {
		s.Profiles = []ocpp.SecurityProfile{ocpp.ProfileTLS, ocpp.ProfileMTLS}
	}
	if len(s.Versions) == 0 {
		s.Versions = slices.Clone(ocpp.Versions)
	}
	if s.Speed == 0 {
		s.Speed = 1
	}
	rest := 100
	for _, c := range s.Cohorts {
		rest -= int(c.Share)
	}
	if rest > 0 {
		name := "rest"
		if len(s.Cohorts) == 0 {
			name = everybody
		}
		s.Cohorts = append(s.Cohorts, Cohort{Name: name, Share: Share(rest)})
	}
}

// everybody is the cohort of a scenario without cohorts, and means all of them.
const everybody = "all"

var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// checker gathers problems.
type checker struct {
	s        *Scenario
	problems []*Problem
}

func (c *checker) bad(path, format string, args ...any) {
	p := &Problem{What: fmt.Sprintf(format, args...)}
	p.Line, p.Column = c.s.source.find("$" + path)
	c.problems = append(c.problems, p)
}

// check finds what the YAML types do not.
func (s *Scenario) check() []*Problem {
	c := &checker{s: s}
	if !word.MatchString(s.Name) {
		c.bad(".name", "name %q: letters, digits and hyphens, at most 64", s.Name)
	}
	if s.Stations < 0 || s.Stations > 1_000_000 {
		c.bad(".stations", "%d stations: at most 1,000,000", s.Stations)
	}
	if s.Connectors < 0 || s.Connectors > 32 {
		c.bad(".connectors", "%d connectors: at most 32", s.Connectors)
	}
	if s.Speed < 0 || s.Speed > 100_000 {
		c.bad(".speed", "speed %g: 0 to 100,000", s.Speed)
	}
	c.kinds("", s.Profiles, s.Versions)
	c.behaviour(".behaviour", s.Behaviour)
	c.cohorts()
	switch n := len(s.Phases); {
	case n == 0:
		c.bad(".phases", "phases: at least one is needed")
	case n > maxPhases:
		c.bad(".phases", "%d phases: at most %d", n, maxPhases)
		return c.problems
	}
	for i := range s.Phases {
		c.phase(fmt.Sprintf(".phases[%d]", i), &s.Phases[i])
	}
	if len(s.Assert) > maxAsserts {
		c.bad(".assert", "%d assertions: at most %d", len(s.Assert), maxAsserts)
	}
	return c.problems
}

func (c *checker) kinds(path string, profiles []ocpp.SecurityProfile, versions []ocpp.Version) {
	for i, p := range profiles {
		if !p.Valid() {
			c.bad(fmt.Sprintf("%s.profiles[%d]", path, i), "security profile %d: 1, 2 or 3", p)
		}
	}
	for i, v := range versions {
		if !v.Valid() {
			c.bad(fmt.Sprintf("%s.versions[%d]", path, i), "OCPP version %q: 1.6, 2.0.1 or 2.1 (in quotes)", v)
		}
	}
}

func (c *checker) cohorts() {
	if len(c.s.Cohorts) > maxCohorts {
		c.bad(".cohorts", "%d cohorts: at most %d", len(c.s.Cohorts), maxCohorts)
	}
	sum, names := 0, make(map[string]bool)
	for i, k := range c.s.Cohorts {
		path := fmt.Sprintf(".cohorts[%d]", i)
		if !word.MatchString(k.Name) || k.Name == everybody || k.Name == "rest" {
			c.bad(path+".name", "cohort name %q: letters, digits and hyphens, not all or rest", k.Name)
		}
		if names[k.Name] {
			c.bad(path+".name", "a second cohort %q", k.Name)
		}
		names[k.Name] = true
		if k.Share == 0 {
			c.bad(path, "cohort %s: its share is missing", k.Name)
		}
		if sum += int(k.Share); sum > 100 && sum-int(k.Share) <= 100 {
			c.bad(path+".share", "with cohort %s the shares add up to %d%%", k.Name, sum)
		}
		c.kinds(path, k.Profiles, k.Versions)
		c.behaviour(path+".behaviour", k.Behaviour)
		for j, q := range k.Quirks {
			if f, ok := fleet.FaultByName(q); !ok || !f.Quirk() {
				c.bad(fmt.Sprintf("%s.quirks[%d]", path, j), "unknown quirk %q%s", q, suggest(q, fleet.Fault.Quirk))
			}
		}
		if t := k.TLS; t.Max != 0 && t.Min > t.Max {
			c.bad(path+".tls.min", "min is above max")
		}
		if t := k.TLS; t.Key != "" && t.Key != "ecdsa" && t.Key != "rsa" {
			c.bad(path+".tls.key", "key %q: ecdsa or rsa", t.Key)
		}
	}
}

func (c *checker) behaviour(path string, b Behaviour) {
	for i, w := range b.Curve {
		if w < 0 || w > 10e6 {
			c.bad(fmt.Sprintf("%s.curve[%d]", path, i), "power %g W: 0 to 10 MW", w)
		}
	}
	for i, tag := range b.IDTags {
		if tag == "" || len(tag) > 20 {
			c.bad(fmt.Sprintf("%s.id_tags[%d]", path, i), "ID token %q: 1 to 20 characters", tag)
		}
	}
	if b.Arrival == Even || b.Arrival == AtOnce {
		c.bad(path+".arrival", "drivers come poisson or diurnal")
	}
	if b.BackOff.Doublings < 0 || b.BackOff.Doublings > 20 {
		c.bad(path+".back_off.doublings", "doublings: 0 to 20")
	}
	if b.Resend.Attempts < 0 {
		c.bad(path+".resend.attempts", "attempts: not negative")
	}
	for _, d := range []struct {
		key   string
		value Duration
	}{{"session_length", b.SessionLength}, {"meter_interval", b.MeterInterval}, {"unplug_delay", b.UnplugDelay}, {"heartbeat", b.Heartbeat},
		{"call_timeout", b.CallTimeout}, {"reboot_time", b.RebootTime}, {"back_off.minimum", b.BackOff.Minimum}, {"resend.interval", b.Resend.Interval}} {
		if d.value == Never {
			c.bad(path+"."+d.key, "%s cannot be never", d.key)
		}
	}
}

func (c *checker) who(path, name string) {
	if name == "" || name == everybody {
		return
	}
	known := []string{everybody}
	sum := 0
	for _, k := range c.s.Cohorts {
		known = append(known, k.Name)
		sum += int(k.Share)
	}
	if sum < 100 && len(c.s.Cohorts) > 0 {
		known = append(known, "rest")
	}
	if !slices.Contains(known, name) {
		c.bad(path+".who", "no cohort %q: %s", name, strings.Join(known, ", "))
	}
}

func (c *checker) phase(path string, p *Phase) {
	if !word.MatchString(p.Name) {
		c.bad(path+".name", "name of the phase %q: letters, digits and hyphens", p.Name)
	}
	if p.For <= 0 {
		c.bad(path+".for", "phase %s: how long it lasts is missing (for: 30s)", p.Name)
	}
	for key, n := range map[string]int{"connect": len(p.Connect), "leave": len(p.Leave), "churn": len(p.Churn), "storm": len(p.Storm),
		"duplicates": len(p.Duplicates), "commands": len(p.Commands)} {
		if n > maxStreams {
			c.bad(path+"."+key, "%d entries: at most %d", n, maxStreams)
			return
		}
	}
	for key, list := range map[string][]Presence{"connect": p.Connect, "leave": p.Leave} {
		for i, x := range list {
			path := fmt.Sprintf("%s.%s[%d]", path, key, i)
			c.who(path, x.Who)
			if x.Within > p.For || x.Within == Never {
				c.bad(path+".within", "within is longer than the phase")
			}
			if x.Rate > 0 && x.Within > 0 {
				c.bad(path+".rate", "rate or within, not both")
			}
		}
	}
	for i, x := range p.Churn {
		path := fmt.Sprintf("%s.churn[%d]", path, i)
		c.who(path, x.Who)
		c.rate(path, x.Rate, x.Arrival, p.For)
		sum := 0
		for _, name := range slices.Sorted(mapKeys(x.Faults)) {
			c.fault(path+".faults."+name, name)
			if x.Faults[name] < 0 || x.Faults[name] > 1_000_000 {
				c.bad(path+".faults."+name, "weight of %s: 0 to 1,000,000", name)
			}
			sum += x.Faults[name]
		}
		if sum <= 0 {
			c.bad(path+".faults", "faults with their weights are missing (faults: {clean_close: 1})")
		}
	}
	for i, x := range p.Storm {
		path := fmt.Sprintf("%s.storm[%d]", path, i)
		c.who(path, x.Who)
		c.fault(path+".fault", x.Fault)
		if x.At < 0 || x.Within < 0 || x.At+x.Within > p.For {
			c.bad(path+".at", "the storm does not end within the phase")
		}
	}
	for i, x := range p.Duplicates {
		path := fmt.Sprintf("%s.duplicates[%d]", path, i)
		c.who(path, x.Who)
		if x.Share == 0 {
			c.bad(path, "the share of stations with a double is missing")
		}
	}
	for i, x := range p.Commands {
		path := fmt.Sprintf("%s.commands[%d]", path, i)
		c.who(path, x.Who)
		c.kinds(path, nil, x.Version)
		c.rate(path, x.Rate, x.Arrival, p.For)
		if x.Action == "" || len(x.Action) > 64 {
			c.bad(path+".action", "the action is missing (action: TriggerMessage)")
		}
	}
}

func (c *checker) rate(path string, r Rate, a Arrival, length Duration) {
	if r == 0 {
		c.bad(path, "the rate is missing (rate: 5/s)")
	}
	if n := float64(r) * time.Duration(length).Seconds(); n > maxEvents {
		c.bad(path+".rate", "%.0f events in this phase: at most 10,000,000", n)
	}
	if a == AtOnce {
		c.bad(path+".arrival", "at_once is for connect and leave; a storm happens at once")
	}
}

func (c *checker) fault(path, name string) {
	if f, ok := fleet.FaultByName(name); !ok || f.Quirk() {
		c.bad(path, "unknown fault %q%s", name, suggest(name, func(f fleet.Fault) bool { return !f.Quirk() }))
	}
}
