package hunt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/leak/hunt"
	"holdfast/memory"
)

// gate is a short hunt over connection paths of a gateway of our own.
type gate struct {
	name       string
	profiles   []string
	activities string
	lasts      time.Duration
	rate       string   // of events, per second; empty: all that the machine bears
	extra      []string // flags of the gateway
}

// gates have every path between them. They run at the same time, each with a
// process of its own.
var gates = []gate{
	// Clean closes and resets in turn, storms after every block; wrong credentials.
	{name: "admission", profiles: []string{"mtls"}, activities: "reconnect,revoked", lasts: 17 * time.Second},
	{name: "handshake", profiles: []string{"tls"}, activities: "wrong-password,failed-handshake,wrong-protocol", lasts: 24 * time.Second},
	{name: "connection", profiles: []string{"mtls"}, activities: "takeover,oversized,silent", lasts: 24 * time.Second,
		extra: []string{"--ping-interval", "100ms", "--pong-time", "150ms", "--max-message", "65536"}},
}

// A gate passes if nothing leaks and it could have seen it.
const (
	// keptBound and heapBound are how many bytes per event, of all memory and of
	// the live heap, it has to exclude: less than the state of one connection. What
	// Go code keeps is in the heap, and that is read exactly; what is not in it is
	// read in pages.
	keptBound = 16 << 10
	heapBound = 2 << 10
	// chance is the one-sided probability below which zero is not within the
	// interval: of some thirty intervals of 95 % one or two would miss it.
	chance = 0.001
	// leastEvents of each path, those of its confirmation included.
	leastEvents = 20
)

// zeros have to be within the interval, for what is read exactly, but for so much
// per event: 256 bytes are less than the least that stands for a connection, and
// more than what a new source or reason costs a table that is bounded. Pages that
// the collector has not filled up yet are no zero: for them the verdict stands.
var zeros = map[hunt.Quantity]float64{"heap_live": 256, "count:goroutines": 0.005, "count:files": 0.005}

// bounds are those of a gate by quantity.
var bounds = map[hunt.Quantity]float64{hunt.Kept: keptBound, "heap_live": heapBound}

// TestLeakGate lets none of our own changes leak, on any path that a connection
// can take: no growth of any class of memory, goroutine, file or object.
func TestLeakGate(t *testing.T) {
	type outcome struct {
		*result
		status        int
		before, after counts
		check         string
	}
	results := make([]outcome, len(gates))
	var wg sync.WaitGroup
	for i, g := range gates {
		n := e2e.All(t, append([]string{"--connect-rate", "0", "--log-level", "error"}, g.extra...)...)
		wg.Go(func() {
			before := atRest(t, n)
			r, status := g.run(t, n, g.lasts)
			if r != nil && status == 0 && !telling(r) {
				// A busy machine leaves few events, and bounds that say nothing.
				r, status = g.run(t, n, 2*g.lasts)
			}
			results[i] = outcome{r, status, before, atRest(t, n), body(t, n.Admin+"/debug/check")}
		})
	}
	wg.Wait()
	for i, g := range gates {
		t.Run(g.name, func(t *testing.T) {
			r := results[i]
			if r.result == nil {
				t.Fatal("no report")
			}
			t.Log(strings.Join(append(r.Summary, r.Warnings...), "\n"))
			if r.status != 0 {
				t.Errorf("exit status %d, verdict %s", r.status, r.Verdict)
			}
			for _, a := range r.Activities {
				kept, heap := a.Effects[hunt.Kept], a.Effects["heap_live"]
				t.Logf("%s: %.0f events, each %.0f B (%.0f to %.0f), live heap %.0f B (%.0f to %.0f)", a.Name(), a.Events, kept.Value, kept.Low, kept.High, heap.Value, heap.Low, heap.High)
				if a.Events < leastEvents {
					t.Errorf("%s: %.0f events", a.Name(), a.Events)
				}
				for q, bound := range bounds {
					if e := a.Effects[q]; e.Blocks == 0 || e.Upper() > bound {
						t.Errorf("%s: up to %.0f B of %s per event, want less than %.0f", a.Name(), e.Upper(), q.Name(), bound)
					}
				}
				for q, least := range zeros {
					if e, read := a.Effects[q]; !read || e.P < chance && e.Value > least {
						t.Errorf("%s: %.4g %s per event (%.4g to %.4g), want zero within the interval", a.Name(), e.Value, q.Name(), e.Low, e.High)
					}
				}
			}
			if r.after.goroutines > r.before.goroutines+spare || r.after.files > r.before.files+spare {
				t.Errorf("%+v before, %+v after", r.before, r.after)
			}
			if r.after.zombies != 0 {
				t.Errorf("%d objects are closed and not collected", r.after.zombies)
			}
			var check struct{ OK bool }
			if err := json.Unmarshal([]byte(r.check), &check); err != nil || !check.OK {
				t.Errorf("/debug/check: %s", r.check)
			}
		})
	}
}

// telling reports whether a hunt's bounds are narrow enough for a verdict.
func telling(r *result) bool {
	for _, a := range r.Activities {
		if a.Events < leastEvents {
			return false
		}
		for q, bound := range bounds {
			if e := a.Effects[q]; e.Blocks == 0 || e.Upper() > bound {
				return false
			}
		}
	}
	return true
}

// TestLeakGateFails shows that the gate finds what it is for, in a build with
// faults: a goroutine for most connections, 16 KB of heap for each, and closed
// connections that stay in a list.
func TestLeakGateFails(t *testing.T) {
	binary := e2e.Build(t, "holdfast/cmd/holdfast", "-tags", "leakfaults")
	t.Parallel() // with TestGoServer: both leave the processors time
	faults := []struct {
		name string
		// events are how many connections leak as much as the process has resident.
		events   int
		quantity hunt.Quantity // in which the hunt finds it; empty: the census does
	}{
		{"goroutine-channel", 10_000, "count:goroutines"},
		{"substring", 2_000, "heap_live"},
		{"retained-connection", 1_000, ""},
	}
	type outcome struct {
		*result
		status int
		after  counts
	}
	results := make([]outcome, len(faults))
	var wg sync.WaitGroup
	for i, fault := range faults {
		n := e2e.Ports(t, t.TempDir())
		n.Binary = binary
		n.Args = append([]string{"all", "--data", n.Data, "--connect-rate", "0", "--drain-time", "1s", "--log-level", "error"}, n.ListenArgs("api", "admin", "tls", "mtls")...)
		n.Restart()
		n.AwaitReady()
		wg.Go(func() {
			var clock struct{ Time time.Time }
			if err := json.Unmarshal([]byte(body(t, n.Admin+"/debug/clock")), &clock); err != nil {
				t.Error(err)
				return
			}
			order := fmt.Sprintf(`{"fault":%q,"onset":%q,"rate":100,"events":%d,"most":100}`, fault.name, clock.Time.Format(time.RFC3339Nano), fault.events)
			if !post(t, n.Admin+"/debug/faults", order) {
				return
			}
			done, stepped := make(chan struct{}), make(chan struct{})
			go func() { // time goes on, and with it the fault
				defer close(stepped)
				for now := clock.Time; ; {
					select {
					case <-done:
						return
					case <-time.After(50 * time.Millisecond):
						now = now.Add(50 * time.Millisecond)
						post(t, n.Admin+"/debug/step", fmt.Sprintf(`{"to":%q}`, now.Format(time.RFC3339Nano)))
					}
				}
			}()
			g := gate{profiles: []string{"mtls"}, activities: "reconnect", rate: "100"}
			r, status := g.run(t, n, 10*time.Second)
			after := atRest(t, n)
			close(done)
			<-stepped
			results[i] = outcome{r, status, after}
		})
	}
	wg.Wait()
	for i, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			r := results[i]
			if r.result == nil {
				t.Fatal("no report")
			}
			t.Log(strings.Join(append(r.Summary, r.Warnings...), "\n"))
			if fault.quantity == "" {
				if r.after.zombies == 0 {
					t.Error("the census counts nothing that is closed and not collected")
				}
				return
			}
			if r.status != 1 || r.Verdict != hunt.VerdictLeak {
				t.Errorf("exit status %d, verdict %s", r.status, r.Verdict)
			}
			if !slices.ContainsFunc(r.activity(t, "mutual-TLS reconnect").Findings, func(f hunt.Finding) bool {
				return f.Quantity == fault.quantity && f.Verdict == hunt.VerdictLeak
			}) {
				t.Errorf("findings %+v, want %s", r.activity(t, "mutual-TLS reconnect").Findings, fault.quantity)
			}
		})
	}
}

// run hunts a gateway.
func (g *gate) run(t *testing.T, n *e2e.Node, lasts time.Duration) (*result, int) {
	args := []string{"--admin", n.Admin, "--url", n.API, "--data", n.Data, "--activities", g.activities, "--stations", "32", "--parallel", "16", "--fail-on", "leak,goroutines>0,files>0"}
	if g.rate != "" {
		args = append(args, "--rate", g.rate)
	}
	for _, p := range g.profiles {
		args = append(args, "--target", map[string]string{"tls": "2=" + n.TLS, "mtls": "3=" + n.MTLS}[p])
	}
	return run(t, lasts, args...)
}

// counts are what a process has open.
type counts struct{ goroutines, files, zombies int }

// spare is how many goroutines and files more than before its stations a process
// may have at rest: connections of the test itself, the store's and the bus's.
const spare = 12

// atRest returns what a process has open once its stations are gone and what they
// left was collected.
func atRest(t *testing.T, n *e2e.Node) counts {
	var c counts
	for range 40 {
		body(t, n.Admin+"/debug/pprof/heap?gc=1")
		var r memory.Report
		if err := json.Unmarshal([]byte(body(t, n.Admin+"/debug/memory")), &r); err != nil {
			t.Errorf("/debug/memory: %v", err)
			return c
		}
		c = counts{goroutines: r.Goroutines, files: r.Files}
		for _, o := range r.Census {
			c.zombies += int(o.Zombies)
		}
		if c.zombies == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return c
}

func body(t *testing.T, url string) string {
	r, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func post(t *testing.T, url, order string) bool {
	r, err := http.Post(url, "application/json", bytes.NewReader([]byte(order)))
	if err != nil {
		t.Error(err)
		return false
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		t.Errorf("%s: %s: %s", url, r.Status, why)
		return false
	}
	return true
}
