package report

import (
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"holdfast/fleet"
)

// Bounds of what a recorder keeps.
const (
	longest    = time.Hour // latencies above count as this
	maxActions = 128       // actions told apart; the rest are one
	maxSamples = 3600      // when there are more, two become one
	shortest   = 0.5       // seconds; what is shorter belongs to the sample before
	otherOne   = "other"   // the actions beyond maxActions
)

// Recorder gathers what happens. Its methods may be called from any goroutine.
type Recorder struct {
	mu       sync.Mutex
	all      *hdrhistogram.Histogram
	connects *hdrhistogram.Histogram
	actions  map[string]*action
	cutOff   uint64 // CALLs that ended with their connection
	refused  uint64

	// Of the interval since the last sample.
	calls, dials *hdrhistogram.Histogram

	samples []Sample
	every   int // so many intervals make a sample
	pending Sample
	waiting int // intervals in pending
	last    fleet.Stats
}

type action struct {
	times            *hdrhistogram.Histogram
	errors, timeouts uint64
}

// NewRecorder returns one that has recorded nothing.
func NewRecorder() *Recorder {
	return &Recorder{all: histogram(3), connects: histogram(3), calls: histogram(2), dials: histogram(2), actions: make(map[string]*action), every: 1}
}

func histogram(digits int) *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), digits)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	h.RecordValue(min(max(d, 0), longest).Microseconds()) // within its bounds: no error
}

// Call takes what became of a CALL. One without an answer in time counts with the
// time that it waited; one whose connection ended is only counted.
func (r *Recorder) Call(c fleet.CallRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Outcome == fleet.CutOff {
		r.cutOff++
		return
	}
	a := r.actions[c.Action]
	if a == nil {
		name := c.Action
		if len(r.actions) >= maxActions {
			name = otherOne
		}
		if a = r.actions[name]; a == nil {
			a = &action{times: histogram(2)}
			r.actions[name] = a
		}
	}
	switch c.Outcome {
	case fleet.Refusing:
		a.errors++
	case fleet.TimedOut:
		a.timeouts++
	}
	for _, h := range []*hdrhistogram.Histogram{r.all, r.calls, a.times} {
		record(h, c.Latency())
	}
}

// Connect takes what became of an attempt to connect.
func (r *Recorder) Connect(c fleet.ConnectRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c.Failure {
	case "":
		record(r.connects, c.Done-c.Due)
		record(r.dials, c.Done-c.Due)
	case "dial": // nobody was there to refuse
	default:
		r.refused++
	}
}

// Sample is what happened in an interval that ends At.
type Sample struct {
	At           float64           `json:"at_s"` // seconds since the beginning
	Phase        string            `json:"phase"`
	Connected    int               `json:"connected"`
	Wanted       int               `json:"wanted"`
	Connects     float64           `json:"connects_per_s"`
	Sent         float64           `json:"sent_per_s"`
	Received     float64           `json:"received_per_s"`
	Transactions int               `json:"transactions"`
	Queued       int               `json:"queued"`
	Calls        int64             `json:"calls"`
	P50          float64           `json:"p50_ms"` // zero: no calls
	P99          float64           `json:"p99_ms"`
	Max          float64           `json:"max_ms"`
	ConnectP99   float64           `json:"connect_p99_ms"`
	Errors       map[string]uint64 `json:"errors,omitempty"`
	length       float64           // seconds
}

// Sample ends an interval: at is the time since the beginning.
func (r *Recorder) Sample(at time.Duration, phase string, wanted int, s fleet.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := 0.0
	if n := len(r.samples); n > 0 {
		before = r.samples[n-1].At
	}
	if r.waiting > 0 {
		before = r.pending.At
	}
	length := max(at.Seconds()-before, 1e-3)
	x := Sample{At: at.Seconds(), Phase: phase, Wanted: wanted, Connected: connected(s), Transactions: s.Transactions, Queued: s.Queued,
		Connects: float64(s.Connects-r.last.Connects) / length, Sent: float64(s.Sent-r.last.Sent) / length, Received: float64(s.Received-r.last.Received) / length,
		Calls: r.calls.TotalCount(), ConnectP99: quantile(r.dials, 99), length: length}
	if x.Calls > 0 {
		x.P50, x.P99, x.Max = quantile(r.calls, 50), quantile(r.calls, 99), milliseconds(r.calls.Max())
	}
	for kind, n := range s.Errors {
		if n -= r.last.Errors[kind]; n > 0 {
			if x.Errors == nil {
				x.Errors = make(map[string]uint64)
			}
			x.Errors[kind] = n
		}
	}
	r.calls.Reset()
	r.dials.Reset()
	r.last = s
	if n := len(r.samples); n > 0 && r.waiting == 0 && length < shortest { // the rest of a phase
		x.Phase = r.samples[n-1].Phase
		r.samples[n-1] = merge(r.samples[n-1], x)
		return
	}
	if r.waiting == 0 {
		r.pending = x
	} else {
		r.pending = merge(r.pending, x)
	}
	if r.waiting++; r.waiting < r.every {
		return
	}
	r.samples, r.waiting = append(r.samples, r.pending), 0
	if len(r.samples) < maxSamples {
		return
	}
	for i := range len(r.samples) / 2 {
		r.samples[i] = merge(r.samples[2*i], r.samples[2*i+1])
	}
	r.samples = r.samples[:len(r.samples)/2]
	r.every *= 2
}

// merge makes one sample of two that follow one another. Percentiles become the
// larger ones: nothing bad is smoothed away.
func merge(a, b Sample) Sample {
	whole := a.length + b.length
	mean := func(x, y float64) float64 { return (x*a.length + y*b.length) / whole }
	b.Connects, b.Sent, b.Received = mean(a.Connects, b.Connects), mean(a.Sent, b.Sent), mean(a.Received, b.Received)
	b.Connected = min(a.Connected, b.Connected)
	b.Calls += a.Calls
	b.P50, b.P99, b.Max, b.ConnectP99 = max(a.P50, b.P50), max(a.P99, b.P99), max(a.Max, b.Max), max(a.ConnectP99, b.ConnectP99)
	errors := make(map[string]uint64)
	for _, m := range []map[string]uint64{a.Errors, b.Errors} {
		for kind, n := range m {
			errors[kind] += n
		}
	}
	b.Errors, b.length = errors, whole
	return b
}

// Samples are those so far.
func (r *Recorder) Samples() []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.samples)
}

// Latency is a distribution, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

func latency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{h.TotalCount(), quantile(h, 50), quantile(h, 90), quantile(h, 99), quantile(h, 99.9), milliseconds(h.Max())}
}

func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	if h.TotalCount() == 0 {
		return 0
	}
	return milliseconds(h.ValueAtQuantile(q))
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

// Calls and Connects are the distributions so far.
func (r *Recorder) Calls() Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return latency(r.all)
}

// Connects is from when a station was to dial to the end of the upgrade.
func (r *Recorder) Connects() Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return latency(r.connects)
}

func connected(s fleet.Stats) (n int) {
	for _, k := range s.Connected {
		n += k
	}
	return n
}

// Last is the newest sample; the zero Sample if there is none.
func (r *Recorder) Last() Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == 0 {
		return Sample{}
	}
	return r.samples[len(r.samples)-1]
}
