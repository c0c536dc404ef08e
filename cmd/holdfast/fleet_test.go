package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/fleet"
	fleetreport "holdfast/fleet/report"
)

// shortScenario goes through everything that a phase can hold in a few seconds.
const shortScenario = `name: short
stations: 12
profiles: [2, 3]
speed: 600
behaviour: {session_gap: 1m, session_length: 5m, back_off: {minimum: 100ms, random: never}}
cohorts:
  - {name: old, share: 30%, quirks: [no_sni, doubled_start], tls: {max: "1.2"}}
  - {name: rsa, share: 10%, tls: {key: rsa, resume: true}}
phases:
  - {name: arrive, for: 1s, connect: [{arrival: poisson}]}
  - name: trouble
    for: 2s
    storm: [{fault: reset}]
    churn: [{rate: 10/s, faults: {wrong_password: 1, no_certificate: 1, unknown_action: 1}}]
    commands: [{rate: 10/s, action: TriggerMessage, payload: {requestedMessage: Heartbeat}}]
    duplicates: [{who: old, share: 50%}]
  - {name: after, for: 2s}
assert: [lost == 0, doubled == 0, altered == 0, unknown == 0, "connected >= 50%", "connects > 12", "commands > 0"]
`

// targets are the endpoints of a site, for --targets.
func (s *site) targets() string { return "2=wss://" + s.tls + "/ocpp;3=wss://" + s.mtls + "/ocpp" }

// A scenario against a whole Holdfast: the verdicts, the reports in every form, and
// the exit status that a pipeline sees.
func TestFleetRun(t *testing.T) {
	s := startSite(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "short.yaml")
	if err := os.WriteFile(file, []byte(shortScenario), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.html"), 0o700); err != nil {
		t.Fatal(err)
	}
	name := func(ending string) string { return filepath.Join(dir, "report"+ending) }
	args := []string{"fleet", "run", "--scenario", file, "--ca", filepath.Join(s.data, "ca.crt"), "--targets", "1=ws://127.0.0.1:1;" + s.targets()}
	text, _ := s.run(exitDone, append(args, "--report", name(".html"), "--report", name(".json"), "--report", name(".xml"), "--calls", name(".calls"), "--fail-on", "p99>20s,lost>0,refused>0")...)
	contains(t, text, "nothing missing, doubled or altered", "pass  --fail-on p99>20s", "pass  commands > 0")
	var res fleetreport.Result
	readJSON(t, name(".json"), &res)
	if res.Stations != 12 || !res.Compared || res.Transactions == 0 || len(res.Problems) > 0 || res.Counts.Probes == 0 || res.Counts.Admitted > 0 ||
		res.Counts.Commands == 0 || res.Calls.Count == 0 || len(res.Samples) < 4 || len(res.Targets) != 2 {
		t.Errorf("%+v", res)
	}
	var junit struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	data, err := os.ReadFile(name(".xml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, &junit); err != nil || len(junit.Suites) != 1 || junit.Suites[0].Tests != len(res.Verdicts)+1 || junit.Suites[0].Failures != 0 {
		t.Errorf("%v %+v", err, junit)
	}
	outcomes := make(map[fleet.Outcome]int64)
	calls, err := os.ReadFile(name(".calls"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(calls)) {
		var call callLine
		if err := json.Unmarshal([]byte(line), &call); err != nil || call.Station == "" || call.Action == "" || call.ID == "" || call.Latency < call.Waited {
			t.Errorf("%v in %s", err, line)
		}
		outcomes[call.Outcome]++
	}
	if outcomes["result"]+outcomes["error"]+outcomes["timeout"] != res.Calls.Count || outcomes["result"] == 0 || outcomes["offline"] != int64(res.CutOff) {
		t.Errorf("%v; the report has %d, and %d cut off", outcomes, res.Calls.Count, res.CutOff)
	}
	page, err := os.ReadFile(name(".html"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(page), "<svg", "short: ", "passed", "trouble")
	if strings.Contains(string(page), "<script") || strings.Contains(string(page), "src=") {
		t.Error("the page needs something beside itself")
	}

	// A report that cannot be written does not hide the result.
	text, complaint := s.run(exitFailed, append(args, "--for", "2s", "--report", filepath.Join(dir, "folder.html"))...)
	contains(t, text, "short: 12 stations")
	contains(t, complaint, "report: ", "folder.html")

	// What must not be and is, by one of three processes.
	out, _ := s.run(exitFailed, append(args, "--for", "2s", "--shard", "2/3", "--sources", "127.0.0.2,127.0.0.3", "--fail-on", "connects>0", "--json")...)
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	if res.Stations != 4 || res.Connects == 0 {
		t.Errorf("%d stations, %d connects: want a third of 12", res.Stations, res.Connects)
	}
	if !slices.ContainsFunc(res.Verdicts, func(v fleetreport.Verdict) bool { return v.Text == "--fail-on connects>0" && v.Failed() }) {
		t.Errorf("%+v", res.Verdicts)
	}
}

// A signal in the middle of a storm: the stations may still come back before they
// are counted, and the run is judged.
func TestFleetInterrupted(t *testing.T) {
	s := startSite(t)
	dir := t.TempDir()
	file, report := filepath.Join(dir, "away.yaml"), filepath.Join(dir, "report.json")
	text := `{name: away, stations: 4, behaviour: {back_off: {minimum: 3s, random: never}}, assert: ["connected >= 100%", lost == 0], phases: [
		{name: arrive, for: 2s, connect: [{arrival: at_once}]}, {name: storm, for: 1h, storm: [{fault: reset}]}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out lockedBuffer
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"fleet", "run", "--scenario", file, "--url", s.url, "--data", s.data, "--report", report, "--targets", s.targets()}, &out, &out)
	}()
	connected := func(n int) func() bool {
		return func() bool { return len(jsonOf[[]api.StationView](s, "station", "list", "--connected")) == n }
	}
	eventually(t, "stations are connected", connected(4))
	eventually(t, "the storm", connected(0))
	interrupt()
	if code := <-done; code != exitDone {
		t.Errorf("exit status %d", code)
	}
	contains(t, out.String(), "ended by a signal after ", " of 1h0m2s", "pass  connected >= 100% (100%)", "nothing missing")
	var res fleetreport.Result
	readJSON(t, report, &res)
	if res.Connects != 8 || res.Connected != 4 {
		t.Errorf("%d connects, %d connected", res.Connects, res.Connected)
	}
}

// The tutorial of docs/fleet.md, word for word, but for less time. The environment
// says where the server is; its data directory is ./data, as in the tutorial.
func TestFleetTutorial(t *testing.T) {
	s := startSite(t)
	page, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tutorial, _ := strings.Cut(string(page), "\n## Tutorial: a storm\n")
	tutorial, _, _ = strings.Cut(tutorial, "\n## ")
	t.Chdir(filepath.Dir(s.data))
	for name, value := range map[string]string{"URL": s.url, "TARGETS": s.targets(), "STATIONS": "30", "FOR": "20s"} {
		t.Setenv("HOLDFAST_"+name, value)
	}
	told := make(map[string]string)
	for _, block := range codeBlock.FindAllStringSubmatch(tutorial, -1) {
		for line := range strings.Lines(block[1]) {
			command := strings.TrimSpace(line)
			if !strings.HasPrefix(command, "holdfast ") || command == "holdfast all" {
				continue
			}
			words, file, redirected := strings.Cut(strings.Replace(command, "--for 60s", "--for 20s", 1), " > ")
			var out bytes.Buffer
			if code := run(t.Context(), strings.Fields(words)[1:], &out, &out); code != exitDone {
				t.Errorf("%s: exit status %d\n%s", command, code, &out)
			}
			if redirected {
				if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			told[command] = out.String()
		}
	}
	if len(told) != 4 {
		t.Errorf("%d commands", len(told))
	}
	contains(t, told["holdfast fleet run --scenario storm --for 60s --report storm.html"], "storm: 30 stations", "60 faults of connected stations", "nothing missing, doubled or altered", "pass  connected >= 100% (100%)")
	contains(t, told["holdfast fleet check mine.yaml"], "mine.yaml: good. 1000 stations, 1m25s", "reset:1000")
	contains(t, told["holdfast fleet run --scenario mine.yaml"], "storm: 30 stations")
	if html, err := os.ReadFile("storm.html"); err != nil || !strings.Contains(string(html), "<svg") {
		t.Error(err)
	}
}

// Stations connect from the given addresses in turn.
func TestFleetSources(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var cfg fleet.Config
	(&fleetRun{Sources: []string{"127.0.0.2", "127.0.0.3"}}).dialFrom(&cfg)
	from := make(map[string]int)
	for range 4 {
		c, err := cfg.Dial(t.Context(), "CS", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		from[c.LocalAddr().(*net.TCPAddr).IP.String()]++
		c.Close()
	}
	if from["127.0.0.2"] != 2 || from["127.0.0.3"] != 2 {
		t.Errorf("%v", from)
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		width int
		want  string
	}{{0, "a·█·d"}, {5, "a·█·d"}, {4, "a·█…"}, {1, "…"}} {
		if got := cut("a·█·d", tt.width); got != tt.want {
			t.Errorf("%d: %q, want %q", tt.width, got, tt.want)
		}
	}
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// Wrong usage is told before a server is asked.
func TestFleetUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--scenario", "no-such"}, "neither a file nor one of"},
		{[]string{"--profiles", "4"}, "1, 2 or 3"},
		{[]string{"--versions", "1.5"}, "1.6, 2.0.1 or 2.1"},
		{[]string{"--ca-cert", "x"}, "belong together"},
		{[]string{"--identities", "x", "--password", "y"}, "the folder has"},
		{[]string{"--shard", "3/2"}, "want I/N"},
		{[]string{"--shard", "1/2x"}, "want I/N"},
		{[]string{"--sources", "127.0.0.2,localhost"}, "localhost: not an IP address"},
		{[]string{"--report", "x.pdf"}, ".html, .json or .xml"},
		{[]string{"--report", "nowhere/x.html"}, "there is no folder"},
		{[]string{"--ledger", "nowhere/x"}, "there is no folder"},
		{[]string{"--calls", "nowhere/x"}, "there is no folder"},
		{[]string{"--fail-on", "p99>50"}, "needs a unit"},
		{[]string{"--fail-on", "errors.tsl>0"}, "no errors of the kind"},
		{[]string{"--rate", "5", "--ramp", "3s"}, "not together"},
		{[]string{"--password", "secret", "--target", "http://127.0.0.1/", "--profiles", "1"}, "want ws://"},
		{[]string{"--password", "secret", "--target", "ws://127.0.0.1/", "--profiles", "1,2"}, "no endpoint for security profile 2"},
		{[]string{"--password", "secret", "--profiles", "3"}, "--ca-cert"},
	} {
		s := &site{t: t, url: "http://127.0.0.1:1", data: t.TempDir()}
		_, text := s.run(exitUsage, append([]string{"fleet", "run"}, tt.args...)...)
		contains(t, text, tt.want)
	}
}

func TestFleetScenarios(t *testing.T) {
	local := func(code int, args ...string) string {
		t.Helper()
		var out strings.Builder
		if got := run(t.Context(), args, &out, &out); got != code {
			t.Errorf("%v: exit status %d, want %d: %s", args, got, code, &out)
		}
		return out.String()
	}
	list := local(exitDone, "fleet", "scenarios")
	contains(t, list, "storm", "leak-hunt", "workday")
	text := local(exitDone, "fleet", "scenarios", "storm")
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, local(exitDone, "fleet", "check", file, "steady"), "good. 1000 stations", "reset:1000", "steady: good")
	if err := os.WriteFile(file, []byte(strings.Replace(text, "fault: reset", "fault: rest", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(text, "fault: reset")
	place := fmt.Sprintf("mine.yaml:%d:", strings.Count(before, "\n")+1)
	contains(t, local(exitFailed, "fleet", "check", file), place, `unknown fault "rest"`)
	contains(t, local(exitDone, "fleet", "check", "--figures"), "connect_p99", "lost")
	contains(t, local(exitDone, "fleet", "quirks"), "never_pongs", "oversized")
	local(exitUsage, "fleet", "check")
	local(exitUsage, "fleet", "scenarios", "no-such")
}
