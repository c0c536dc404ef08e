package station_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/e2e"
	"holdfast/store"
)

// device is what device.mjs is told first.
type device struct {
	Identity string            `json:"identity"`
	Serial   string            `json:"serial"`
	Protocol string            `json:"protocol"`
	Strict   bool              `json:"strict"`
	URLs     map[string]string `json:"urls"`
	Profile  int               `json:"profile"`
	Password string            `json:"password"`
	Dir      string            `json:"dir"`
	Roots    []string          `json:"roots,omitempty"` // PEM, that it was made with
	Limit    int               `json:"limit"`           // characters of a certificate chain
	Hold     []string          `json:"hold,omitempty"`
}

// patience is the limit of what an outage holds up: a step that found the
// authority away is tried again after 30 seconds.
const patience = 2 * time.Minute

// site is a server whose roles are processes of their own.
type site struct {
	t                        *testing.T
	authority, core, gateway *e2e.Node
}

func newSite(t *testing.T) *site {
	t.Helper()
	broker := e2e.NewBroker(t)
	node := func(role string, ports []string, args ...string) *e2e.Node {
		n := e2e.Ports(t, t.TempDir())
		n.Args = slices.Concat([]string{role}, broker.Args(role), n.ListenArgs(ports...), args)
		if role != "gateway" {
			n.Args = append(n.Args, "--data", n.Data)
		}
		return n
	}
	s := &site{t: t}
	s.gateway = node("gateway", []string{"admin", "plain", "tls", "mtls"}, "--plain", "--gateway-id", "gw", "--drain-time", "1s")
	s.authority = node("authority", []string{"admin"})
	s.core = node("csms", []string{"admin", "api"}, "--station-url", "2="+s.gateway.TLS+";3="+s.gateway.MTLS)
	for _, n := range []*e2e.Node{s.authority, s.core, s.gateway} {
		n.Restart()
		n.AwaitReady()
	}
	return s
}

// operation starts an operation on a station by a command.
func (s *site) operation(args ...string) (o api.OperationView) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(cli(s.t, s.core, append(args, "--json")...)), &o); err != nil {
		s.t.Fatal(err)
	}
	return o
}

// done waits for the end of an operation, which has to be success.
func (s *site) done(o api.OperationView) api.OperationView {
	s.t.Helper()
	e2e.Await(s.t, o.Kind+" ends", patience, func() bool {
		s.core.Do("GET", "/api/v1/operations/"+o.ID, nil, &o)
		return o.Status.Ended()
	})
	if o.Status != store.OperationDone {
		text := ""
		for _, step := range o.Steps {
			text += step.Step + " " + step.Outcome + ": " + step.Detail + "\n"
		}
		s.t.Fatalf("%s: %s: %s\n%s", o.Kind, o.Status, o.Cause, text)
	}
	return o
}

func (st *rpcStation) last() event {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.opens[len(st.opens)-1]
}

// stands waits until the device stands still at a point, for the nth time.
func (st *rpcStation) stands(point string, nth int) {
	st.t.Helper()
	st.until(fmt.Sprintf("it stands at %q", point), func() bool {
		n := 0
		for _, h := range st.held {
			if h == point {
				n++
			}
		}
		return n >= nth
	})
}

// TestDevice takes an independent station of each version from security profile 1
// to 2 and 3 and through a renewal, by what an operator commands. Its schemas,
// OpenSSL and Node's TLS judge what Holdfast sends.
func TestDevice(t *testing.T) {
	needNPM(t)
	for _, version := range []string{"1.6", "2.0.1", "2.1"} {
		t.Run(version, func(t *testing.T) { t.Parallel(); climb(t, version, false) })
	}
}

// TestDeviceCrash does the same while the authority is killed, with SIGKILL, at
// each point at which it is needed: before the request for a certificate arrives,
// and before the station comes with its new password, profile or certificate. It
// starts again while the station is waiting.
func TestDeviceCrash(t *testing.T) {
	needNPM(t)
	for _, version := range []string{"1.6", "2.0.1", "2.1"} {
		t.Run(version, func(t *testing.T) { t.Parallel(); climb(t, version, true) })
	}
}

// onProfile2 is a device of OCPP 2.0.1 that begins with security profile 2, its
// password to be added.
func (s *site) onProfile2(id, serial string) device {
	s.t.Helper()
	roots, err := os.ReadFile(filepath.Join(s.authority.Data, "ca.crt"))
	if err != nil {
		s.t.Fatal(err)
	}
	return device{Identity: id, Serial: serial, Protocol: "ocpp2.0.1", Strict: true, Profile: 2, Dir: s.t.TempDir(), Roots: []string{string(roots)}, Limit: 8000,
		URLs: map[string]string{"2": s.gateway.TLS, "3": s.gateway.MTLS}}
}

// TestDeviceChainLimit: a station that takes no whole chain gets its certificate
// alone, and is admitted with that; one that does not even take that gets none,
// and its operation says so (OCPP 2.0.1 A02, MaxCertificateChainSize).
func TestDeviceChainLimit(t *testing.T) {
	needNPM(t)
	s := newSite(t)
	for limit, want := range map[int]string{1000: "without the issuing CA", 400: "the station takes 400"} {
		id := fmt.Sprint("DEVICE-", limit)
		d := s.onProfile2(id, id)
		d.Limit = limit
		d.Password = cli(t, s.core, "station", "add", id, "--profile", "2")
		st := launch(t, "device.mjs", d)
		st.until("the first connection", func() bool { return len(st.opens) > 0 })
		o := s.operation("station", "upgrade", id, "--profile", "3")
		e2e.Await(t, "the operation ends", patience, func() bool {
			s.core.Do("GET", "/api/v1/operations/"+o.ID, nil, &o)
			return o.Status.Ended()
		})
		told := ""
		for _, step := range o.Steps {
			if step.Step == "deliver" {
				told = step.Detail
			}
		}
		small := limit == 400
		if !strings.Contains(told, want) || (o.Status == store.OperationFailed) != small || (st.last().Profile == 3) == small {
			t.Errorf("limit of %d: %s at %s: %q; connected as %+v", limit, o.Status, o.Step, told, st.last())
		}
		st.mu.Lock()
		if len(st.bad) > 0 {
			t.Errorf("the station complains: %q", st.bad)
		}
		st.mu.Unlock()
	}
}

// TestDeviceRefused: a station whose serial number is registered wrongly asks for
// a certificate in vain, and its operation says why; registered rightly it gets
// one, by the operation that failed.
func TestDeviceRefused(t *testing.T) {
	needNPM(t)
	s, id := newSite(t), "DEVICE-WRONG"
	d := s.onProfile2(id, "SN-1")
	d.Password = cli(t, s.core, "station", "add", id, "--profile", "2", "--serial", "SN-2")
	st := launch(t, "device.mjs", d)
	st.until("the first connection", func() bool { return len(st.opens) > 0 })
	o := s.operation("station", "upgrade", id, "--profile", "3")
	e2e.Await(t, "the operation ends", patience, func() bool {
		s.core.Do("GET", "/api/v1/operations/"+o.ID, nil, &o)
		return o.Status.Ended()
	})
	if o.Status != store.OperationFailed || o.Step != "sign" || !strings.Contains(o.Cause, `"SN-1"`) || !strings.Contains(o.Cause, "register the serial number that the station has") {
		t.Errorf("%s at %s: %s", o.Status, o.Step, o.Cause)
	}
	cli(t, s.core, "station", "update", id, "--serial", "SN-1")
	s.done(s.operation("operation", "retry", o.ID))
	if got := st.last(); got.Profile != 3 {
		t.Errorf("connected as %+v", got)
	}
}

func climb(t *testing.T, version string, crash bool) {
	s, id := newSite(t), "DEVICE."+version
	// ocpp-rpc's schemas of 2.1 do not have the names that it looks for.
	d := device{Identity: id, Serial: "SN " + version, Protocol: "ocpp" + version, Strict: version != "2.1", Profile: 1, Limit: 8000, Dir: t.TempDir(),
		URLs: map[string]string{"1": s.gateway.Plain, "2": s.gateway.TLS, "3": s.gateway.MTLS}}
	d.Password = cli(t, s.core, "station", "add", id, "--profile", "1", "--serial", d.Serial)
	crashes := 0
	if crash {
		d.Hold = []string{"request", "password", "profile", "certificate"}
	}
	st := launch(t, "device.mjs", d)
	st.until("the first connection", func() bool { return len(st.opens) > 0 })

	// through kills the authority while the station stands at a point, has it go on
	// and starts the authority again when the station has noticed.
	through := func(point string, nth int) {
		t.Helper()
		if !crash {
			return
		}
		crashes++
		st.stands(point, nth)
		s.authority.Kill()
		refused := func() (n float64) {
			return s.gateway.Metric("holdfast_rejections_total", `reason="authority_unavailable"`)
		}
		before := refused()
		st.write(map[string]string{"go": point})
		if point != "request" {
			e2e.Await(t, "the station is refused while the authority is away", patience, func() bool { return refused() > before })
		}
		s.authority.Restart()
		s.authority.AwaitReady()
	}
	on := func(profile int) {
		t.Helper()
		if got := st.last(); got.Profile != profile || got.Open == nil || *got.Open != d.Protocol {
			t.Errorf("the station is connected as %+v, want security profile %d", got, profile)
		}
	}

	o := s.operation("station", "upgrade", id, "--profile", "2")
	through("profile", 1)
	s.done(o)
	on(2)
	o = s.operation("station", "rotate", id)
	through("password", 1)
	s.done(o)
	on(2)
	o = s.operation("station", "upgrade", id, "--profile", "3")
	through("request", 1)
	if crash { // its new certificate comes with its new profile
		st.stands("certificate", 1)
		st.write(map[string]string{"go": "certificate"})
	}
	through("profile", 2)
	s.done(o)
	on(3)
	first := st.last().Serial
	o = s.operation("station", "renew", id)
	through("request", 2)
	through("certificate", 2)
	s.done(o)
	on(3)

	var certs struct{ Items []store.Certificate }
	s.core.Do("GET", "/api/v1/certificates?station="+url.QueryEscape(id), nil, &certs)
	if c := certs.Items; len(c) != 2 || c[0].Serial != strings.TrimLeft(st.last().Serial, "0") || c[0].Status != store.StatusActive || c[0].FirstUsed.IsZero() ||
		c[1].Serial != strings.TrimLeft(first, "0") || c[1].Status != store.StatusSuperseded {
		t.Errorf("the station had certificate %s, then %s; inventory: %+v", first, st.last().Serial, c)
	}
	for action, want := range map[string]int{"station.add": 1, "certificate.sign": 2, "password.rotate": 1} {
		var audit struct{ Items []store.AuditEntry }
		s.core.Do("GET", "/api/v1/audit?action="+action+"&station="+url.QueryEscape(id), nil, &audit)
		if len(audit.Items) != want {
			t.Errorf("%d lines of %s in the audit record, want %d: %+v", len(audit.Items), action, want, audit.Items)
		}
	}
	if crash && crashes != 6 {
		t.Errorf("the authority was killed %d times", crashes)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.bad) > 0 {
		t.Errorf("the station complains: %q", st.bad)
	}
}
