package leak

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// Sample is one reading of a process.
type Sample struct {
	Time        time.Time
	Connections int
	Opened      Opened // since the start of the process
	// Zombies divides the retained connections by cohort, as far as it is known.
	Zombies Opened
	RSS     int64 // bytes
	Values  Values
	// WorkingSet and Limit are those of the cgroup, in bytes; 0 where there is
	// none. Without a working set RSS stands for it.
	WorkingSet int64
	Limit      int64
	// GOGC is the collector's headroom in percent; 0 or less means none: a leak
	// of heap costs so much more than its bytes.
	GOGC float64
}

// State is what a Detector says of a class. The list is closed: it is a metric
// label.
type State string

const (
	OK State = "ok"
	// Warming: the process is too young for a verdict on bytes, or the class
	// grows towards an end, as caches do.
	Warming State = "warming"
	// Explained: the class grows and the connections explain it.
	Explained State = "explained"
	// Stepped: the class grew at once and stays: a deployment, a new setting.
	Stepped State = "step"
	Leaking State = "leak"
	// Urgent: a leak that reaches the memory limit within a day.
	Urgent State = "urgent"
)

// States lists all states, the most serious one last.
func States() []State { return []State{OK, Warming, Explained, Stepped, Leaking, Urgent} }

// Severity orders states: its place in States.
func (s State) Severity() int {
	for i, t := range States() {
		if s == t {
			return i
		}
	}
	return 0
}

// Leak reports whether the state is a verdict.
func (s State) Leak() bool { return s == Leaking || s == Urgent }

const (
	// slowHours and fastHours are how long growth of bytes would take to add the
	// resident set again, to be slow, or too fast to wait for anything.
	slowHours = 72
	fastHours = 24
	// youngAge is the age before which slow growth looks like a warm-up, grownAge
	// that before which it does if it slows down.
	youngAge = 26 * time.Hour
	grownAge = 38 * time.Hour
	// slowClimb is for how many hours slow growth must have lasted: tables that fill
	// and are emptied, by the night, a rotation or an expiry, do so within a day. With
	// the second check it is a day. fastClimb is the same for faster growth of a
	// process before youngAge: caches of a few hours have slowed down by then.
	slowClimb = 23.0
	fastClimb = 10.0
	// sureHalf is the largest half width of the interval of its slope, as a part of
	// it: what is less sure may as well be a cache that fills.
	sureHalf = 0.75
	// fragmentationHours is the shortest window for it: it takes days to show its end.
	fragmentationHours = 48
	// skipBlocks at the start of a process are not looked at: they are the first
	// connections, and everything that is made once.
	skipBlocks = 3
	// confirmations is in how many hourly checks in a row a leak must show.
	confirmations = 2
	// endChecks is after how many hourly checks without growth a leak is over.
	endChecks = 24
	// urgentTime before the memory limit a leak is urgent.
	urgentTime = 24 * time.Hour
)

// DetectorConfig says whom a Detector watches.
type DetectorConfig struct {
	// Process names it in verdicts: role and instance. Required.
	Process string
	// Start of the process. Zero means the time of the first sample.
	Start time.Time
	// Target is the resident memory at which an autoscaler holds a pod, in bytes,
	// for the forecast of pods that it would add. Zero means 80 % of the limit.
	Target int64
	// Priors are what one connection adds to a class before there is data. Nil
	// means what was measured of this release.
	Priors map[Class]Ratio
}

// priors are bytes (or things) per connection of a gateway, docs/memory.md, with
// a tolerance for the mix of stations. A descriptor per connection is certain.
var priors = map[Class]Ratio{
	HeapLive:      {3700, 1000},
	HeapUnused:    {400, 400},
	Metadata:      {200, 200},
	OffHeap:       {100, 200},
	SocketBuffers: {0, 300},
	Goroutines:    {0, 0.001}, // an idle connection has none; one CALL in flight has one
	Threads:       {0, 0.001},
	Files:         {1, 0.001},
	Retained:      {0, 0},
}

// Detector watches one process. It is not safe for concurrent use. After three
// days it holds 70 KB (go test -v -run TestSizes ./leak). A sample costs 5 µs, an
// hourly check 1.6 ms and 0.5 MB of garbage (BenchmarkAdd, BenchmarkCheck).
type Detector struct {
	cfg     DetectorConfig
	last    Sample
	gather  gather
	series  series
	skipped int
	classes [numClasses]watch
}

// watch is what the Detector knows of one class.
type watch struct {
	state  State
	beta   Ratio
	fired  int // checks in a row that call for a verdict
	calm   int // checks in a row without growth, during a leak
	count  int // verdicts so far
	leak   Verdict
	active bool // leak is a verdict that stands
}

// NewDetector starts nothing; feed it with Add.
func NewDetector(cfg DetectorConfig) *Detector {
	if cfg.Priors == nil {
		cfg.Priors = priors
	}
	d := &Detector{cfg: cfg}
	for i, c := range classes {
		prior, ok := cfg.Priors[c]
		if !ok {
			prior = Ratio{0, math.Inf(1)}
		}
		d.classes[i] = watch{state: Warming, beta: prior}
	}
	return d
}

// Add takes a sample; they come in order of time, every 10 to 60 seconds. At the
// end of each hour of the clock it returns the verdicts that are new or have
// changed. block is the block that the sample ended, if it did.
func (d *Detector) Add(s Sample) (verdicts []Verdict, block *Block) {
	if !d.last.Time.IsZero() && s.Time.Before(d.last.Time) {
		return nil, nil
	}
	if d.cfg.Start.IsZero() {
		d.cfg.Start = s.Time
	}
	for i, v := range s.Values {
		if math.IsInf(v, 0) {
			s.Values[i] = math.NaN()
		}
	}
	number := blockNumber(s.Time)
	if d.gather.seen > 0 && number != d.gather.number {
		b := d.gather.block()
		block = &b
		if d.skipped < skipBlocks {
			d.skipped++
		} else if d.series.push(b) {
			verdicts = d.retained()
			if (b.Number+1)%int64(perHour) == 0 {
				verdicts = append(verdicts, d.check(b.Time())...)
			}
		}
	}
	d.gather.number = number
	d.gather.add(s)
	d.last = s
	return verdicts, block
}

// check tests every class, once an hour.
func (d *Detector) check(now time.Time) []Verdict {
	var out []Verdict
	rss := d.recentRSS()
	for i, c := range classes {
		if c == Retained {
			continue
		}
		w := &d.classes[i]
		y := d.series.column(func(b Block) float64 { return b.Values[i] })
		load := d.series.load(c)
		prior, ok := d.cfg.Priors[c]
		if !ok {
			prior = Ratio{0, math.Inf(1)}
		}
		w.beta = perConnection(load, y, prior)
		if math.IsInf(w.beta.SE, 1) {
			w.beta = Ratio{}
		}
		r := adjusted(y, load, w.beta.Value)
		state, found := d.judge(c, now, y, r, load, w.beta.SE, rss)
		if v, changed := d.decide(w, c, now, state, found, r); changed {
			out = append(out, v)
		}
	}
	return out
}

// floor is the least growth that counts.
func (d *Detector) floor(c Class, w window, rss float64) float64 {
	if c.Count() {
		return max(leastCount, w.counts*float64(d.last.Connections))
	}
	return max(leastBytes, w.bytes*rss)
}

// judge looks at all windows and returns the state that they speak for, and the
// trend that does.
func (d *Detector) judge(c Class, now time.Time, y, r, load []float64, se, rss float64) (State, trend) {
	age := now.Sub(d.cfg.Start)
	state, best := OK, trend{p: 1}
	if age < youngAge && !c.Count() {
		state = Warming
	}
	quantile := 0.5
	if c.highWater() {
		quantile = 0.2
	}
	for _, w := range windows {
		if c == HeapUnused && w.hours < fragmentationHours {
			continue
		}
		floor := d.floor(c, w, rss)
		t, ok := testTrend(r, load, w.hours, perHour, se, quantile)
		if !ok {
			continue
		}
		speaks := OK
		switch {
		case !t.grows(floor):
			raw, ok := testTrend(y, load, w.hours, perHour, 0, quantile)
			if ok && raw.grows(floor) {
				speaks = Explained
			}
		case t.shape == stepped:
			speaks = Stepped
		case t.shape == returning:
			speaks = OK
		case t.shape == saturating || !c.Count() && tooEarly(age, t, r, rss):
			speaks = Warming
		default:
			speaks = Leaking
		}
		if speaks.Severity() > state.Severity() {
			state, best = speaks, t
		}
		if state == Leaking { // the shortest window that shows it
			break
		}
	}
	return state, best
}

// tooEarly reports whether growth of bytes may as well be the warm-up of a process
// of that age, or a table that fills.
func tooEarly(age time.Duration, t trend, r []float64, rss float64) bool {
	perHour := t.growth / float64(t.hours)
	switch {
	case perHour < rss/slowHours:
		return age < youngAge || age < grownAge && t.fading || climbed(r) < slowClimb
	case perHour < rss/fastHours:
		return age < youngAge && (t.fading || climbed(r) < fastClimb)
	}
	return false
}

// climbed is for how many hours a series has grown, by the bend where that began;
// 0 if the slope after it is not sure.
func climbed(r []float64) float64 {
	h := FitHinge(condense(r, perHour))
	if !(h.Half < sureHalf*h.Slope) {
		return 0
	}
	return float64(len(r))/float64(perHour) - h.At
}

// decide moves a class on and reports whether there is a verdict to tell.
func (d *Detector) decide(w *watch, c Class, now time.Time, state State, found trend, r []float64) (Verdict, bool) {
	if state == Leaking {
		w.fired++
		w.calm = 0
	} else {
		w.fired = 0
	}
	if !w.active {
		if w.fired < confirmations {
			if state != Leaking {
				w.state = state
			}
			return Verdict{}, false
		}
		w.active = true
		w.count++
		w.leak = Verdict{
			ID: verdictID(d.cfg.Process, d.cfg.Start, c, w.count), Process: d.cfg.Process, Class: c,
			Time: now, Changed: now, P: found.p, WindowHours: found.hours, Growth: found.growth,
		}
		d.forecast(&w.leak, c, r)
		w.state = w.leak.State
		return w.leak, true
	}
	// A verdict stands. Its forecast follows; it is told again when the state
	// changes or the growth is a quarter more than when it was told last.
	before := w.leak
	d.forecast(&w.leak, c, r)
	if state != Leaking && w.leak.recent < endShare*w.leak.Forecast.PerDay.Value {
		w.calm++
	} else {
		w.calm = 0
	}
	if w.calm >= endChecks {
		w.leak.State, w.leak.Changed, w.leak.Ended = OK, now, now
		w.active, w.calm, w.fired, w.state = false, 0, 0, OK
		return w.leak, true
	}
	w.state = w.leak.State
	if w.leak.State != before.State || w.leak.Kept >= toldStep*before.Kept && before.Kept > 0 {
		w.leak.Changed = now
		return w.leak, true
	}
	w.leak.Kept = before.Kept // as told
	return Verdict{}, false
}

const (
	endShare = 0.25 // of the slope that was forecast: below it a leak rests
	toldStep = 1.25 // growth by which a verdict is told again
)

// Standing returns the verdicts that stand.
func (d *Detector) Standing() []Verdict {
	var list []Verdict
	for _, w := range d.classes {
		if w.active {
			list = append(list, w.leak)
		}
	}
	return list
}

// recentRSS is the resident set of the last hours, in bytes: what growth is
// compared with.
func (d *Detector) recentRSS() float64 {
	n := len(d.series.blocks)
	var list []float64
	for _, b := range d.series.blocks[max(0, n-keptBlocks):] {
		if !math.IsNaN(b.RSS) {
			list = append(list, b.RSS)
		}
	}
	return cmp.Or(Quantile(list, 0.25), 1)
}

// Beta is what one connection adds to each class, as estimated.
func (d *Detector) Beta() Values {
	var v Values
	for i := range classes {
		v[i] = d.classes[i].beta.Value
	}
	return v
}

// finite makes a figure that JSON can hold: 0 for what is infinite or unknown.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// verdictID is the same in every process that is told the same verdict.
func verdictID(process string, start time.Time, c Class, count int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%d", process, start.UnixNano(), c, count))
	return hex.EncodeToString(sum[:12])
}
