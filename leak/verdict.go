package leak

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Verdict says that a class of a process leaks. The same ID comes again when
// something about it changed, and at last with state ok.
type Verdict struct {
	ID      string    `json:"id"`
	Process string    `json:"process"`
	Class   Class     `json:"class"`
	Cohort  Cohort    `json:"cohort,omitempty"`
	State   State     `json:"state"` // leak, urgent, or ok when it ended
	Time    time.Time `json:"time"`  // of the verdict
	Changed time.Time `json:"changed"`
	Ended   time.Time `json:"ended,omitzero"`
	// Gone: the process has ended, and what it kept with it.
	Gone bool `json:"gone,omitempty"`

	// Onset is when the growth began, as fitted; zero if unknown.
	Onset time.Time `json:"onset,omitzero"`
	// Kept is how much has leaked since, in bytes or things.
	Kept float64 `json:"kept"`

	// Why: the shortest window that shows it, growth over it, and the probability
	// of such a trend if there is none.
	WindowHours int     `json:"window_hours"`
	Growth      float64 `json:"growth"`
	P           float64 `json:"p"`

	Forecast Forecast `json:"forecast"`

	recent float64 // slope of the last day, per day
}

// Estimate is a figure with its interval of 90 %.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

func (e Estimate) times(f float64) Estimate {
	return Estimate{finite(e.Value * f), finite(e.Low * f), finite(e.High * f)}
}

// Forecast is how fast a leak is and when it will hurt. Figures that are unknown
// are 0.
type Forecast struct {
	// PerDay is growth of the class in a day, bytes or things.
	PerDay Estimate `json:"per_day"`
	// PerReconnect is growth for each connection that was established meanwhile.
	PerReconnect Estimate `json:"per_reconnect"`
	// RSSPerDay is what the resident set (of sockets: the working set) grows by:
	// a leak of heap costs the collector's headroom on top.
	RSSPerDay Estimate `json:"rss_per_day_bytes"`
	// HoursToLimit is the time until the memory limit with as many connections as
	// there were at most in the last days; Low is the earliest.
	HoursToLimit Estimate `json:"hours_to_limit"`
	// PodsPerWeek is how many pods an autoscaler that holds this pod's memory at
	// the target would add every week because of this one.
	PodsPerWeek Estimate `json:"pods_per_week"`
}

// forecast fits the growth and fills in what follows from it.
func (d *Detector) forecast(v *Verdict, c Class, r []float64) {
	v.State = Leaking
	blocks := d.series.blocks
	first := blocks[0].Number
	hours, level := condense(r, perHour)
	if len(hours) < hingeLeastPoints { // a fast leak of a young process: block by block
		hours, level = condense(r, 1)
	}
	h := FitHinge(hours, level)
	if math.IsInf(h.Half, 1) {
		return
	}
	end := float64(len(r)) / float64(perHour)
	v.Onset = time.Unix(0, first*int64(BlockTime)).Add(time.Duration(h.At * float64(time.Hour))).UTC()
	v.Kept = max(v.Kept, h.Slope*(end-h.At))
	day := Estimate{24 * h.Slope, 24 * max(0, h.Slope-h.Half), 24 * (h.Slope + h.Half)}
	f := Forecast{PerDay: day}
	at := min(max(int(h.At*float64(perHour)), 0), len(blocks)-1)
	if opened := blocks[len(blocks)-1].Opened.sub(blocks[at].Opened).total(); opened > 0 {
		f.PerReconnect = day.times((end - h.At) / 24 / float64(opened))
	}
	if end >= 12 {
		from := max(0, len(hours)-24)
		slope, _ := TheilSen(hours[from:], level[from:])
		v.recent = 24 * finite(slope)
	}
	if !c.Count() {
		d.hurt(&f, c, day)
	}
	v.Forecast = f
	if left := f.HoursToLimit.Value; left > 0 && left < urgentTime.Hours() {
		v.State = Urgent
	}
}

// hurt is when the limit is reached, and what an autoscaler makes of it.
func (d *Detector) hurt(f *Forecast, c Class, day Estimate) {
	factor := 1.0
	if c == HeapLive && d.last.GOGC > 0 {
		factor += d.last.GOGC / 100
	}
	f.RSSPerDay = day.times(factor)
	used := float64(d.last.WorkingSet)
	if used == 0 {
		used = float64(d.last.RSS)
	}
	limit, target := float64(d.last.Limit), float64(d.cfg.Target)
	if limit > 0 && f.RSSPerDay.Value > 0 {
		// The connections may come back to their peak.
		peak := 0.0
		for _, b := range d.series.blocks {
			if b.Connections > peak {
				peak = b.Connections
			}
		}
		used := used + max(0, peak-float64(d.last.Connections))*d.classes[HeapLive.Index()].beta.Value*factor
		left := max(0, limit-used)
		until := func(perDay float64) float64 { return finite(24 * left / perDay) }
		f.HoursToLimit = Estimate{until(f.RSSPerDay.Value), until(f.RSSPerDay.High), until(f.RSSPerDay.Low)}
	}
	if target == 0 {
		target = 0.8 * limit
	}
	// desired = pods * mean usage / target: a fresh pod lowers the mean by the
	// target less what it uses itself, which is what this one had before.
	base := d.recentRSS()
	for _, b := range d.series.blocks { // before the leak
		if !math.IsNaN(b.RSS) {
			base = min(base, b.RSS)
		}
	}
	if target > base {
		f.PodsPerWeek = f.RSSPerDay.times(7 / (target - base))
	}
}

// condense is the medians of so many blocks each: x in hours, the middle of each.
func condense(r []float64, blocks int) (x, y []float64) {
	for i := 0; i+blocks <= len(r); i += blocks {
		if v := known(r[i : i+blocks]); len(v) > 0 {
			x = append(x, (float64(i)+float64(blocks)/2)/float64(perHour))
			y = append(y, Median(v))
		}
	}
	return x, y
}

// String is one line for people: what, where, how fast, when it hurts.
func (v Verdict) String() string {
	var b strings.Builder
	if v.Gone {
		fmt.Fprintf(&b, "%s: %s leaked %s until the process ended", v.Process, v.Class, v.Class.Amount(v.Kept))
		return b.String()
	}
	if v.State == OK {
		fmt.Fprintf(&b, "%s: %s no longer grows, %s kept", v.Process, v.Class, v.Class.Amount(v.Kept))
		return b.String()
	}
	fmt.Fprintf(&b, "%s: %s leaks", v.Process, v.Class)
	switch v.Cohort {
	case CohortUnknown:
	case CohortUndetermined:
		b.WriteString(" (cohort undetermined)")
	default:
		fmt.Fprintf(&b, " (%s connections)", v.Cohort)
	}
	if v.Class == Retained {
		fmt.Fprintf(&b, ", %.0f closed connections are still held", v.Kept)
		return b.String()
	}
	f := v.Forecast
	fmt.Fprintf(&b, ", %s a day (%s to %s)", v.Class.Amount(f.PerDay.Value), v.Class.Amount(f.PerDay.Low), v.Class.Amount(f.PerDay.High))
	if f.PerReconnect.Value > 0 {
		fmt.Fprintf(&b, ", %s per new connection", v.Class.Amount(f.PerReconnect.Value))
	}
	if f.HoursToLimit.Value > 0 {
		fmt.Fprintf(&b, ", memory limit in %s", hours(f.HoursToLimit.Value))
	}
	if f.PodsPerWeek.Value > 0 {
		fmt.Fprintf(&b, ", %.2g extra pods a week", f.PodsPerWeek.Value)
	}
	return b.String()
}

func hours(h float64) string {
	if h < 48 {
		return fmt.Sprintf("%.0f h", h)
	}
	return fmt.Sprintf("%.0f days", h/24)
}

// Amount is a figure of a class for people.
func (c Class) Amount(v float64) string {
	if c.Count() {
		return fmt.Sprintf("%.3g", v)
	}
	return Bytes(v)
}

// Bytes is a number of bytes for people: 3.4 KB, 12 MB.
func Bytes(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}} {
		if math.Abs(v) >= u.size {
			return fmt.Sprintf("%.3g %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", v)
}
