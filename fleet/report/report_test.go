package report

import (
	"encoding/xml"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

func assertions(t *testing.T, texts ...string) (list []scenario.Assertion) {
	t.Helper()
	for _, text := range texts {
		a, err := scenario.ParseAssertion(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

// busy is a recorder that saw a hundred CALLs of 1 to 100 ms, one of which failed,
// and one that timed out after a second.
func busy() *Recorder {
	r := NewRecorder()
	for i := range 100 {
		c := fleet.CallRecord{Action: "Heartbeat", Due: 0, Sent: time.Millisecond, Done: time.Duration(i+1) * time.Millisecond, Outcome: fleet.Answered}
		if i == 50 {
			c.Outcome = fleet.Refusing
		}
		r.Call(c)
	}
	r.Call(fleet.CallRecord{Action: "MeterValues", Done: time.Second, Outcome: fleet.TimedOut})
	r.Call(fleet.CallRecord{Action: "MeterValues", Done: time.Hour, Outcome: fleet.CutOff})
	r.Connect(fleet.ConnectRecord{Done: 20 * time.Millisecond})
	r.Connect(fleet.ConnectRecord{Failure: "unauthorized"})
	r.Connect(fleet.ConnectRecord{Failure: "dial"})
	return r
}

// TestJudge: every figure can pass and can fail, and one that is not there fails.
func TestJudge(t *testing.T) {
	res := busy().Result(Result{Wanted: 4, Undelivered: 4, Compared: true, Problems: map[fleet.ProblemKind]int{fleet.Missing: 2, fleet.Doubled: 1}, Counts: scenario.Counts{Commands: 7, Admitted: 2}},
		fleet.Stats{Stations: 5, Errors: map[string]uint64{"tls": 3, "discarded": 1}, Connects: 9})
	res.Connected = 3
	for text, want := range map[string]float64{
		"p50 < 1s": 0.051, "max < 1h": 1, "p99(Heartbeat) < 1s": 0.099, "connect_p50 < 1s": 0.02, "connected > 0%": 75, "connected > 0": 3, "connects > 0": 9,
		"refused > 0": 1, "admitted > 0": 2, "calls > 0": 100, "callerrors > 0": 1, "timeouts > 0": 1, "lost > 0": 7, "doubled > 0": 1, "altered == 0": 0, "errors > 0": 4,
		"errors.tls > 0": 3, "commands > 0": 7, "command_errors == 0": 0,
	} {
		a := assertions(t, text)[0]
		got, _, unknown := res.figure(a)
		if unknown != "" || got < want*0.98 || got > want*1.02 {
			t.Errorf("%s: %g %s, want %g", text, got, unknown, want)
		}
		one := res
		one.Verdicts = nil
		one.Judge([]scenario.Assertion{a}, []scenario.Assertion{a})
		if !one.Verdicts[0].Pass || one.Verdicts[0].Failed() || one.Verdicts[1].Pass || !one.Verdicts[1].Failed() {
			t.Errorf("%s: %+v", text, one.Verdicts)
		}
	}
	var none Result
	none.Judge(assertions(t, "p99(Reset) < 1s", "doubled == 0"), assertions(t, "p99 > 50ms"))
	if v := none.Verdicts; !v[0].Failed() || !v[1].Skipped || v[1].Failed() || !v[2].Failed() {
		t.Errorf("of a run in which nothing happened: %+v", v)
	}
	if !none.Failed() {
		t.Error("a run in which nothing happened passes")
	}
	good := Result{Problems: map[fleet.ProblemKind]int{fleet.Altered: 1}}
	if !good.Failed() {
		t.Error("an altered transaction passes")
	}
}

func TestForms(t *testing.T) {
	r := busy()
	for i := range 10 {
		phase := "one"
		if i > 4 {
			phase = "<two>"
		}
		r.Sample(time.Duration(i+1)*time.Second, phase, 5, fleet.Stats{Errors: map[string]uint64{"lost": uint64(i)}, Sent: uint64(i * 10)})
	}
	res := r.Result(Result{Scenario: "a<b", Targets: []string{"ws://x"}}, fleet.Stats{Errors: map[string]uint64{"lost": 9}})
	res.Judge(assertions(t, "errors == 0", "doubled == 0"), nil)
	var page, junit strings.Builder
	if err := res.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a&lt;b", "&lt;two&gt;", "<path", "failed", "Heartbeat"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if strings.Contains(page.String(), "<two>") || strings.Contains(page.String(), "NaN") {
		t.Error("the page holds what was not escaped, or no number")
	}
	if err := res.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	var suites testSuites
	if err := xml.Unmarshal([]byte(junit.String()), &suites); err != nil || suites.Suite.Tests != 3 || suites.Suite.Failures != 1 || suites.Suite.Skipped != 2 {
		t.Errorf("%v: %s", err, &junit)
	}
	text := strings.Join(res.Lines(), "\n")
	for _, want := range []string{"FAIL  errors == 0 (9)", "skip  doubled == 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

// TestLive: the view of a run that goes.
func TestLive(t *testing.T) {
	r := busy()
	stats := fleet.Stats{Stations: 10, Connected: map[ocpp.SecurityProfile]int{ocpp.ProfileTLS: 4, ocpp.ProfileMTLS: 1}, Connects: 8, Queued: 3, Errors: map[string]uint64{"tls": 2, "lost": 1}}
	live := func() Live {
		return Live{Scenario: "storm", Phase: "second", At: 30 * time.Second, Length: 2 * time.Minute, Wanted: 7, Stats: stats, Last: r.Last(), Calls: r.Calls(), Connects: r.Connects()}
	}
	if line := live().Line(); !strings.Contains(line, " no calls ") {
		t.Error(line) // nothing was sampled yet
	}
	r.Sample(2*time.Second, "second", 7, stats)
	text := strings.Join(live().Lines(), "\n")
	for _, want := range []string{"storm  30s of 2m0s  phase second", "time      ███████░░░", "stations  ███████████████░░░", "5 of 10, 7 to be here", "connects 4/s", "queued 3",
		"p50 51", "p99 100", "(101)", "p50 20", "lost 1 · tls 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if line := live().Line(); !strings.Contains(line, "phase=second connected=5 wanted=7 connects/s=4") || !strings.Contains(line, "p99=100") {
		t.Error(line)
	}
}

// TestSamples: a long run keeps a bounded number of samples, and loses no error.
func TestSamples(t *testing.T) {
	r := NewRecorder()
	const seconds = 3*maxSamples + 1
	for i := range seconds {
		r.Sample(time.Duration(i+1)*time.Second, "p", 1, fleet.Stats{Errors: map[string]uint64{"lost": uint64(i + 1)}, Sent: uint64(2 * (i + 1))})
	}
	samples := r.Samples()
	if len(samples) > maxSamples || len(samples) < maxSamples/2 {
		t.Errorf("%d samples", len(samples))
	}
	lost := uint64(0)
	for _, s := range samples {
		lost += s.Errors["lost"]
		if s.Sent < 1.99 || s.Sent > 2.01 {
			t.Fatalf("sent %g a second, want 2", s.Sent)
		}
	}
	if seconds-lost > 4 { // in the sample that is not whole yet
		t.Errorf("%d of %d errors", lost, seconds)
	}
	r = NewRecorder()
	r.Sample(time.Second, "p", 1, fleet.Stats{Connects: 10})
	r.Sample(time.Second+10*time.Millisecond, "p", 1, fleet.Stats{Connects: 11})
	if s := r.Samples(); len(s) != 1 || s[0].Connects < 10.8 || s[0].Connects > 11 {
		t.Errorf("the rest of a second: %+v", s)
	}
}

// TestActions: who invents actions does not grow the recorder without bound.
func TestActions(t *testing.T) {
	r := NewRecorder()
	for i := range 3 * maxActions {
		r.Call(fleet.CallRecord{Action: fmt.Sprint("A", i), Outcome: fleet.Answered})
	}
	if n := len(r.actions); n > maxActions+1 {
		t.Errorf("%d actions", n)
	}
	if got := r.actions[otherOne]; got == nil || got.times.TotalCount() == 0 {
		t.Errorf("actions %v", maps.Keys(r.actions))
	}
}
