package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/leak/hunt"
)

func TestFailOn(t *testing.T) {
	report := func(v hunt.Verdict, upper float64, findings ...hunt.Finding) *hunt.Report {
		return &hunt.Report{Verdict: v, Activities: []hunt.ActivityReport{{
			Cohort: "mutual-TLS", Event: "reconnect", Verdict: v, Summary: "each mutual-TLS reconnect keeps something",
			Effects: map[hunt.Quantity]hunt.Effect{hunt.Kept: {Value: upper / 2, Low: 0, High: upper}}, Findings: findings,
		}}}
	}
	finding := func(q hunt.Quantity, n float64) hunt.Finding {
		return hunt.Finding{Quantity: q, Verdict: hunt.VerdictLeak, Effect: hunt.Effect{Value: n}}
	}
	unmeasured := report(hunt.VerdictNone, 0)
	unmeasured.Activities[0].Effects = nil
	negative := report(hunt.VerdictNone, 0)
	negative.Activities[0].Effects[hunt.Kept] = hunt.Effect{Value: -2000, Low: -3000, High: -1000}
	for _, tt := range []struct {
		terms  string
		report *hunt.Report
		fails  bool
	}{
		{"leak", report(hunt.VerdictNone, 10), false},
		{"leak", report(hunt.VerdictRetention, 10), false},
		{"leak", report(hunt.VerdictLeak, 10), true},
		{"retention", report(hunt.VerdictRetention, 10), true},
		{"retention", report(hunt.VerdictLeak, 10), true},
		{"never", report(hunt.VerdictLeak, 10), false},
		{"upper>500", report(hunt.VerdictNone, 400), false},
		{"upper>500", report(hunt.VerdictNone, 600), true},
		{"upper > 1KB", report(hunt.VerdictNone, 600), false},
		{"upper>500", unmeasured, true},
		{"upper>900", negative, true}, // half of the interval is 1000
		{"upper>1000", negative, false},
		{"leak, upper>500", report(hunt.VerdictNone, 600), true},
		{"off_heap>1KB", report(hunt.VerdictLeak, 3400, finding("off_heap", 3400)), true},
		{"off_heap>4KB", report(hunt.VerdictLeak, 3400, finding("off_heap", 3400)), false},
		{"heap_live>0", report(hunt.VerdictLeak, 3400, finding("off_heap", 3400)), false},
		{"goroutines>0", report(hunt.VerdictLeak, 10, finding("count:goroutines", 1)), true},
	} {
		var f failOn
		if err := f.UnmarshalText([]byte(tt.terms)); err != nil {
			t.Errorf("%s: %v", tt.terms, err)
			continue
		}
		if why := f.why(tt.report); (why != "") != tt.fails {
			t.Errorf("%s, verdict %s: %q", tt.terms, tt.report.Verdict, why)
		}
	}
	for _, wrong := range []string{"", "leaks", "upper", "rss>5", "upper>-1", "upper>1XB", "leak,,", "off_heap>NaN"} {
		var f failOn
		if err := f.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%q is taken as %v", wrong, f)
		}
	}
}

// TestHuntUsage: what is wrong is said before anything is connected.
func TestHuntUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no process", []string{"--target", "ws://127.0.0.1:1/"}, 2, "what shall be measured"},
		{"no target", []string{"--pid", "1"}, 2, "--target"},
		{"not a WebSocket", []string{"--target", "http://127.0.0.1:1/", "--pid", "1"}, 2, "ws://"},
		{"profile 1 over TLS", []string{"--target", "1=wss://127.0.0.1:1/", "--pid", "1"}, 2, "profile 1 needs ws://"},
		{"profile twice", []string{"--target", "2=wss://127.0.0.1:1/", "--target", "2=wss://127.0.0.1:2/", "--pid", "1"}, 2, "second endpoint"},
		{"CA without key", []string{"--target", "ws://127.0.0.1:1/", "--pid", "1", "--ca-cert", file}, 2, "go together"},
		{"activity", []string{"--target", "ws://127.0.0.1:1/", "--pid", "1", "--activities", "dance"}, 2, "there are reconnect, message"},
		{"fail-on", []string{"--target", "ws://127.0.0.1:1/", "--pid", "1", "--fail-on", "rss>5"}, 2, "there is upper"},
		{"one station", []string{"--target", "ws://127.0.0.1:1/", "--pid", "1", "--stations", "1"}, 2, "2 to 5000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, log bytes.Buffer
			code := run(t.Context(), append([]string{"leak", "hunt"}, tt.args...), &out, &log)
			if code != tt.code || !strings.Contains(out.String()+log.String(), tt.says) {
				t.Errorf("exit status %d, want %d with %q:\n%s%s", code, tt.code, tt.says, out.String(), log.String())
			}
		})
	}
}
