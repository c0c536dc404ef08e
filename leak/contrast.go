package leak

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// Fleet is the Process of verdicts over all processes.
	Fleet = "fleet"

	// maxMembers bounds the processes that are compared; more are ignored and
	// counted. Each takes 13 KB (go test -v -run TestSizes ./leak).
	maxMembers = 1000
	// maxStanding bounds the verdicts of processes that are remembered.
	maxStanding = 1000
	// keptHours is the longest window of the comparison.
	keptHours = 72
	// memberGone is after how many hours of silence a process is forgotten, and its
	// verdicts end.
	memberGone = 6
	// attributeHours is the least time of growth from which a cohort is named.
	attributeHours = 12
)

// fleetWindows have lower floors than those of one process: what all processes
// do, day and night, deployments and storms, cancels out.
var fleetWindows = [...]window{{24, 0.01, 0.004}, {48, 0.0075, 0.003}, {72, 0.0075, 0.003}}

// meanShare is the least growth of the mean of all processes, as a share of the
// resident set: that of a single process in the windows of two and three days.
const meanShare = 0.02

// Contrast compares gateways whose connections are made up differently: pods
// with more mutual TLS grow faster if mutual TLS leaks. It finds leaks that are
// too small for every single process, and names the cohort. All methods may be
// called concurrently.
type Contrast struct {
	mu       sync.Mutex
	members  map[string]*member
	checked  int64 // hour that was looked at last
	standing map[string]standing
	classes  [numClasses]fleetWatch
	dropped  int64 // reports of processes beyond maxMembers
}

// fleetWatch is the state of one class over all processes.
type fleetWatch struct {
	fired, calm int
	active      bool
	count       int
	verdict     Verdict
	cohort      Cohort
}

// standing is a verdict of a process that has not ended.
type standing struct {
	Verdict
	heard int64 // hour of the first check after it was told; 0 before
}

// NewContrast starts nothing; feed it with Add and Hear. open are verdicts that
// stood when a comparison ran last, of processes and of the fleet: they go on.
func NewContrast(open []Verdict) *Contrast {
	c := &Contrast{members: make(map[string]*member), standing: make(map[string]standing)}
	for _, v := range open {
		i := v.Class.Index()
		switch {
		case v.Process != Fleet:
			c.hear(v)
		case i >= 0: // it can only be judged again when the shortest window is full
			c.classes[i].active, c.classes[i].verdict, c.classes[i].calm = true, v, -fleetWindows[0].hours
		}
		if i >= 0 && clear(v.Cohort) {
			c.classes[i].cohort = v.Cohort
		}
	}
	return c
}

// Hear takes a verdict of a process and returns it with the cohort that the
// comparison has found for its class, if it has.
func (c *Contrast) Hear(v Verdict) Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hear(v)
}

func (c *Contrast) hear(v Verdict) Verdict {
	before, known := c.standing[v.ID]
	if i := v.Class.Index(); i >= 0 && v.Cohort == CohortUnknown {
		v.Cohort = cmp.Or(before.Cohort, c.classes[i].cohort)
	}
	switch {
	case !v.State.Leak():
		delete(c.standing, v.ID)
	case known || len(c.standing) < maxStanding:
		c.standing[v.ID] = standing{v, before.heard}
	}
	return v
}

// over ends the verdicts of processes that are no more.
func (c *Contrast) over(now time.Time, gone func(standing) bool) []Verdict {
	var out []Verdict
	for _, id := range slices.Sorted(maps.Keys(c.standing)) {
		if s := c.standing[id]; gone(s) {
			v := s.Verdict
			v.State, v.Gone, v.Changed, v.Ended = OK, true, now, now
			delete(c.standing, id)
			out = append(out, v)
		}
	}
	return out
}

// Add takes a block of a process. Ten minutes into every hour it compares all
// processes and returns verdicts over the fleet that are new or changed, and
// verdicts of processes whose cohort became known.
func (c *Contrast) Add(r Report) []Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[r.Process]
	other := m != nil && !m.started.Equal(r.Started)
	if m == nil || other {
		if m == nil && len(c.members) >= maxMembers {
			c.dropped++
			return nil
		}
		m = &member{started: r.Started, hour: r.Number / int64(perHour)}
		c.members[r.Process] = m
	}
	// Another process of that name has taken the place of the one that leaked.
	out := c.over(r.Time().UTC(), func(s standing) bool { return s.Process == r.Process && (other || s.Time.Before(r.Started)) })
	m.add(r)
	hour := r.Number / int64(perHour)
	if c.checked == 0 {
		c.checked = hour
	}
	if r.Number%int64(perHour) == 0 || hour <= c.checked { // others may still be telling the last block
		return out
	}
	c.checked = hour
	for name, m := range c.members {
		if hour-m.hour > memberGone {
			delete(c.members, name)
		}
	}
	for id, s := range c.standing {
		if c.members[s.Process] != nil || s.heard == 0 {
			s.heard = hour
			c.standing[id] = s
		}
	}
	now := time.Unix(0, hour*int64(time.Hour)).UTC()
	out = append(out, c.over(now, func(s standing) bool { return hour-s.heard > memberGone })...)
	return append(out, c.check(hour-1, now)...)
}

// check compares the processes whose hour is complete.
func (c *Contrast) check(hour int64, now time.Time) []Verdict {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.members)) {
		if c.members[name].last == hour {
			names = append(names, name)
		}
	}
	var out []Verdict
	for i, class := range classes {
		if class == Retained {
			continue
		}
		found, t, x := c.judge(i, names, now)
		out = append(out, c.decide(i, class, now, found, t, x, names)...)
	}
	return out
}

// comparison is the series that a trend was found in.
type comparison struct {
	series []float64 // by the hour
	cohort Cohort    // whose growth it is: tls, mtls, or unknown for the mean of all
	rss    float64
}

// judge looks for growth of one cohort against the other, then of all.
func (c *Contrast) judge(class int, names []string, now time.Time) (bool, trend, comparison) {
	quantile := 0.5
	if classes[class].highWater() {
		quantile = 0.2
	}
	for _, w := range fleetWindows {
		if classes[class] == HeapUnused && w.hours < fragmentationHours {
			continue
		}
		var rs [][]float64
		var shares []float64
		var all []float64
		oldest := math.Inf(1) // the youngest process, hours
		for _, name := range names {
			m := c.members[name]
			r, opened, ok := m.newest(class, w.hours)
			if !ok || opened.total() == 0 {
				continue
			}
			rs = append(rs, r)
			shares = append(shares, float64(opened.MTLS)/float64(opened.total()))
			for _, h := range m.hours[len(m.hours)-w.hours:] {
				if !math.IsNaN(h.rss) {
					all = append(all, h.rss)
				}
			}
			oldest = min(oldest, now.Sub(m.started).Hours())
		}
		if len(rs) < 2 {
			continue
		}
		rss := Median(all)
		floor := max(leastBytes/4, w.bytes*rss)
		if classes[class].Count() {
			floor = leastCount
		}
		if deviation(shares) >= leastSkew {
			for _, side := range []struct {
				sign   float64
				cohort Cohort
			}{{1, CohortMTLS}, {-1, CohortTLS}} {
				x := comparison{contrast(rs, shares, side.sign), side.cohort, rss}
				t, ok := testTrend(x.series, x.series, w.hours, 1, 0, quantile)
				if !ok || !t.grows(floor) || t.shape != steady {
					continue
				}
				// A trend of the contrast must also be explained by the connections.
				if at := c.attributeSince(class, names, w.hours); at.Cohort == side.cohort || at.Cohort == CohortBoth {
					return true, t, x
				}
			}
		}
		// Counts of a single process are exact enough.
		if oldest*float64(time.Hour) < float64(grownAge) || w.hours < 48 || classes[class].Count() {
			continue
		}
		// What all processes have in common, such as the warm-up of the same release,
		// does not cancel out in their mean: it must grow by as much as a single
		// process's.
		floor = max(leastBytes, meanShare*rss)
		x := comparison{mean(rs), CohortUnknown, rss}
		if t, ok := testTrend(x.series, x.series, w.hours, 1, 0, quantile); ok && t.grows(floor) && t.shape == steady {
			return true, t, x
		}
	}
	return false, trend{}, comparison{}
}

// contrast is how much more a process with one kind of connections only would
// decide moves a class on, attributes its growth, and returns what there is to tell.
func (c *Contrast) decide(class int, name Class, now time.Time, found bool, t trend, x comparison, names []string) []Verdict {
	w := &c.classes[class]
	if found {
		w.fired, w.calm = w.fired+1, 0
	} else {
		w.fired = 0
		w.calm++
	}
	var out []Verdict
	stands := w.active
	switch {
	case !w.active && w.fired >= confirmations:
		w.active = true
		w.count++
		w.verdict = Verdict{ID: verdictID(Fleet, now, name, w.count), Process: Fleet, Class: name, State: Leaking,
			Time: now, WindowHours: t.hours, Growth: t.growth, P: t.p}
	case w.active && w.calm >= endChecks:
		w.active = false
		w.verdict.State, w.verdict.Changed, w.verdict.Ended = OK, now, now
		out = append(out, w.verdict)
	}
	own := slices.DeleteFunc(slices.Sorted(maps.Keys(c.standing)), func(id string) bool { return c.standing[id].Class != name })
	if !w.active && len(own) == 0 {
		w.cohort = CohortUnknown
		return out
	}
	onset := now.Add(-48 * time.Hour)
	if w.active && len(x.series) > 0 {
		h := FitHinge(indices(len(x.series)), x.series)
		if !math.IsInf(h.Half, 1) {
			w.verdict.Onset = now.Add(-time.Duration((float64(len(x.series)) - h.At) * float64(time.Hour)))
			w.verdict.Kept = max(w.verdict.Kept, h.Slope*(float64(len(x.series))-h.At))
			w.verdict.Forecast.PerDay = Estimate{24 * h.Slope, 24 * max(0, h.Slope-h.Half), 24 * (h.Slope + h.Half)}
			onset = w.verdict.Onset
		}
	} else if len(own) > 0 && !c.standing[own[0]].Onset.IsZero() {
		onset = c.standing[own[0]].Onset
	}
	at := c.attributeSince(class, names, int(math.Round(now.Sub(onset).Hours())))
	if clear(w.cohort) && !clear(at.Cohort) || at.Cohort == CohortUnknown {
		at.Cohort = w.cohort // what was clear once stays while the leak does
	}
	changed := at.Cohort != w.cohort
	w.cohort = at.Cohort
	if w.active && (changed || !stands) {
		w.verdict.Cohort, w.verdict.Changed = at.Cohort, now
		switch at.Cohort {
		case CohortMTLS, CohortBoth:
			w.verdict.Forecast.PerReconnect = interval(at.MTLS)
		case CohortTLS:
			w.verdict.Forecast.PerReconnect = interval(at.TLS)
		}
		out = append(out, w.verdict)
	}
	if changed {
		for _, id := range own {
			s := c.standing[id]
			s.Cohort, s.Changed = at.Cohort, now
			c.standing[id] = s
			out = append(out, s.Verdict)
		}
	}
	return out
}

func clear(c Cohort) bool { return c == CohortMTLS || c == CohortTLS || c == CohortBoth }

func interval(r Ratio) Estimate {
	const z = 1.645 // 90 %
	return Estimate{finite(r.Value), finite(max(0, r.Value-z*r.SE)), finite(r.Value + z*r.SE)}
}

// attributeSince explains the growth of the last hours by the connections that
// were opened in them.
func (c *Contrast) attributeSince(class int, names []string, hours int) Attribution {
	hours = min(hours, keptHours)
	if hours > 24 {
		hours -= hours % 24 // day and night cancel out
	}
	if hours < attributeHours {
		return Attribution{}
	}
	var list []growth
	for _, name := range names {
		m := c.members[name]
		r, opened, ok := m.newest(class, hours)
		if !ok || opened.total() == 0 {
			continue
		}
		var x, y []float64
		for i, v := range r {
			if !math.IsNaN(v) {
				x, y = append(x, float64(i)), append(y, v)
			}
		}
		line := FitLine(x, y)
		slope, _ := TheilSen(x, y)
		list = append(list, growth{Ratio{slope * float64(hours), line.SEAR1() * float64(hours)}, opened})
	}
	return attribute(list)
}

// Dropped counts reports of processes beyond the 1,000 that are compared.
func (c *Contrast) Dropped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Standing returns the verdicts over the fleet that stand.
func (c *Contrast) Standing() []Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Verdict
	for _, w := range c.classes {
		if w.active {
			out = append(out, w.verdict)
		}
	}
	return out
}
