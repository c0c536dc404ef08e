package leak

import (
	"encoding/json"
	"os/exec"
	"slices"
	"testing"

	"holdfast/e2e"
)

// TestBench runs the benchmark as others do, as small as it can be: sockets leak
// in two gateways, one of TLS and one of mutual TLS, and the operator API of the
// run has the verdicts.
func TestBench(t *testing.T) {
	kept := t.TempDir()
	rep, out := bench(t, "--binary", faulty(t), "--faults", "socket", "--rates", "5",
		"--placements", "pure", "--gateways", "2", "--stations", "10", "--hours", "30", "--first", "3", "--keep", kept)

	if d := rep.Detector; d.Leaking == 0 || d.Found != d.Leaking || d.False != 0 || rep.ClassRight != d.Found || len(rep.Runs) != 1 || rep.CPU <= 0 {
		t.Fatalf("report %s", out)
	}
	for i, g := range rep.Runs[0].Gateways {
		if g.Opened < 10 || (g.Rate > 0) != (g.Leaked > 0) {
			t.Errorf("gateway %d: %+v", i, g)
		}
	}

	// What was kept is judged in the same way.
	again, out := bench(t, "--replay", kept)
	if again.Detector != rep.Detector || again.ClassRight != rep.ClassRight || len(again.Runs) != 1 {
		t.Fatalf("replayed: %s", out)
	}
	for i, g := range again.Runs[0].Gateways {
		if live := rep.Runs[0].Gateways[i]; !slices.Equal(g.Verdicts, live.Verdicts) {
			t.Errorf("gateway %d: verdicts %v, replayed %v", i, live.Verdicts, g.Verdicts)
		}
	}
}

// benchReport is what the test looks at.
type benchReport struct {
	Detector struct {
		Leaking int `json:"leaking"`
		Found   int `json:"leaking_found"`
		False   int `json:"false_alarms"`
	} `json:"detector"`
	ClassRight int `json:"class_right"`
	Runs       []struct {
		Onset    float64 `json:"onset_hours"`
		Gateways []struct {
			Rate     float64        `json:"percent_per_hour"`
			Leaked   float64        `json:"leaked_bytes"`
			Opened   int            `json:"connections_opened"`
			Verdicts []benchVerdict `json:"verdicts"`
		} `json:"gateways"`
	} `json:"runs"`
	CPU float64 `json:"overhead_cpu_percent"`
}

type benchVerdict struct {
	Hour  float64 `json:"hour"`
	Class string  `json:"class"`
}

// bench runs the benchmark and returns its report.
func bench(t *testing.T, args ...string) (rep benchReport, out []byte) {
	t.Helper()
	out, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), append([]string{"leak", "bench", "--json"}, args...)...).Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatal(err)
	}
	return rep, out
}
