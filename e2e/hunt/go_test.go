package hunt

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/leak/hunt"
)

// TestGoServer hunts each of five faults in a Go server, which is known only by
// its pprof endpoint and its pid, and the same server without one. They are
// hunted at the same time, at a rate that two processors bear.
func TestGoServer(t *testing.T) {
	binary := e2e.Build(t, "holdfast/e2e/hunt/testdata/server")
	e2e.Build(t, "holdfast/cmd/holdfast")
	t.Parallel() // with TestLeakGateFails
	dir := pki(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	tests := []struct {
		fault      string
		activities string
		guilty     string // an activity that leaks; empty: none
		innocent   string // one that does not
		quantity   string // in which it leaks
		low, high  float64
		profile    string // in which the guilty function is in the first stack
		function   string
	}{
		{fault: "none", activities: "reconnect", innocent: "mutual-TLS reconnect"},
		{"conn", "reconnect", "mutual-TLS reconnect", "TLS reconnect", "heap_used", 5000, 40000, "heap", "crypto/tls.(*Conn)"},
		{"goroutine", "reconnect", "mutual-TLS reconnect", "", "goroutines", 0.97, 1.03, "goroutine", "(*server).write"},
		{"ticker", "reconnect", "mutual-TLS reconnect", "TLS reconnect", "goroutines", 0.97, 1.03, "goroutine", "(*server).watch"},
		{"pending", "message", "TLS message", "", "heap_used", 250, 800, "heap", "(*server).expect"},
		{"certificates", "reconnect", "mutual-TLS reconnect", "TLS reconnect", "heap_used", 1500, 12000, "heap", "(*server).remember"},
	}
	type outcome struct {
		*result
		status int
	}
	results := make([]outcome, len(tests))
	var wg sync.WaitGroup
	for i, tt := range tests {
		// A small rate of the heap profile makes few events enough for it.
		p := e2e.Start(t, "env", "GODEBUG=memprofilerate=512", binary, "-fault", tt.fault, "-cert", file("server.crt"), "-key", file("server.key"), "-ca", file("ca.crt"))
		at := awaitPorts(t, p)
		rate := "80"
		switch { // small effects, or none, need more events
		case tt.activities == "message":
			rate = "1500"
		case tt.fault == "none":
			rate = "250"
		}
		wg.Go(func() {
			args := []string{
				"--target", fmt.Sprintf("2=wss://127.0.0.1:%d/ocpp", at.TLS), "--target", fmt.Sprintf("3=wss://127.0.0.1:%d/ocpp", at.MTLS),
				"--pprof", fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/", at.Admin), "--pid", fmt.Sprint(p.PID()),
				"--ca-cert", file("ca.crt"), "--ca-key", file("issuing.key"), "--ca", file("root.crt"),
				"--activities", tt.activities, "--rate", rate, "--stations", "16", "--parallel", "4"}
			r, status := run(t, 16*time.Second, args...)
			accused := r != nil && tt.innocent != "" && r.activity(t, tt.innocent).Verdict == hunt.VerdictLeak
			if tt.guilty != "" && status == 0 || accused {
				// A busy machine leaves few events, and one hunt in some hundred accuses
				// an innocent activity. Then it takes longer.
				r, status = run(t, 48*time.Second, args...)
			}
			results[i] = outcome{r, status}
		})
	}
	wg.Wait()
	for i, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			r, status := results[i].result, results[i].status
			if r == nil {
				t.Fatal("no report")
			}
			t.Log(strings.Join(append(r.Summary, r.Warnings...), "\n"))
			if tt.innocent != "" {
				if a := r.activity(t, tt.innocent); a.Verdict == hunt.VerdictLeak {
					t.Errorf("%s is innocent: %+v", tt.innocent, a.Findings)
				}
			}
			if tt.guilty == "" {
				if status != 0 || r.Verdict == hunt.VerdictLeak {
					t.Errorf("exit status %d, verdict %s", status, r.Verdict)
				}
				return
			}
			if status != 1 || r.Verdict != hunt.VerdictLeak {
				t.Fatalf("exit status %d, verdict %s", status, r.Verdict)
			}
			at := slices.IndexFunc(r.activity(t, tt.guilty).Findings, func(f hunt.Finding) bool {
				return f.Quantity.Name() == tt.quantity && f.Verdict == hunt.VerdictLeak
			})
			if at < 0 {
				t.Fatalf("%s: findings %+v, want %s", tt.guilty, r.activity(t, tt.guilty).Findings, tt.quantity)
			}
			if e := r.activity(t, tt.guilty).Findings[at].Effect; e.Value < tt.low || e.Value > tt.high {
				t.Errorf("%.3g %s per event, want %g to %g", e.Value, tt.quantity, tt.low, tt.high)
			}
			seen := false
			for _, e := range r.Evidence {
				if e.Kind != tt.profile || e.Activity != tt.guilty {
					continue
				}
				seen = true
				if len(e.Rows) == 0 {
					t.Fatal("no stack grew")
				}
				first := strings.Join(e.Rows[0].Stack, "\n  ")
				t.Logf("first of %d stacks, +%d %s:\n  %s", len(e.Rows), e.Rows[0].Growth, e.Unit, first)
				if !strings.Contains(first, tt.function) {
					t.Errorf("the first stack has no %s", tt.function)
				}
			}
			if !seen {
				t.Errorf("no %s profiles of %s", tt.profile, tt.guilty)
			}
		})
	}
}
