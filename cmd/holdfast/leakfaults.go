//go:build leakfaults

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/leak"
	"holdfast/leak/bench"
	"holdfast/ocpp"
)

// leakTime is the benchmark's: time stands still until a driver steps to a later
// one, which also lets a fault leak what it should have leaked meanwhile and takes
// one sample. The admin port has
//
//	GET  /debug/clock   the time
//	GET  /debug/faults  the faults that there are
//	POST /debug/faults  a faultOrder: one of them from an hour on
//	POST /debug/step    a stepOrder: go on to a time
type leakTime struct {
	p     *process
	clock atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex // one step at a time; guards the rest
	monitor *leak.Monitor
	running *runningFault
	opened  leak.Opened // at the last step
}

// faultStart is when the clock starts, unless the environment has another time: a
// process that takes the place of another one starts later.
var faultStart = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

const faultStartVariable = "HOLDFAST_LEAKFAULTS_START"

func newLeakTime(p *process) *leakTime {
	t, start := &leakTime{p: p}, faultStart
	if later, err := time.Parse(time.RFC3339, os.Getenv(faultStartVariable)); err == nil {
		start = later
	}
	t.clock.Store(start.UnixNano())
	return t
}

func (t *leakTime) now() time.Time { return time.Unix(0, t.clock.Load()).UTC() }

func (t *leakTime) trace() time.Duration { return 10 * time.Millisecond }

// detector serves the driver instead of sampling by the wall clock.
func (t *leakTime) detector(m *leak.Monitor) func(context.Context) error {
	t.monitor = m
	t.p.admin.serve("GET /debug/faults", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, describeFaults())
	}))
	t.p.admin.serve("GET /debug/clock", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"time": t.now()})
	}))
	t.p.admin.serve("POST /debug/faults", ordered(func(_ context.Context, o faultOrder) (struct{}, error) { return struct{}{}, t.fault(o) }))
	t.p.admin.serve("POST /debug/step", ordered(t.step))
	return func(ctx context.Context) error {
		<-ctx.Done()
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running != nil {
			t.running.end()
		}
		return nil
	}
}

// ordered answers POST requests with a JSON body.
func ordered[In, Out any](do func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&in); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, out)
	})
}

// faultOrder says what goes wrong.
type faultOrder struct {
	Fault string    `json:"fault"`
	Onset time.Time `json:"onset"`
	// Rate is percent of the resident set at the onset that leak in an hour.
	Rate float64 `json:"rate"`
	// Cohort and Events: it leaks at new connections of this kind, of which so many
	// an hour give the rate. 0: it leaks by the hour.
	Cohort leak.Cohort `json:"cohort"`
	Events float64     `json:"events"`
	// Most is how many times the resident set it leaks before it stops.
	Most float64 `json:"most"`
	Seed uint64  `json:"seed"`
}

// stepOrder says how far to go.
type stepOrder struct {
	To      time.Time `json:"to"`
	Collect bool      `json:"collect"` // run the garbage collector before the sample
}

// stepped is where a step led.
type stepped struct {
	Leaked float64      `json:"leaked_bytes"`
	Block  *leak.Report `json:"block,omitempty"` // that the sample ended
	CPU    int64        `json:"cpu_ns"`          // of the sample
}

func (t *leakTime) fault(o faultOrder) error {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.Name == o.Fault })
	if i < 0 {
		return fmt.Errorf("no fault %q", o.Fault)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		return fmt.Errorf("fault %s is there already", t.running.order.Fault)
	}
	f := &runningFault{kind: faultKinds[i], order: o, p: t.p, random: rand.New(rand.NewPCG(o.Seed, 0)), done: make(chan struct{})}
	if f.kind.prepare != nil {
		if err := f.kind.prepare(f); err != nil {
			return err
		}
	}
	t.running = f
	return nil
}

func (t *leakTime) step(ctx context.Context, o stepOrder) (stepped, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.now()
	if o.To.Before(before) {
		return stepped{}, fmt.Errorf("time goes on: it is %s", before)
	}
	t.clock.Store(o.To.UnixNano())
	var events leak.Opened
	if gw := t.p.gateway; gw != nil {
		opened := leak.Opened{TLS: gw.Established(ocpp.ProfileTLS), MTLS: gw.Established(ocpp.ProfileMTLS)}
		events = leak.Opened{TLS: opened.TLS - t.opened.TLS, MTLS: opened.MTLS - t.opened.MTLS}
		t.opened = opened
	}
	if t.running != nil {
		if err := t.running.goOn(o.To, o.To.Sub(before).Hours(), events); err != nil {
			return stepped{}, err
		}
	}
	if o.Collect {
		runtime.GC()
	}
	var out stepped
	start := processCPU()
	out.Block = t.monitor.Sample(ctx)
	out.CPU = processCPU() - start
	if t.running != nil {
		out.Leaked = t.running.leaked
	}
	return out, nil
}

// processCPU is the CPU time of this process in nanoseconds.
func processCPU() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// runningFault is the one fault of a process. Guarded by leakTime.mu.
type runningFault struct {
	kind   faultKind
	order  faultOrder
	p      *process
	random *rand.Rand
	done   chan struct{} // closed when the process ends

	rss    float64 // at the onset; 0 before
	hours  float64 // since the onset
	debt   float64 // bytes that should have leaked and have not yet
	leaked float64

	kept    []any        // what is never let go of
	keep    []byte       // what is let go of at once, or later
	closing []func() any // connections that were open at the last step
	state   any          // of the kind
}

// end lets goroutines and files go, for a process that counts them at its end.
func (f *runningFault) end() { close(f.done) }

// goOn lets so many hours and new connections pass.
func (f *runningFault) goOn(now time.Time, hours float64, events leak.Opened) error {
	if f.kind.watch {
		defer f.watch()
	}
	if now.Before(f.order.Onset) {
		return nil
	}
	if f.rss == 0 {
		r, err := f.p.admin.account.Read()
		if err != nil {
			return err
		}
		f.rss = max(float64(r.RSS), 1<<20)
	}
	f.hours += hours
	if f.kind.passes != nil {
		f.kind.passes(f, hours, float64(events.TLS+events.MTLS))
	}
	if f.kind.leak == nil || f.leaked+f.debt >= f.order.Most*f.rss {
		return nil
	}
	hourly := f.order.Rate / 100 * f.rss
	if f.order.Events > 0 {
		n := events.TLS + events.MTLS
		switch f.order.Cohort {
		case leak.CohortTLS:
			n = events.TLS
		case leak.CohortMTLS:
			n = events.MTLS
		}
		f.debt += float64(n) * hourly / f.order.Events
	} else {
		f.debt += hours * hourly
	}
	paid := f.kind.leak(f)
	f.debt -= paid
	f.leaked += paid
	return nil
}

// watch remembers the connections that are open, to keep them when they close.
func (f *runningFault) watch() {
	f.closing = f.closing[:0]
	for _, p := range []ocpp.SecurityProfile{ocpp.ProfileTLS, ocpp.ProfileMTLS} {
		if c := f.order.Cohort; c == leak.CohortTLS && p != ocpp.ProfileTLS || c == leak.CohortMTLS && p != ocpp.ProfileMTLS {
			continue
		}
		f.closing = append(f.closing, f.p.gateway.Conns(p)...)
	}
}

// each pays the debt in units, each of which f leaks.
func each(unit float64, one func(f *runningFault)) func(*runningFault) float64 {
	return func(f *runningFault) float64 {
		n := 0
		for ; float64(n+1)*unit <= f.debt; n++ {
			one(f)
		}
		return float64(n) * unit
	}
}

// describeFaults is what a driver knows of them.
func describeFaults() []bench.Fault {
	var list []bench.Fault
	for _, k := range faultKinds {
		list = append(list, bench.Fault{Name: k.Name, Leaks: k.leak != nil, Classes: k.classes, Load: cmp.Or(k.load, bench.LoadDaily), Help: k.help})
	}
	return list
}
