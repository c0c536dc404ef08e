package leak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/bus"
	"holdfast/e2e"
	detect "holdfast/leak"
	"holdfast/store"
)

// faulty is the benchmark's build.
func faulty(t testing.TB) string {
	return e2e.Build(t, "holdfast/cmd/holdfast", "-tags", "leakfaults")
}

// process is a process of the benchmark's build whose time a test steps through.
type process struct {
	*e2e.Node
	t     *testing.T
	start time.Time
	now   time.Time
}

func start(t *testing.T, extra ...string) *process {
	t.Helper()
	n := e2e.Ports(t, t.TempDir())
	n.Binary = faulty(t)
	n.Args = append(append([]string{"all", "--data", n.Data, "--gateway-id", "gw-1", "--plain", "--drain-time", "1s"}, n.ListenArgs("api", "admin", "plain", "tls", "mtls")...), extra...)
	n.Restart()
	n.AwaitReady()
	p := &process{Node: n, t: t}
	var clock struct{ Time time.Time }
	p.get("/debug/clock", &clock)
	p.start, p.now = clock.Time, clock.Time
	return p
}

func (p *process) get(path string, out any) {
	p.t.Helper()
	r, err := http.Get(p.Admin + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(out); err != nil || r.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s: %v", path, r.Status, err)
	}
}

func (p *process) post(path string, in map[string]any) {
	p.t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.Post(p.Admin+path, "application/json", bytes.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		var why map[string]any
		json.NewDecoder(r.Body).Decode(&why)
		p.t.Fatalf("%s: %s: %v", path, r.Status, why)
	}
}

// hours lets time pass until ok, or the limit.
func (p *process) hours(limit int, ok func() bool) bool {
	p.t.Helper()
	for range limit * 6 {
		p.now = p.now.Add(10 * time.Minute)
		p.post("/debug/step", map[string]any{"to": p.now, "collect": true})
		if p.now.Sub(p.start)%time.Hour == 0 && ok() {
			return true
		}
	}
	return false
}

// status is what the detector says.
func (p *process) status() detect.Status {
	p.t.Helper()
	var s detect.Status
	p.get("/debug/leak", &s)
	return s
}

// TestVerdict lets messages queue up in a real process for days, and finds the
// verdict wherever an operator looks: event, metrics, log, operator API, command
// line, evidence.
func TestVerdict(t *testing.T) {
	address := "127.0.0.1:" + e2e.FreePort(t)
	evidence := filepath.Join(t.TempDir(), "evidence")
	p := start(t, "--listen-nats", address, "--evidence", evidence)
	events := make(chan []byte, 64)
	listen(t, p, address, events)

	p.post("/debug/faults", map[string]any{"fault": "queue", "onset": p.start.Add(3 * time.Hour), "rate": 5, "most": 3})
	if !p.hours(48, func() bool { return p.status().State.Leak() }) {
		t.Fatalf("no verdict within 48 hours: %+v", p.status())
	}
	if hour := p.now.Sub(p.start).Hours(); hour < 3 {
		t.Errorf("a verdict at hour %.0f, before the fault", hour)
	}

	// The event.
	var event struct {
		detect.Verdict
		Summary string
	}
	select {
	case data := <-events:
		if err := json.Unmarshal(data, &event); err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	if event.Class != detect.HeapLive || event.Process != "all/gw-1" || !event.State.Leak() || event.Forecast.PerDay.Value < 10<<20 || event.Forecast.RSSPerDay.Value <= event.Forecast.PerDay.Value {
		t.Errorf("event %+v", event)
	}

	// The row.
	var row store.LeakVerdict
	p.Await("a row in the operator API", 20*time.Second, func() bool {
		var page struct{ Items []store.LeakVerdict }
		if status := p.Do("GET", "/api/v1/verdicts?open=true", nil, &page); status != 200 {
			t.Fatalf("verdicts: %d", status)
		}
		for _, v := range page.Items {
			if v.ID == event.ID {
				row = v
			}
		}
		return row.ID != ""
	})
	if row.Class != "heap_live" || row.State == "ok" || row.Forecast.PerDay.Value <= 0 || !strings.Contains(row.Summary, "heap_live leaks") {
		t.Errorf("row %+v", row)
	}

	// The metrics.
	if v := p.Metric("holdfast_leak_state", `class="heap_live"`); v != 4 && v != 5 {
		t.Errorf("holdfast_leak_state is %v", v)
	}
	if v := p.Metric("holdfast_leak_verdicts_total", `class="heap_live"`); v != 1 {
		t.Errorf("holdfast_leak_verdicts_total is %v", v)
	}
	if v := p.Metric("holdfast_leak_growth_bytes_per_day", `class="heap_live"`); v < 10<<20 {
		t.Errorf("holdfast_leak_growth_bytes_per_day is %v", v)
	}

	// The log.
	if !strings.Contains(p.Tail(1<<20), `msg="memory leak" state=`) || !strings.Contains(p.Tail(1<<20), "verdict="+event.ID) {
		t.Error("the log says nothing of the verdict")
	}

	// The command line, of the release.
	for _, args := range [][]string{{"leak", "status", "--url", p.API, "--data", p.Data}, {"leak", "status", "--admin", p.Admin}} {
		out, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), args...).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "heap_live leaks") {
			t.Errorf("holdfast %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}

	// The evidence: at the verdict, and when it has grown by a quarter and by half.
	var bundles []detect.BundleInfo
	if !p.hours(48, func() bool { p.get("/debug/leak/evidence", &bundles); return len(bundles) >= 3 }) {
		t.Fatalf("bundles %+v", bundles)
	}
	for stage := range 3 {
		for _, file := range []string{"heap.pb.gz", "goroutine.pb.gz", "moment.json", "smaps_rollup.txt", "trace.out"} {
			if info, err := os.Stat(filepath.Join(evidence, fmt.Sprintf("%s-%d", event.ID, stage), file)); err != nil || info.Size() == 0 {
				t.Errorf("stage %d: %s: %v", stage, file, err)
			}
		}
	}
	var found detect.Findings
	p.get("/debug/leak/findings/"+event.ID, &found)
	if len(found.Heap.Rows) == 0 || !strings.Contains(strings.Join(found.Heap.Rows[0].Stack, " "), "main.(*runningFault).goOn") {
		t.Errorf("what grew twice: %+v", found.Heap.Rows)
	}
	holdfast := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), append([]string{"leak", "evidence", "--admin", p.Admin}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("holdfast leak evidence %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if out := holdfast(); strings.Count(out, event.ID) < 3 || !strings.Contains(out, "grown by 50 %") {
		t.Errorf("list of evidence: %s", out)
	}
	if out := holdfast(event.ID); !strings.Contains(out, "main.(*runningFault).goOn") || !strings.Contains(out, "goroutine") {
		t.Errorf("what grew: %s", out)
	}
	dir := filepath.Join(t.TempDir(), "fetched")
	holdfast(event.ID, "--out", dir)
	if files, err := filepath.Glob(filepath.Join(dir, event.ID+"-?", "heap.pb.gz")); err != nil || len(files) != 3 {
		t.Errorf("fetched %q, %v", files, err)
	}
	if !strings.Contains(p.Tail(4<<20), `msg="memory leak: what grew twice"`) {
		t.Error("the log does not say what grew twice")
	}

	// A restart is what an operator does first. The verdict ends with the process,
	// and the record says so.
	t.Setenv("HOLDFAST_LEAKFAULTS_START", p.now.Add(time.Minute).Format(time.RFC3339))
	p.Terminate()
	if code := p.Wait(30 * time.Second); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	p.Restart()
	p.AwaitReady()
	p.hours(1, func() bool { return false })
	p.Await("the end of the verdict", 20*time.Second, func() bool {
		var page struct{ Items []store.LeakVerdict }
		p.Do("GET", "/api/v1/verdicts", nil, &page)
		for _, v := range page.Items {
			if v.ID == event.ID {
				row = v
			}
		}
		return !row.Ended.IsZero()
	})
	if row.State != "ok" || !strings.Contains(row.Summary, "heap_live leaked") || !strings.Contains(row.Summary, "until the process ended") {
		t.Errorf("after a restart: %+v", row)
	}
	if out, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), "leak", "status", "--url", p.API, "--data", p.Data).CombinedOutput(); err != nil || !strings.Contains(string(out), "nothing leaks") {
		t.Errorf("after a restart: %v: %s", err, out)
	}
}

// TestHealthyProcess steps through two days without a fault.
func TestHealthyProcess(t *testing.T) {
	p := start(t)
	p.post("/debug/faults", map[string]any{"fault": "warm-up", "onset": p.start.Add(3 * time.Hour), "seed": 3})
	if p.hours(48, func() bool { return p.status().State.Leak() }) {
		t.Errorf("a verdict without a leak: %+v", p.status())
	}
	out, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), "leak", "status", "--url", p.API, "--data", p.Data).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nothing leaks") {
		t.Errorf("holdfast leak status: %v: %s", err, out)
	}
}

// listen hears what the detector tells over the bus.
func listen(t *testing.T, p *process, address string, events chan<- []byte) {
	b, err := bus.Open(t.Context(), bus.Config{URL: "nats://" + address, Credentials: filepath.Join(p.Data, "nats-credentials", "csms.creds"), Role: bus.RoleCSMS, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Listen(ctx, "leak.verdict", "", func(_ string, data []byte) {
			select {
			case events <- bytes.Clone(data):
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		b.Close()
	})
}
