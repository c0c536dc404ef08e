package hunt

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"holdfast/memory"
)

// sleeper is a process that does nothing, and a source that reads it.
func sleeper(t *testing.T) (*exec.Cmd, memory.Source) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	source, err := memory.OpenPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	return cmd, source
}

// short is an experiment with one activity, which calls at before each block.
func short(source memory.Source, at func(Progress)) Experiment {
	return Experiment{
		Source: source, Duration: LeastDuration(1) + time.Second, Progress: at,
		Activities: []Activity{{Event: "reconnect", Do: func(_ context.Context, d time.Duration) (Done, error) {
			time.Sleep(d)
			return Done{Events: 100}, nil
		}}},
	}
}

// TestEndsEarly: an experiment that is interrupted, or whose process ends, has a
// report of what was seen until then, which is no clean bill.
func TestEndsEarly(t *testing.T) {
	for _, tt := range []struct {
		name  string
		at    Phase
		round int
		kill  bool
		says  string
		knows bool
	}{
		{"interrupted in the warm-up", PhaseWarmUp, 1, false, "ended in the warm-up, round 1 of 6: interrupted", false},
		{"interrupted in the trial", PhaseTrial, 5, false, "ended in the trial, round 5 of 6: interrupted", true},
		{"process ends", PhaseTrial, 2, true, "it may have crashed or been restarted", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd, source := sleeper(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := Run(ctx, short(source, func(p Progress) {
				if p.Phase != tt.at || p.Round != tt.round {
					return
				}
				if tt.kill {
					cmd.Process.Kill()
				} else {
					cancel()
				}
			}))
			if err == nil || r == nil || !strings.Contains(err.Error(), tt.says) || r.Ended != err.Error() {
				t.Fatalf("report %+v, error %v, want one with %q", r, err, tt.says)
			}
			if r.Verdict != VerdictUnfinished || r.Summary[0] != "unfinished" {
				t.Errorf("verdict %s, %q", r.Verdict, r.Summary)
			}
			if a := r.Activities[0]; (a.Verdict == VerdictNone) != tt.knows || !tt.knows && a.Verdict != VerdictUnknown {
				t.Errorf("of the activity is said: %s, %s", a.Verdict, a.Summary)
			}
			if err := (&Page{Report: r}).Write(new(bytes.Buffer)); err != nil {
				t.Error(err)
			}
		})
	}
	// Nothing was read: no report.
	cmd, source := sleeper(t)
	cmd.Process.Kill()
	cmd.Wait()
	if r, err := Run(t.Context(), short(source, nil)); r != nil || err == nil {
		t.Errorf("of a process that has ended: %+v, %v", r, err)
	}
}

// TestActivityFails: an activity that never works ends the experiment, though
// another one works between; what it keeps would not be known, and said to be
// nothing.
func TestActivityFails(t *testing.T) {
	t.Parallel()
	_, source := sleeper(t)
	e := short(source, nil)
	e.Activities = append(e.Activities, Activity{Event: "takeover", Do: func(context.Context, time.Duration) (Done, error) {
		return Done{Failed: 11, Reason: "it is not closed"}, nil
	}})
	e.Duration = LeastDuration(2)
	r, err := Run(t.Context(), e)
	if err == nil || !strings.Contains(err.Error(), "takeover: none of 22 attempts went as intended: it is not closed") {
		t.Errorf("%v", err)
	}
	if r == nil || r.Verdict != VerdictUnfinished {
		t.Errorf("%+v", r)
	}
}

// TestEvidenceFails: a verdict stands, though its evidence cannot be taken.
func TestEvidenceFails(t *testing.T) {
	r := (&process{random: rand.New(rand.NewPCG(1, 5)), keeps: [2]float64{0, 3400}, noise: 50e3, confirm: 0.5}).experiment()
	r.end("ended in the evidence, round 1 of 2: disk full", defaultFloor)
	if r.Verdict != VerdictLeak || r.Summary[0] != "leak" || len(r.Warnings) != 1 {
		t.Errorf("verdict %s, %q, notes %q", r.Verdict, r.Summary, r.Warnings)
	}
}

// TestSuspect: what the trial was suspicious of is told, and that nothing has
// confirmed it.
func TestSuspect(t *testing.T) {
	r := many(60)
	r.end("ended in the trial, round 5 of 6: interrupted", defaultFloor)
	said := false
	for _, a := range r.Activities {
		if a.Verdict == VerdictSuspect {
			said = strings.Contains(a.Summary, "which nothing has confirmed") && a.Name() == "mutual-TLS oversized message" && strings.Contains(a.Summary, "off-heap")
		} else if len(a.Findings) > 0 {
			t.Errorf("%s: %+v", a.Name(), a.Findings)
		}
	}
	if !said || r.Verdict != VerdictUnfinished {
		t.Errorf("verdict %s, %q", r.Verdict, r.Summary)
	}
}
