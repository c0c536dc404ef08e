// Package life_test is the life of stations' credentials with whole processes:
// simulated stations get certificates, passwords and security profiles over OCPP,
// by the commands that an operator gives.
package life_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/e2e"
	"holdfast/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Clean()
	os.Exit(code)
}

// patience is the limit of what takes seconds on an idle machine.
const patience = 90 * time.Second

// site is a server with every role, and a fleet.
type site struct {
	*e2e.Node
	t *testing.T
}

// newSite starts a server that tells stations where it is.
func newSite(t *testing.T, extra ...string) *site {
	t.Helper()
	n := e2e.Ports(t, t.TempDir())
	n.Args = append([]string{"all", "--data", n.Data, "--plain", "--drain-time", "1s", "--station-url", "2=" + n.TLS + ";3=" + n.MTLS},
		n.ListenArgs("api", "admin", "plain", "tls", "mtls")...)
	n.Args = append(n.Args, extra...)
	n.Restart()
	n.AwaitReady()
	return &site{n, t}
}

// fleet runs simulated stations until the test ends, and waits for them.
func (s *site) fleet(count int, args ...string) *e2e.Process {
	s.t.Helper()
	p := e2e.Start(s.t, e2e.Build(s.t, "holdfast/cmd/holdfast"), append([]string{"fleet", "run", "--idle", "--for", "10m", "--url", s.API, "--data", s.Data,
		"--targets", "1=" + s.Plain + ";2=" + s.TLS + ";3=" + s.MTLS}, args...)...)
	s.await("the fleet is connected", func() bool {
		connected := 0
		for _, st := range s.stations() {
			if st.Connected {
				connected++
			}
		}
		return connected >= count
	})
	return p
}

func (s *site) await(what string, ok func() bool) {
	s.t.Helper()
	e2e.Await(s.t, what, patience, ok)
}

// run gives a command and decodes what it prints into out, unless that is nil.
// It returns what went wrong.
func (s *site) run(out any, args ...string) error {
	s.t.Helper()
	cmd := exec.Command(e2e.Build(s.t, "holdfast/cmd/holdfast"), append(slices.Clone(args), "--json", "--url", s.API, "--data", s.Data)...)
	text, err := cmd.Output()
	if out != nil && len(text) > 0 {
		if err := json.Unmarshal(text, out); err != nil {
			s.t.Fatalf("holdfast %v: %v in %q", args, err, text)
		}
	}
	if exit, ok := err.(*exec.ExitError); ok && len(exit.Stderr) > 0 {
		s.t.Logf("holdfast %v: %s", args, exit.Stderr)
	}
	return err
}

// must is run for a command that has to succeed.
func (s *site) must(out any, args ...string) {
	s.t.Helper()
	if err := s.run(out, args...); err != nil {
		s.t.Fatalf("holdfast %v: %v", args, err)
	}
}

// operate gives a command that starts an operation, waits for its end, which has
// to be success, and returns it.
func (s *site) operate(args ...string) api.OperationView {
	s.t.Helper()
	var o api.OperationView
	if err := s.run(&o, append(args, "--wait")...); err != nil || o.Status != store.OperationDone {
		s.t.Fatalf("holdfast %v: %v: %s: %s\n%s", args, err, o.Status, o.Cause, steps(o))
	}
	return o
}

func steps(o api.OperationView) (text string) {
	for _, s := range o.Steps {
		text += s.Step + " " + s.Outcome + ": " + s.Detail + "\n"
	}
	return text
}

type stationView struct {
	ID        string
	Connected bool
	Profile   int // of the connection
}

func (s *site) stations() []stationView {
	s.t.Helper()
	var list []struct {
		ID    string
		State *store.StationState
	}
	s.must(&list, "station", "list")
	views := make([]stationView, len(list))
	for i, l := range list {
		views[i] = stationView{ID: l.ID}
		if l.State != nil {
			views[i].Connected, views[i].Profile = l.State.Connected, int(l.State.Profile)
		}
	}
	return views
}

// certificates are those of a station, newest first.
func (s *site) certificates(station string) (list []store.Certificate) {
	s.t.Helper()
	s.must(&list, "cert", "list", "--station", station)
	return list
}
