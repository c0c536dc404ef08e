package leak

import (
	"encoding/json"
	"os/exec"
	"testing"

	"holdfast/e2e"
)

// TestBench runs the benchmark as others do, as small as it can be: sockets leak
// in two gateways, one of TLS and one of mutual TLS, and the operator API of the
// run has the verdicts.
func TestBench(t *testing.T) {
	cmd := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), "leak", "bench", "--json", "--binary", faulty(t), "--faults", "socket", "--rates", "5",
		"--placements", "pure", "--gateways", "2", "--stations", "10", "--hours", "30", "--first", "3")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var rep struct {
		Detector struct {
			Leaking int `json:"leaking"`
			Found   int `json:"leaking_found"`
			False   int `json:"false_alarms"`
		} `json:"detector"`
		ClassRight int `json:"class_right"`
		Runs       []struct {
			Onset    float64 `json:"onset_hours"`
			Gateways []struct {
				Rate   float64 `json:"percent_per_hour"`
				Leaked float64 `json:"leaked_bytes"`
				Opened int     `json:"connections_opened"`
			} `json:"gateways"`
		} `json:"runs"`
		CPU float64 `json:"overhead_cpu_percent"`
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatal(err)
	}
	if d := rep.Detector; d.Leaking == 0 || d.Found != d.Leaking || d.False != 0 || rep.ClassRight != d.Found || len(rep.Runs) != 1 || rep.CPU <= 0 {
		t.Fatalf("report %s", out)
	}
	for i, g := range rep.Runs[0].Gateways {
		if g.Opened < 10 || (g.Rate > 0) != (g.Leaked > 0) {
			t.Errorf("gateway %d: %+v", i, g)
		}
	}
}
