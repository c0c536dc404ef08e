package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/identity"
	fleetreport "holdfast/fleet/report"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

type fleetCommands struct {
	Run       fleetRun       `cmd:"" help:"Connect simulated stations that charge, and misbehave as a scenario says, to Holdfast or any other OCPP server."`
	Verify    fleetVerify    `cmd:"" help:"Compare what the server acknowledged in earlier runs (fleet run --ledger) with its record of now."`
	Scenarios fleetScenarios `cmd:"" help:"List the scenarios that come with the program, or print one."`
	Check     fleetCheck     `cmd:"" help:"Check scenario files and say what they do."`
	Quirks    fleetQuirks    `cmd:"" help:"List the faults and quirks that stations can have, and what a good server does about each."`
}

// fleetRun simulates stations.
type fleetRun struct {
	clientFlags
	Scenario string        `help:"A scenario that comes with the program (fleet scenarios lists them), or a YAML file. Default: stations that come and charge, until a signal." placeholder:"NAME|FILE"`
	Stations int           `help:"How many. Default: the scenario's; 100."`
	Profiles []int         `help:"Security profiles, in turn. Default: the scenario's; 2,3." placeholder:"N"`
	Versions []string      `help:"OCPP versions, in turn. Default: the scenario's; 1.6,2.0.1,2.1." placeholder:"V"`
	Rate     *float64      `help:"Stations that begin to connect per second; 0: all at once. Default: as the scenario says; 200 without one." placeholder:"N"`
	Ramp     time.Duration `help:"Time in which the stations connect, instead of --rate." placeholder:"DURATION"`
	For      time.Duration `help:"How long; stretches the phases of the scenario. Default: the scenario's time; without one until a signal." placeholder:"DURATION"`
	Seed     uint64        `help:"Same seed, same decisions of the stations." default:"1"`
	Speed    float64       `help:"How much faster than real time the stations' time runs. Default: the scenario's; 1." placeholder:"FACTOR"`
	Idle     bool          `help:"Nobody charges; the stations only stay connected."`
	IDTags   []string      `name:"id-tags" help:"ID tokens that drivers show; they are added to Holdfast. Default: the scenario's; FLEET." placeholder:"TOKEN"`

	Target  []string          `help:"Endpoint of the server, ws:// for profile 1 or wss:// for profiles 2 and 3, without the identity." placeholder:"URL"`
	Targets map[string]string `help:"Endpoint of each security profile: 3=wss://host:8883/ocpp;2=…" default:"1=ws://127.0.0.1:8881/ocpp;2=wss://127.0.0.1:8882/ocpp;3=wss://127.0.0.1:8883/ocpp"`
	CA      string            `name:"ca" help:"PEM file with what the stations trust. Default: --ca-cert, or ca.crt in the data directory." type:"path" placeholder:"FILE"`
	Sources []string          `help:"Local addresses to connect from, in turn, such as 127.0.0.2." placeholder:"ADDR"`

	Prefix     string            `help:"Identities are PREFIX-00001 and so on." default:"FLEET"`
	Template   identity.Template `help:"Identities by template instead, such as DE*CPO*E%06d." placeholder:"TEXT"`
	CACert     string            `name:"ca-cert" help:"Certificate (PEM) of the CA that the stations' certificates are made with. The server need not be Holdfast then, and no operator API is asked." type:"path" placeholder:"FILE"`
	CAKey      string            `name:"ca-key" help:"Key of that CA." type:"path" placeholder:"FILE"`
	Password   identity.Text     `help:"Passwords by template, {id}, {serial} or {n} in it, for a server that knows them. No operator API is asked then." placeholder:"TEXT"`
	Identities string            `help:"Folder with the stations' credentials: ID.crt and ID.key, or ID.password. No operator API is asked then." type:"path" placeholder:"DIR"`
	Operator   bool              `help:"Ask Holdfast's operator API although the credentials come from elsewhere: for the scenario's commands and the record."`
	Shard      string            `help:"Run part I of N of the stations: other processes run the others. The same flags and seed make one plan." placeholder:"I/N"`

	Settle bool     `help:"At the end, let open transactions finish and queues drain, and compare with Holdfast's record. Scenarios always do."`
	Report []string `help:"Write the report: FILE.html with plots, FILE.json, FILE.xml for pipelines (JUnit)." type:"path" placeholder:"FILE"`
	Ledger string   `help:"Write every transaction and what the server acknowledged of it, for fleet verify." type:"path" placeholder:"FILE"`
	Calls  string   `help:"Write every CALL that the stations sent, with its answer and latency: a line of JSON each." type:"path" placeholder:"FILE"`
	FailOn []string `help:"End with status 1 if one of these is so: p99>50ms,lost>0,refused>0. fleet check --figures lists the figures." placeholder:"CONDITION"`
}

func (c *fleetRun) Run(e *env) (failed error) {
	s, fails, err := c.prepare()
	if err != nil {
		return err
	}
	cfg := scenario.Config{Scenario: s, Seed: c.Seed, Fleet: fleet.Config{Logger: e.log, Targets: make(map[ocpp.SecurityProfile]string)}}
	operator, err := c.operator()
	if err != nil {
		return err
	}
	if err := c.stations(e, operator, &cfg); err != nil {
		return err
	}
	if err := c.targets(&cfg); err != nil {
		return err
	}
	if err := c.trust(&cfg); err != nil {
		return err
	}
	c.dialFrom(&cfg.Fleet)
	if operator != nil {
		cfg.Command = operator.command
	}
	recorder := fleetreport.NewRecorder()
	cfg.Fleet.OnCall, cfg.Fleet.OnConnect = recorder.Call, recorder.Connect
	if c.Calls != "" {
		calls, err := createCalls(c.Calls)
		if err != nil {
			return err
		}
		defer func() { failed = cmp.Or(failed, calls.close()) }()
		cfg.Fleet.OnCall = func(call fleet.CallRecord) { recorder.Call(call); calls.call(call) }
	}
	run, err := scenario.New(cfg)
	if err != nil {
		return err
	}
	w := fleetWatch{command: c, env: e, scenario: s, run: run, recorder: recorder, operator: operator, length: s.Length(cfg.Stations)}
	res, err := w.whole()
	if err != nil {
		return err
	}
	for _, s := range cfg.Stations {
		if target := cfg.Fleet.Targets[s.Profile]; !slices.Contains(res.Targets, target) {
			res.Targets = append(res.Targets, target)
		}
	}
	slices.Sort(res.Targets)
	res.Judge(s.Assert, fails)
	return c.finish(e, &res)
}

// prepare reads what the command line says without asking anybody.
func (c *fleetRun) prepare() (*scenario.Scenario, []scenario.Assertion, error) {
	bad := func(format string, args ...any) (*scenario.Scenario, []scenario.Assertion, error) {
		return nil, nil, &usageError{fmt.Sprintf(format, args...)}
	}
	name := c.Scenario
	if name == "" {
		name = "steady"
	}
	s, err := scenario.Load(name)
	if err != nil {
		return bad("%s", err)
	}
	o := scenario.Override{Stations: c.Stations, For: c.For, Ramp: c.Ramp, Speed: c.Speed, Idle: c.Idle, IDTags: c.IDTags}
	if c.Scenario == "" { // a plain run has no verdict but what --fail-on asks for
		s.Name, s.About, s.Assert, s.Speed = "plain", "Stations that come, stay and charge.", nil, 1
		if c.Rate == nil && c.Ramp == 0 {
			o.Rate = plainRate
		}
	}
	if c.Rate != nil {
		if o.Rate = *c.Rate; o.Rate == 0 {
			o.Rate = atOnce
		}
		if o.Rate < 0 || c.Ramp != 0 {
			return bad("--rate %g: not negative, and not together with --ramp", *c.Rate)
		}
	}
	if c.Stations < 0 || c.Stations > identity.MaxStations {
		return bad("--stations %d: at most %d", c.Stations, identity.MaxStations)
	}
	if c.For < 0 || c.Ramp < 0 || c.Speed < 0 {
		return bad("--for, --ramp and --speed: not negative")
	}
	for _, p := range c.Profiles {
		if !ocpp.SecurityProfile(p).Valid() {
			return bad("--profiles %d: 1, 2 or 3", p)
		}
		o.Profiles = append(o.Profiles, ocpp.SecurityProfile(p))
	}
	for _, v := range c.Versions {
		if !ocpp.Version(v).Valid() {
			return bad("--versions %s: 1.6, 2.0.1 or 2.1", v)
		}
		o.Versions = append(o.Versions, ocpp.Version(v))
	}
	for _, source := range c.Sources {
		if net.ParseIP(source) == nil {
			return bad("--sources %s: not an IP address", source)
		}
	}
	if (c.CACert == "") != (c.CAKey == "") {
		return bad("--ca-cert and --ca-key belong together")
	}
	if c.Identities != "" && (c.CACert != "" || c.Password != "" || c.Template != "") {
		return bad("--identities: the folder has the names and the credentials; without --ca-cert, --password and --template")
	}
	if _, _, err := c.shard(); err != nil {
		return bad("%s", err)
	}
	for _, file := range c.Report {
		if writers[filepath.Ext(file)] == nil {
			return bad("--report %s: the name must end with .html, .json or .xml", file)
		}
	}
	for _, file := range append([]string{c.Ledger, c.Calls}, c.Report...) { // not at the end of a long run
		if info, err := os.Stat(filepath.Dir(file)); file != "" && (err != nil || !info.IsDir()) {
			return bad("%s: there is no folder %s to write it into", file, filepath.Dir(file))
		}
	}
	var fails []scenario.Assertion
	for _, text := range c.FailOn {
		a, err := scenario.ParseAssertion(text)
		if err != nil {
			return bad("--fail-on %s (fleet check --figures lists the figures)", err)
		}
		fails = append(fails, a)
	}
	s.Apply(o)
	return s, fails, nil
}

const (
	plainRate = 200 // stations per second that begin to connect in a run without a scenario
	atOnce    = 1e6
)

// shard is which part of the stations this process runs; 1 of 1 without --shard.
func (c *fleetRun) shard() (i, n int, err error) {
	if c.Shard == "" {
		return 1, 1, nil
	}
	if _, err := fmt.Sscanf(c.Shard+"\n", "%d/%d\n", &i, &n); err != nil || i < 1 || i > n {
		return 0, 0, fmt.Errorf("--shard %q: want I/N, such as 1/4 for the first of four parts", c.Shard)
	}
	return i, n, nil
}

// targets says where the stations of each profile connect to.
func (c *fleetRun) targets(cfg *scenario.Config) error {
	given := make(map[ocpp.SecurityProfile]string)
	for _, target := range c.Target {
		switch scheme, _, _ := strings.Cut(target, "://"); scheme {
		case "ws":
			given[ocpp.ProfilePlain] = target
		case "wss":
			given[ocpp.ProfileTLS], given[ocpp.ProfileMTLS] = target, target
		default:
			return &usageError{fmt.Sprintf("--target %q: want ws://host:port/path or wss://host:port/path", target)}
		}
	}
	if len(c.Target) == 0 {
		for key, target := range c.Targets {
			p := ocpp.SecurityProfile(0)
			if key = strings.TrimSpace(key); len(key) == 1 {
				p = ocpp.SecurityProfile(key[0] - '0')
			}
			if !p.Valid() {
				return &usageError{fmt.Sprintf("--targets %s=%s: profile 1, 2 or 3", key, target)}
			}
			given[p] = target
		}
	}
	for i := range cfg.Stations {
		p := cfg.Stations[i].Profile
		if given[p] == "" {
			return &usageError{fmt.Sprintf("no endpoint for security profile %d: give one with --target, or other --profiles", p)}
		}
	}
	cfg.Fleet.Targets = given // the others, too: an operator may change a station's profile
	return nil
}

// trust reads what the stations trust. Profile 1 needs nothing.
func (c *fleetRun) trust(cfg *scenario.Config) error {
	if cfg.Fleet.Targets[ocpp.ProfileTLS] == "" && cfg.Fleet.Targets[ocpp.ProfileMTLS] == "" {
		return nil
	}
	needed := slices.ContainsFunc(cfg.Stations, func(s scenario.Station) bool { return s.Profile != ocpp.ProfilePlain })
	name, chosen := c.CA, c.CA != ""
	switch {
	case chosen:
	case c.CACert != "":
		name = c.CACert
	case !c.asksOperator() && c.Identities != "":
		name = filepath.Join(c.Identities, "ca.crt")
	case c.Data != "":
		name = filepath.Join(c.Data, "ca.crt")
	default:
		name = filepath.Join("data", "ca.crt")
	}
	pem, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !chosen && !(needed && c.asksOperator()) {
		return nil // the system's
	}
	if err != nil {
		return fmt.Errorf("trust anchor: %w (see --ca)", err)
	}
	if cfg.Fleet.Roots, err = fleet.ParseRoots(pem); err != nil {
		return fmt.Errorf("trust anchor: %s: %w", name, err)
	}
	return nil
}

// dialFrom sets where the stations connect from.
func (c *fleetRun) dialFrom(cfg *fleet.Config) {
	if len(c.Sources) == 0 {
		return
	}
	var next atomic.Uint64
	cfg.Dial = func(ctx context.Context, _ ocpp.StationID, address string) (*net.TCPConn, error) {
		source := c.Sources[next.Add(1)%uint64(len(c.Sources))]
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return conn.(*net.TCPConn), nil
	}
}
