package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/fleet/report"
	"holdfast/fleet/scenario"
)

// shipped is how the scenarios that come with the program are tried: small and
// short, and what the server must have seen of them.
var shipped = map[string]struct {
	flags []string // of fleet run
	node  []string // of the server
	saw   func(*seen)
}{
	"steady": {flags: []string{"--stations", "15", "--for", "12s", "--speed", "600"}, saw: func(s *seen) {
		s.transactions()
		s.metric(15, "holdfast_upgrades_total", `result="admitted"`)
		if got := s.n.Metric("holdfast_upgrades_total"); got != 15 {
			s.Errorf("%v upgrade requests of 15 stations that stay", got)
		}
	}},
	"workday": {flags: []string{"--stations", "30", "--for", "20s", "--speed", "4320"}, saw: func(s *seen) {
		s.transactions()
		s.metric(1, "holdfast_calls_total", `direction="down"`, `action="TriggerMessage"`, `result="accepted"`)
		s.metric(1, "holdfast_calls_total", `action="StopTransaction"`)
		s.metric(1, "holdfast_calls_total", `action="TransactionEvent"`)
		s.metric(1, "holdfast_calls_total", `action="MeterValues"`)
	}},
	"churn": {flags: []string{"--stations", "30", "--for", "18s"}, node: impatient, saw: func(s *seen) {
		for _, reason := range []string{"peer_close", "peer_gone", "no_pong"} {
			s.closed(1, reason)
		}
		for _, reason := range []string{"no_certificate", "wrong_password", "no_common_subprotocol"} {
			s.refused(1, reason)
		}
		s.metric(1, "holdfast_tls_handshakes_total", `result="eof"`)
	}},
	"storm": {flags: []string{"--stations", "60", "--for", "19s"}, saw: func(s *seen) {
		s.closed(55, "peer_gone")     // the first time, but for those that lost it otherwise
		s.closed(60+55, "peer_close") // the second time, and at the end
		s.metric(3*55, "holdfast_upgrades_total", `result="admitted"`)
	}},
	"flaky-mobile": {flags: []string{"--stations", "30", "--for", "25s", "--speed", "300"}, node: impatient, saw: func(s *seen) {
		for _, reason := range []string{"peer_gone", "no_pong"} {
			s.closed(1, reason)
		}
		s.metric(1, "holdfast_tls_handshakes_total", `result="eof"`)
		if !slices.ContainsFunc(s.items("/api/v1/transactions"), func(item map[string]any) bool { return item["offline"] == true }) {
			s.Error("no transaction has a message of a station that was offline")
		}
	}},
	"misbehaving": {flags: []string{"--stations", "60", "--for", "25s"}, node: impatient, saw: misbehaved},
	"certificates": {flags: []string{"--stations", "40", "--for", "20s"}, saw: func(s *seen) {
		s.metric(1, "holdfast_calls_total", `action="SignCertificate"`, `version="1.6"`, `result="accepted"`)
		s.metric(1, "holdfast_calls_total", `action="SignCertificate"`, `version="2.0.1"`, `result="accepted"`)
		s.metric(1, "holdfast_calls_total", `direction="down"`, `action="CertificateSigned"`, `result="accepted"`)
		s.metric(1, "holdfast_tls_handshakes_total", `result="resumed"`)
		s.metric(1, "holdfast_tls_handshakes_total", `result="no_certificate"`)
		s.metric(1, "holdfast_tls_handshakes_total", `result="eof"`)
		certificates := s.items("/api/v1/certificates")
		if len(certificates) <= 40 {
			s.Errorf("%d certificates of 40 stations: none was renewed", len(certificates))
		}
		if !slices.ContainsFunc(certificates, func(c map[string]any) bool { return strings.Contains(fmt.Sprint(c["issuer"]), "RSA") }) {
			s.Error("no station has an RSA key")
		}
	}},
	"firmware-night": {flags: []string{"--stations", "20", "--for", "23s"}, saw: func(s *seen) {
		updated := make(map[string]int)
		for _, x := range s.items("/api/v1/stations") {
			state, _ := x["state"].(map[string]any)
			if strings.HasPrefix(fmt.Sprint(state["firmware"]), "1.") && state["firmware"] != "1.0" {
				updated[fmt.Sprint(state["version"])]++
			}
		}
		if updated["1.6"] == 0 || updated["2.0.1"] == 0 || updated["2.1"] == 0 {
			s.Errorf("stations with new firmware: %v", updated)
		}
		s.metric(1, "holdfast_calls_total", `direction="down"`, `action="Reset"`, `result="accepted"`)
		s.metric(1, "holdfast_calls_total", `direction="up"`, `action="LogStatusNotification"`)
		s.metric(30, "holdfast_calls_total", `direction="up"`, `action="BootNotification"`)
	}},
	"leak-hunt": {flags: []string{"--stations", "20", "--for", "24s"}, saw: func(s *seen) {
		s.metric(60, "holdfast_upgrades_total", `result="admitted"`)
		s.metric(20, "holdfast_tls_handshakes_total", `result="eof"`)
		s.refused(5, "no_certificate")
		s.refused(5, "wrong_password")
		s.metric(30, "holdfast_calls_total", `direction="down"`, `action="TriggerMessage"`)
		if got := s.n.Metric("holdfast_calls_total", `action="StartTransaction"`); got != 0 {
			s.Errorf("%v transactions: nobody was to charge", got)
		}
	}},
}

// impatient lets a server find out within the run that a station is silent.
var impatient = []string{"--ping-interval", "300ms", "--pong-time", "1s"}

// seen is what a run left at the server.
type seen struct {
	*testing.T
	n   *e2e.Node
	res report.Result
}

func (s *seen) metric(least float64, name string, parts ...string) {
	s.Helper()
	if got := s.n.Metric(name, parts...); got < least {
		s.Errorf("%s %v is %v, want %v at least", name, parts, got, least)
	}
}

func (s *seen) closed(least float64, reason string) {
	s.Helper()
	s.metric(least, "holdfast_closes_total", fmt.Sprintf("reason=%q", reason))
}

func (s *seen) refused(least float64, reason string) {
	s.Helper()
	s.metric(least, "holdfast_rejections_total", fmt.Sprintf("reason=%q", reason))
}

func (s *seen) transactions() {
	s.Helper()
	if s.res.Transactions == 0 || s.res.MeterValues == 0 {
		s.Errorf("%d transactions, %d meter values", s.res.Transactions, s.res.MeterValues)
	}
}

func (s *seen) items(path string) (all []map[string]any) {
	s.Helper()
	for cursor := ""; ; {
		var page struct {
			Items []map[string]any
			Next  string
		}
		if status := s.n.Do("GET", path+cursor, nil, &page); status != 200 {
			s.Fatalf("%s: HTTP %d", path, status)
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all
		}
		cursor = "?cursor=" + page.Next
	}
}

// misbehaved: the server saw every kind of what misbehaving stations do, and the
// scenario has all that the fleet can do wrong.
func misbehaved(s *seen) {
	for _, reason := range []string{"bad_frame", "bad_utf8", "too_big", "no_pong", "replaced", "peer_gone"} {
		s.closed(1, reason)
	}
	for _, reason := range []string{"no_common_subprotocol", "no_credentials", "wrong_password", "unknown_station", "no_certificate", "unknown_ca", "tls_version_or_suite"} {
		s.refused(1, reason)
	}
	for _, kind := range []string{"ping_text", "unknown_answer"} {
		s.metric(1, "holdfast_bad_messages_total", fmt.Sprintf("kind=%q", kind))
	}
	if s.res.Counts.Admitted > 0 || s.res.Counts.Probes == 0 {
		s.Errorf("%d of %d attempts with a fault were admitted", s.res.Counts.Admitted, s.res.Counts.Probes)
	}
	sc, err := scenario.Load("misbehaving")
	if err != nil {
		s.Fatal(err)
	}
	does := make(map[string]bool)
	for _, p := range sc.Phases {
		for _, c := range p.Churn {
			for name := range c.Faults {
				does[name] = true
			}
		}
	}
	for _, c := range sc.Cohorts {
		for _, name := range c.Quirks {
			does[name] = true
		}
	}
	for _, f := range fleet.Faults() {
		if f == fleet.ZeroTransaction || f == fleet.MinusOneTransaction {
			continue // what they do is a difference between the ledger and the record
		}
		if !does[f.String()] {
			s.Errorf("the scenario has no %s", f)
		}
	}
}

// TestShippedScenarios runs every scenario that comes with the program against a
// Holdfast, by the command that a user gives, and looks in the server for what
// its name says.
func TestShippedScenarios(t *testing.T) {
	if got := slices.Sorted(maps.Keys(shipped)); !slices.Equal(got, scenario.Shipped()) {
		t.Fatalf("tried are %v, shipped are %v", got, scenario.Shipped())
	}
	holdfast := e2e.Build(t, "holdfast/cmd/holdfast")
	slots := make(chan struct{}, 3)
	for name, tt := range shipped {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			n := all(t, tt.node...)
			file := filepath.Join(t.TempDir(), "report.json")
			args := append([]string{"fleet", "run", "--scenario", name, "--data", n.Data, "--url", n.API, "--json",
				"--targets", fmt.Sprintf("1=%s;2=%s;3=%s", n.Plain, n.TLS, n.MTLS), "--report", file}, tt.flags...)
			out, err := exec.CommandContext(t.Context(), holdfast, args...).Output()
			s := &seen{T: t, n: n}
			if e := json.Unmarshal(out, &s.res); e != nil {
				t.Fatalf("%v: %v\n%.2000s", err, e, out)
			}
			for _, v := range s.res.Verdicts {
				if v.Failed() {
					t.Errorf("%s: %g%s %s", v.Text, v.Value, v.Unit, v.Unknown)
				}
			}
			if !s.res.Compared || len(s.res.Problems) > 0 {
				t.Errorf("compared with the record: %v %v %v", s.res.Compared, s.res.Problems, s.res.Examples)
			}
			tt.saw(s)
			checked(t, n)
			t.Logf("%.0f s, %d transactions, errors %v, %+v", s.res.Seconds, s.res.Transactions, s.res.Errors, s.res.Counts)
		})
	}
}
