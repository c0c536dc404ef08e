package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/fleet/identity"
	"holdfast/leak/hunt"
	"holdfast/memory"
	"holdfast/ocpp"
)

// leakHunt runs the fleet against a server in alternating blocks and measures
// what each kind of event leaves in its memory.
type leakHunt struct {
	adminTokenFlag
	Target []string `help:"Endpoint, [PROFILE=]URL: 1=ws://…, 2=wss://…, 3=wss://…; the identity is appended. One for each security profile. Without PROFILE a wss:// endpoint is tried with and without a certificate." required:"" sep:"none" placeholder:"URL"`

	Pid       int    `help:"The server's process, if it runs on this machine." placeholder:"N"`
	Metrics   string `help:"Its Prometheus endpoint." placeholder:"URL"`
	Pprof     string `help:"Its Go profiles, http://…/debug/pprof/." placeholder:"URL"`
	Inspector string `help:"Its Node.js inspector, http://127.0.0.1:9229." placeholder:"URL"`
	Admin     string `help:"Its admin port, if it is a Holdfast: http://127.0.0.1:8801." placeholder:"URL"`
	Indirect  bool   `help:"The process does not hold the stations' connections itself, it stands behind one that does: do not check that it does."`

	CACert     string        `name:"ca-cert" help:"PEM file with a CA that the server accepts: a certificate is minted for each station." type:"existingfile" placeholder:"FILE"`
	CAKey      string        `name:"ca-key" help:"Its key." type:"existingfile" placeholder:"FILE"`
	CommonName string        `help:"CN of minted certificates: {id}, {serial} and {n} stand for the station's." default:"{id}"`
	Identities string        `help:"Directory with ID.crt and ID.key, or ID.password, instead." type:"existingdir" placeholder:"DIR"`
	Revoked    string        `help:"Directory with ID.crt and ID.key of stations that the server refuses, for the activity revoked. A Holdfast that registers the stations gets and revokes some of its own." type:"existingdir" placeholder:"DIR"`
	Password   string        `help:"Password of stations without a certificate: {id} and {n} stand for the station's." default:"hunt-{id}-password"`
	ID         string        `name:"id" help:"Template of identities." default:"HUNT-%05d"`
	CA         string        `name:"ca" help:"PEM file with what the stations trust. Default: --ca-cert, or ca.crt in the data directory." type:"path" placeholder:"FILE"`
	URL        string        `name:"url" help:"Operator API of a Holdfast that registers the stations, without --ca-cert and --identities." default:"http://127.0.0.1:8800" placeholder:"URL"`
	Token      string        `help:"API token." placeholder:"TOKEN"`
	Data       string        `help:"That Holdfast's data directory, with its token and ca.crt." type:"path" placeholder:"DIR"`
	Version    ocpp.Version  `name:"ocpp" help:"OCPP version of the stations." enum:"1.6,2.0.1,2.1" default:"1.6"`
	Stations   int           `help:"Stations of each cohort." default:"48"`
	Parallel   int           `help:"Events of an activity that run at once. A storm has all stations at once." default:"16"`
	Rate       float64       `help:"Events of an activity that begin per second; 0: as many as the server takes." default:"0"`
	Activities []string      `help:"What to try, for each profile that has it: reconnect, message, failed-handshake, wrong-password, no-certificate, revoked, wrong-protocol, oversized, takeover, silent, idle." default:"reconnect,message,failed-handshake,idle"`
	For        time.Duration `help:"How long. With nothing to confirm it takes three quarters of it." default:"15m"`
	Quick      bool          `help:"Five minutes."`
	Seed       uint64        `help:"Same seed, same order of blocks." default:"1"`
	Floor      float64       `help:"Least bytes per event that count as a leak." default:"32"`
	FailOn     failOn        `help:"When the exit status is 1, terms with commas: leak, retention, upper>SIZE (more than SIZE per event cannot be excluded), CLASS>N (a leak of more than N per event: off_heap>1KB, goroutines>0), never." default:"leak"`
	Report     string        `help:"Write the report as one HTML page." type:"path" placeholder:"FILE"`
	Evidence   string        `help:"Keep profiles and heap snapshots of what leaks in this directory." type:"path" placeholder:"DIR"`
}

// huntCallTimeout is how long a hunting station waits for an answer: a server
// that answers later than that is overloaded, and its memory says little.
const huntCallTimeout = 10 * time.Second

func (c *leakHunt) Run(e *env) error {
	if c.Quick {
		c.For = 5 * time.Minute
	}
	target := memory.Target{PID: c.Pid, Metrics: c.Metrics, Pprof: c.Pprof, Inspector: c.Inspector, Holdfast: c.Admin}
	if target == (memory.Target{}) {
		return &usageError{"what shall be measured? Give --pid, --metrics, --pprof, --inspector or --admin"}
	}
	if err := c.check(); err != nil {
		return err
	}
	var err error
	if target.Token, err = c.adminToken(); err != nil {
		return err
	}
	source, err := target.Open()
	if err != nil {
		return err
	}
	defer source.Close()
	if _, err := source.Read(e.ctx); err != nil {
		return err
	}
	h, err := c.open(e)
	if err != nil {
		return err
	}
	defer h.close()
	if !c.Indirect {
		if err := h.holds(e.ctx, source); err != nil {
			return err
		}
	}
	activities, err := h.activities(c.Activities)
	if err != nil {
		return err
	}
	if least := hunt.LeastDuration(len(activities)); c.For < least {
		return &usageError{fmt.Sprintf("--for %s: %d activities need at least %s (see --activities)", c.For, len(activities), least)}
	}
	if slices.Contains(c.Activities, "message") && !h.silent {
		if err := h.hold(e.ctx); err != nil {
			return err
		}
	}
	capture := &evidence{dir: c.Evidence, source: source, v8: c.Inspector != ""}
	defer capture.close()
	progress := newHuntProgress(e)
	experiment := hunt.Experiment{
		Source: source, Collect: c.Inspector != "" || c.Pprof != "" || c.Admin != "",
		Activities: activities, Duration: c.For, Seed: c.Seed, Floor: c.Floor,
		Stir: h.storms(activities), Progress: progress.tell,
	}
	if c.Inspector != "" || c.Pprof != "" || c.Admin != "" {
		experiment.Capture = capture.take
	}
	report, ended := hunt.Run(e.ctx, experiment)
	progress.end()
	if report == nil {
		return ended
	}
	// What ended early has a report, too: of what was seen until then.
	report.Warnings = append(h.notes, report.Warnings...)
	out := huntOutput{Report: report, Evidence: capture.found}
	if c.Report != "" {
		if err := c.writePage(out); err != nil {
			return err
		}
	}
	if err := e.print(out, out.text); err != nil {
		return err
	}
	if ended != nil {
		return ended
	}
	if why := c.FailOn.why(report); why != "" {
		if !e.json {
			fmt.Fprintf(e.stdout, "\nfails: %s\n", why)
		}
		return errSilent
	}
	return nil
}

func (c *leakHunt) check() error {
	switch {
	case (c.CACert == "") != (c.CAKey == ""):
		return &usageError{"--ca-cert and --ca-key go together"}
	case c.CACert != "" && c.Identities != "":
		return &usageError{"--ca-cert and --identities exclude each other"}
	case c.Stations < 2 || c.Stations > 5000:
		return &usageError{fmt.Sprintf("--stations %d: 2 to 5000 in each cohort", c.Stations)}
	case c.Parallel < 1 || c.Parallel > 1000:
		return &usageError{fmt.Sprintf("--parallel %d: 1 to 1000", c.Parallel)}
	case c.Floor < 0 || c.Rate < 0:
		return &usageError{"--floor and --rate: not negative"}
	}
	if err := identity.Template(c.ID).Check(); err != nil {
		return &usageError{"--id: " + err.Error()}
	}
	if _, err := c.endpoints(); err != nil {
		return err
	}
	for _, name := range c.Activities {
		if !slices.ContainsFunc(huntActivities, func(a huntActivity) bool { return a.name == name }) {
			return &usageError{fmt.Sprintf("--activities %q: there are %s", name, activityNames())}
		}
	}
	return nil
}

// endpoint is where stations of some profiles connect to.
type endpoint struct {
	url      string
	profiles []ocpp.SecurityProfile
	guessed  bool // nobody said which profiles it has
}

func (c *leakHunt) endpoints() ([]endpoint, error) {
	var list []endpoint
	var taken [ocpp.ProfileMTLS + 1]bool
	for _, text := range c.Target {
		p := endpoint{url: text}
		if n, rest, ok := strings.Cut(text, "="); ok && len(n) == 1 && n >= "1" && n <= "3" {
			p.url, p.profiles = rest, []ocpp.SecurityProfile{ocpp.SecurityProfile(n[0] - '0')}
		}
		u, err := url.Parse(p.url)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss":
			return nil, &usageError{fmt.Sprintf("--target %q: want [PROFILE=]ws://host:port/path or wss://…, with profile 1, 2 or 3", text)}
		case p.profiles == nil && u.Scheme == "ws":
			p.profiles = []ocpp.SecurityProfile{ocpp.ProfilePlain}
		case p.profiles == nil:
			p.profiles, p.guessed = []ocpp.SecurityProfile{ocpp.ProfileTLS, ocpp.ProfileMTLS}, true
		case (p.profiles[0] == ocpp.ProfilePlain) != (u.Scheme == "ws"):
			return nil, &usageError{fmt.Sprintf("--target %q: profile 1 needs ws://, profiles 2 and 3 wss://", text)}
		}
		if !p.guessed {
			if taken[p.profiles[0]] {
				return nil, &usageError{fmt.Sprintf("--target %q: a second endpoint of profile %s", text, p.profiles[0].Label())}
			}
			taken[p.profiles[0]] = true
		}
		list = append(list, p)
	}
	return list, nil
}

// open finds out what the endpoints serve, gets identities, and returns the
// fleet's side of the experiment.
func (c *leakHunt) open(e *env) (*hunter, error) {
	endpoints, err := c.endpoints()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	targets := make(map[ocpp.SecurityProfile]string)
	var profiles []ocpp.SecurityProfile
	for _, p := range endpoints {
		if p.guessed {
			if p.profiles, err = serves(e.ctx, p.url); err != nil {
				return nil, fmt.Errorf("target %s: %w", p.url, err)
			}
		}
		for _, profile := range p.profiles {
			if targets[profile] == "" {
				targets[profile] = p.url
				profiles = append(profiles, profile)
			}
		}
	}
	slices.Sort(profiles)
	identities, err := c.identities(e, profiles)
	if err != nil {
		return nil, err
	}
	revoked, err := c.revoked(e, profiles)
	if err != nil {
		return nil, err
	}
	f, err := fleet.New(fleet.Config{Targets: targets, Stations: slices.Concat(identities, revoked), Roots: roots, CallTimeout: huntCallTimeout, HandshakeTimeout: huntCallTimeout, Seed: c.Seed, Logger: e.log})
	if err != nil {
		return nil, err
	}
	h := &hunter{fleet: f, parallel: c.Parallel, rate: c.Rate}
	for _, id := range revoked {
		h.revoked = append(h.revoked, id.ID)
	}
	for _, profile := range profiles {
		cohort := &cohort{profile: profile, lines: make(map[ocpp.StationID]*fleet.Line)}
		for _, id := range identities {
			if id.Profile == profile {
				cohort.stations = append(cohort.stations, id.ID)
			}
		}
		if len(cohort.stations) < 2 {
			return nil, fmt.Errorf("security profile %s: an experiment needs two stations at least, there are %d identities", profile.Label(), len(cohort.stations))
		}
		h.cohorts = append(h.cohorts, cohort)
	}
	var guessed []ocpp.SecurityProfile
	for _, p := range endpoints {
		if p.guessed {
			guessed = append(guessed, ocpp.ProfileTLS, ocpp.ProfileMTLS)
		}
	}
	if err := h.try(e.ctx, guessed); err != nil {
		return nil, err
	}
	return h, h.awaitRefusal(e.ctx)
}

// serves asks a wss:// endpoint whether it wants certificates: without one there
// is only profile 2, with one there may be both.
func serves(ctx context.Context, target string) ([]ocpp.SecurityProfile, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	asked := false
	d := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // nothing is sent; the fleet verifies
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		},
	}}
	ctx, cancel := context.WithTimeout(ctx, huntCallTimeout)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", cmp.Or(map[bool]string{true: u.Host}[u.Port() != ""], u.Host+":443"))
	if err == nil {
		conn.Close()
	}
	switch {
	case asked:
		return []ocpp.SecurityProfile{ocpp.ProfileTLS, ocpp.ProfileMTLS}, nil
	case err != nil:
		return nil, err
	}
	return []ocpp.SecurityProfile{ocpp.ProfileTLS}, nil
}

// roots are what the stations trust.
func (c *leakHunt) roots() ([]*x509.Certificate, error) {
	name := c.CA
	switch {
	case name != "":
	case c.CACert != "":
		name = c.CACert
	case !slices.ContainsFunc(c.Target, func(t string) bool { return strings.Contains(t, "wss://") }):
		return nil, nil
	case c.Identities != "":
		return nil, nil // the system's
	default:
		name = filepath.Join(cmp.Or(c.Data, "data"), "ca.crt")
	}
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("trust anchor: %w (see --ca)", err)
	}
	roots, err := fleet.ParseRoots(pem)
	if err != nil {
		return nil, fmt.Errorf("trust anchor %s: %w", name, err)
	}
	return roots, nil
}

// identities are minted, read from a directory, or registered with a Holdfast.
func (c *leakHunt) identities(e *env, profiles []ocpp.SecurityProfile) ([]fleet.Identity, error) {
	if c.Identities != "" {
		return identity.Folder(e.ctx, c.Identities, profiles, []ocpp.Version{c.Version})
	}
	plan := identity.Plan{Stations: c.Stations * len(profiles), ID: identity.Template(c.ID), Profiles: profiles, Versions: []ocpp.Version{c.Version}}
	if c.CACert != "" {
		ca, err := identity.LoadCA(c.CACert, c.CAKey)
		if err != nil {
			return nil, err
		}
		list, err := ca.Mint(e.ctx, plan, identity.Leaf{CommonName: identity.Text(c.CommonName)})
		if err != nil {
			return nil, err
		}
		return list, identity.Fill(e.ctx, list, 0, identity.Password(plan, identity.Text(c.Password)))
	}
	list, err := plan.Identities()
	if err != nil {
		return nil, err
	}
	cl, err := (&clientFlags{URL: c.URL, Token: c.Token, Data: c.Data}).client()
	if err != nil {
		return nil, fmt.Errorf("who are the stations? Give --ca-cert and --ca-key, or --identities, or a Holdfast that registers them: %w", err)
	}
	return list, identity.Fill(e.ctx, list, registering, func(ctx context.Context, _ int, id *fleet.Identity) error {
		return registerAnew(ctx, cl, id)
	})
}

// registerAnew adds a station to a Holdfast, or gives one of an earlier run new
// credentials.
func registerAnew(ctx context.Context, cl *client, id *fleet.Identity) error {
	var added api.AddedStation
	add := func() error {
		return cl.do(ctx, http.MethodPost, "/api/v1/stations", nil, map[string]any{"id": id.ID, "profile": id.Profile}, &added)
	}
	err := add()
	if problem, ok := errors.AsType[*apiError](err); ok && problem.Status == http.StatusConflict {
		if err = cl.do(ctx, http.MethodDelete, stationURL(string(id.ID)), nil, nil, nil); err == nil {
			err = add()
		}
	}
	if err != nil {
		return err
	}
	id.Password = added.Password
	if added.Certificate != nil {
		pair, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
		if err != nil {
			return err
		}
		id.Certificate = &pair
	}
	return nil
}

// huntOutput is what a hunt prints.
type huntOutput struct {
	*hunt.Report
	Evidence []hunt.Evidence `json:"evidence,omitempty"`
}

func (o huntOutput) text(w io.Writer) {
	fmt.Fprintf(w, "verdict: %s\n", o.Summary[0])
	for _, line := range o.Summary[1:] {
		fmt.Fprintf(w, "  %s\n", line)
	}
	for _, found := range o.Evidence {
		printEvidence(w, &found)
	}
	for _, line := range o.Warnings {
		fmt.Fprintf(w, "note: %s\n", line)
	}
	events := 0.0
	for _, a := range o.Activities {
		if a.Event != hunt.IdleEvent {
			events += a.Events
		}
	}
	fmt.Fprintf(w, "%.0f events in %d rounds after %d of warm-up, %s, seed %d\n", events, o.Rounds, o.WarmUps, time.Duration(o.Took*float64(time.Second)).Round(time.Second), o.Seed)
}
