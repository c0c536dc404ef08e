package hunt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/leak/hunt"
)

// nodeBound, in bytes per reconnect, excludes the gateway's leak.
const nodeBound = 2000

// TestNodeGateway is the story of an operator whose Node.js gateway grew: RSS
// rises, heap and external memory stay flat, three heap snapshots show nothing,
// load tests with passwords find nothing. The hunt says which connections it is,
// in which memory, and how much each time; of the mended gateway, which keeps
// freed native memory as all Node.js servers do, it says that nothing leaks.
func TestNodeGateway(t *testing.T) {
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm is missing")
		}
		t.Skip("npm is missing")
	}
	if _, err := os.Stat(filepath.Join("node", "node_modules", "ws")); err != nil {
		install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
		install.Dir, install.Stderr = "node", os.Stderr
		if err := install.Run(); err != nil {
			t.Fatalf("npm ci: %v", err)
		}
	}
	dir := pki(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	e2e.Build(t, "holdfast/cmd/holdfast")
	gateway := func(lasts time.Duration, more ...string) func() (*result, int) {
		inspector := e2e.FreePort(t)
		p := e2e.Start(t, "node", append([]string{"--inspect=127.0.0.1:" + inspector, filepath.Join("node", "gateway.mjs"),
			"--cert", file("server.crt"), "--key", file("server.key"), "--ca", file("ca.crt")}, more...)...)
		at := awaitPorts(t, p)
		once := func(lasts time.Duration) (*result, int) {
			return run(t, lasts,
				"--target", fmt.Sprintf("2=wss://127.0.0.1:%d/ocpp", at.TLS), "--target", fmt.Sprintf("3=wss://127.0.0.1:%d/ocpp", at.MTLS),
				"--inspector", "http://127.0.0.1:"+inspector,
				"--ca-cert", file("ca.crt"), "--ca-key", file("issuing.key"), "--ca", file("root.crt"),
				"--activities", "reconnect", "--stations", "32", "--parallel", "8")
		}
		return func() (*result, int) {
			for times := time.Duration(1); ; times *= 2 {
				r, status := once(times * lasts)
				// A busy machine leaves few events, and bounds that say nothing: "less than
				// 10 KB" is no verdict about 4 KB. Then it takes longer.
				if r == nil || r.Verdict == hunt.VerdictLeak || times == 4 || r.activity(t, "mutual-TLS reconnect").Effects[hunt.Kept].High < nodeBound {
					return r, status
				}
			}
		}
	}
	var leaking, mended *result
	var leakingStatus, mendedStatus int
	var wg sync.WaitGroup
	first, second := gateway(30*time.Second), gateway(30*time.Second, "--mended")
	wg.Go(func() { leaking, leakingStatus = first() })
	wg.Go(func() { mended, mendedStatus = second() })
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}

	t.Run("leaking", func(t *testing.T) {
		t.Log(strings.Join(append(leaking.Summary, leaking.Warnings...), "\n"))
		if leakingStatus != 1 || leaking.Verdict != hunt.VerdictLeak {
			t.Errorf("exit status %d, verdict %s", leakingStatus, leaking.Verdict)
		}
		if a := leaking.activity(t, "TLS reconnect"); a.Verdict == hunt.VerdictLeak {
			t.Errorf("TLS is innocent: %+v", a.Findings)
		}
		guilty := leaking.activity(t, "mutual-TLS reconnect")
		if len(guilty.Findings) == 0 || guilty.Findings[0].Quantity != "off_heap" {
			t.Fatalf("findings %+v, want off_heap", guilty.Findings)
		}
		// Five names of some 700 bytes each.
		if e := guilty.Findings[0].Effect; e.Value < 2000 || e.Value > 7000 {
			t.Errorf("%.0f bytes per reconnect", e.Value)
		}
		// What the operator looked at: it grew outside of heap and external memory,
		// and heap snapshots have nothing of it.
		start, end := leaking.Blocks[0].Readings, leaking.Blocks[len(leaking.Blocks)-1].Readings
		grown := end["rss"] - start["rss"]
		for _, q := range []hunt.Quantity{"heap_used", "external"} {
			if by := end[q] - start[q]; by > grown/4 {
				t.Errorf("%s grew by %.0f of %.0f bytes", q, by, grown)
			}
		}
		if len(leaking.Evidence) != 1 || leaking.Evidence[0].Kind != "v8" || len(leaking.Evidence[0].Totals) != 3 {
			t.Fatalf("evidence: %+v, want three heap snapshots", leaking.Evidence)
		}
		totals := leaking.Evidence[0].Totals
		events := 0.0
		for _, b := range leaking.Blocks {
			if b.Phase == hunt.PhaseEvidence {
				events += b.Events
			}
		}
		if per := float64(totals[2]-totals[0]) / events; per > guilty.Findings[0].Effect.Value/4 {
			t.Errorf("the heap snapshots (%v bytes) show %.0f bytes per reconnect", totals, per)
		}
	})
	t.Run("mended", func(t *testing.T) {
		t.Log(strings.Join(append(mended.Summary, mended.Warnings...), "\n"))
		if mendedStatus != 0 || mended.Verdict == hunt.VerdictLeak {
			t.Errorf("exit status %d, verdict %s", mendedStatus, mended.Verdict)
		}
		for _, a := range mended.Activities {
			t.Logf("%s: %+v", a.Name(), a.Effects[hunt.Kept])
		}
	})
}
