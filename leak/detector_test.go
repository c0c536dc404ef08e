package leak

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// feed runs samples every two minutes through d and returns what it told.
func feed(d *Detector, from, to float64, f func(h float64, s *Sample)) []Verdict {
	var told []Verdict
	for k := int(from * 30); k < int(to*30); k++ {
		h := float64(k) / 30
		s := Sample{Time: epoch.Add(time.Duration(k) * 2 * time.Minute), Connections: 5000, RSS: 100 << 20, Limit: 400 << 20, GOGC: 100}
		s.Values = Values{40 << 20, 4 << 20, 5 << 20, 1 << 20, 1 << 10, 60, 12, 5030, 0}
		s.Opened = Opened{TLS: int64(100 * h), MTLS: int64(300 * h)}
		f(h, &s)
		// Some noise that is the same every time.
		s.Values[0] += 200e3 * math.Sin(float64(k)*1.7)
		s.Values[3] += 50e3 * math.Sin(float64(k)*2.3)
		v, _ := d.Add(s)
		told = append(told, v...)
	}
	return told
}

func state(d *Detector, c Class) ClassStatus {
	for _, cs := range d.Status().Classes {
		if cs.Class == c {
			return cs
		}
	}
	return ClassStatus{}
}

func TestStates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		class Class
		hours float64
		f     func(h float64, s *Sample)
		want  State
	}{
		{"quiet", HeapLive, 60, func(h float64, s *Sample) {}, OK},
		{"young", HeapLive, 20, func(h float64, s *Sample) { s.Values[0] += h * 300e3 }, Warming},
		{"young, but the memory is gone in a day", HeapLive, 20, func(h float64, s *Sample) { s.Values[0] += h * 8e6 }, Urgent},
		{"young, and grows by 2 % an hour for half a day", HeapLive, 18, func(h float64, s *Sample) { s.Values[0] += 2e6 * max(0, h-5) }, Leaking},
		{"young, and a cache with an end is full after eight hours", HeapLive, 16, func(h float64, s *Sample) { s.Values[0] += 2.5e6 * min(8, max(0, h-4)) }, Warming},
		{"leak", HeapLive, 60, func(h float64, s *Sample) { s.Values[0] += h * 300e3 }, Leaking},
		{"leak at the limit", HeapLive, 60, func(h float64, s *Sample) { s.Values[0] += h * 4e6; s.RSS += int64(h * 4e6) }, Urgent},
		{"off-heap leak", OffHeap, 60, func(h float64, s *Sample) { s.Values[3] += h * 300e3 }, Leaking},
		{"goroutines, young", Goroutines, 16, func(h float64, s *Sample) { s.Values[5] += math.Floor(h * 20) }, Leaking},
		{"explained by connections", HeapLive, 60, func(h float64, s *Sample) {
			s.Connections += int(100 * h)
			s.Values[0] += 100 * h * 3700
			s.Values[7] += 100 * h
		}, Explained},
		{"step", HeapLive, 60, func(h float64, s *Sample) {
			if h > 45 {
				s.Values[0] += 20e6
			}
		}, OK}, // a step alone is no trend by rank
		{"saturation", HeapLive, 40, func(h float64, s *Sample) { s.Values[0] += 20e6 * (1 - math.Exp(-h/12)) }, Warming},
		{"a cache that is emptied every 16 hours", HeapLive, 70, func(h float64, s *Sample) { s.Values[0] += 1e6 * math.Mod(h, 16) }, OK},
		{"a leak beside such a cache", HeapLive, 70, func(h float64, s *Sample) { s.Values[0] += 1e6*math.Mod(h, 16) + 400e3*h }, Leaking},
		{"young, and it leaks from hour 8 on", HeapLive, 33, func(h float64, s *Sample) { s.Values[0] += 500e3 * max(0, h-8) }, Leaking},
		{"young, and a cache fills from hour 8 on", HeapLive, 37, func(h float64, s *Sample) { s.Values[0] += 12e6 * (1 - math.Exp(-max(0, h-8)/8)) }, Warming},
		{"young, and such a cache takes a step", HeapLive, 33, func(h float64, s *Sample) {
			s.Values[0] += 9e6 * (1 - math.Exp(-max(0, h-12)/9))
			if h > 22 {
				s.Values[0] += 2e6
			}
		}, Warming},
		{"a map that is emptied every 5 hours, then fills for a day", HeapLive, 58, func(h float64, s *Sample) {
			if h < 30 {
				h = math.Mod(h, 5)
			} else {
				h -= 30
			}
			s.Values[0] += 1e6 * h
		}, OK},
		{"a table that fills for most of a day", HeapLive, 62, func(h float64, s *Sample) { s.Values[0] += 1.2e6 * max(0, h-42) }, Warming},
		{"a leak as slow, after a day", HeapLive, 68, func(h float64, s *Sample) { s.Values[0] += 1.2e6 * max(0, h-42) }, Leaking},
		{"fragmentation, after two days", HeapUnused, 56, func(h float64, s *Sample) { s.Values[1] += 200e3 * max(0, h-4) }, Leaking},
		{"unknown class", OffHeap, 60, func(h float64, s *Sample) { s.Values[3] = math.NaN() }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDetector(DetectorConfig{Process: "test"})
			told := feed(d, 0, tt.hours, tt.f)
			if got := state(d, tt.class); got.State != tt.want {
				t.Errorf("%s is %s, want %s", tt.class, got.State, tt.want)
			}
			if tt.want.Leak() != (len(told) > 0) {
				t.Errorf("told %v", told)
			}
			for _, v := range told {
				if v.Class != tt.class {
					t.Errorf("verdict on %s", v.Class)
				}
			}
		})
	}
}

// A fast leak is found within hours: its first verdict has a forecast already.
func TestFirstForecast(t *testing.T) {
	d := NewDetector(DetectorConfig{Process: "gateway/a"})
	rate := 8e6 // bytes per hour
	told := feed(d, 0, 10, func(h float64, s *Sample) { s.Values[0] += h * rate })
	if len(told) == 0 {
		t.Fatal("no verdict")
	}
	v := told[0]
	if age := v.Time.Sub(epoch).Hours(); age > 9 || math.Abs(v.Forecast.PerDay.Value/(24*rate)-1) > 0.1 || v.Kept < 4*rate || v.Onset.IsZero() {
		t.Errorf("after %.0f hours %s, %v kept since %s", age, v, v.Kept, v.Onset)
	}
}

func TestForecast(t *testing.T) {
	d := NewDetector(DetectorConfig{Process: "gateway/a", Target: 200 << 20})
	onset := 20.0
	rate := 400e3 // bytes per hour
	told := feed(d, 0, 70, func(h float64, s *Sample) {
		kept := rate * max(0, h-onset)
		s.Values[0] += kept
		s.RSS += int64(2 * kept) // GOGC 100
	})
	if len(told) == 0 {
		t.Fatal("no verdict")
	}
	if told[0].ID == "" || told[0].State != Leaking || told[0].Process != "gateway/a" {
		t.Errorf("first verdict %+v", told[0])
	}
	for i := 1; i < len(told); i++ {
		if told[i].ID != told[0].ID || told[i].Kept < 1.2*told[i-1].Kept {
			t.Errorf("told again after %s, at %s", Bytes(told[i-1].Kept), Bytes(told[i].Kept))
		}
	}
	v := *state(d, HeapLive).Verdict
	f := v.Forecast
	inside := func(what string, e Estimate, want float64) {
		t.Helper()
		if want < e.Low || want > e.High || e.Value == 0 {
			t.Errorf("%s is %+v, want %g inside", what, e, want)
		}
	}
	inside("bytes per day", f.PerDay, 24*rate)
	inside("bytes per reconnect", f.PerReconnect, rate/400)
	inside("resident bytes per day", f.RSSPerDay, 48*rate)
	rss := 100*float64(1<<20) + 2*rate*50
	inside("hours to the limit", f.HoursToLimit, (400*(1<<20)-rss)/(2*rate))
	inside("pods per week", f.PodsPerWeek, 168*2*rate/(100<<20))
	near(t, "onset in hours", v.Onset.Sub(epoch).Hours(), onset, 4)
	text := v.String()
	for _, want := range []string{"gateway/a: heap_live leaks", "a day", "per new connection", "memory limit in", "extra pods a week"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	if _, err := json.Marshal(d.Status()); err != nil {
		t.Error(err)
	}
}

func TestLeakEnds(t *testing.T) {
	d := NewDetector(DetectorConfig{Process: "test"})
	told := feed(d, 0, 140, func(h float64, s *Sample) { s.Values[0] += 400e3 * min(50, max(0, h-10)) })
	last := told[len(told)-1]
	if last.State != OK || last.Ended.IsZero() || state(d, HeapLive).State.Leak() {
		t.Errorf("growth ended at 60 h; the last verdict is %+v", last)
	}
	if hours := last.Ended.Sub(epoch).Hours(); hours < 84 || hours > 120 {
		t.Errorf("ended at %.0f h", hours)
	}
}

// Closed connections that stay need no trend.
func TestRetained(t *testing.T) {
	d := NewDetector(DetectorConfig{Process: "test"})
	told := feed(d, 0, 5, func(h float64, s *Sample) {
		switch {
		case h < 2:
			s.Values[8] = 3 // between close and collection
		case h < 3:
			s.Values[8] = math.Floor(3 + 30*(h-2))
		case h < 4:
			s.Values[8] = 33
		}
	})
	if len(told) != 2 || told[0].Class != Retained || told[0].State != Leaking || told[1].State != OK {
		t.Fatalf("told %v", told)
	}
	if h := told[0].Time.Sub(epoch).Hours(); h > 3 {
		t.Errorf("after %.1f h", h)
	}
	if !strings.Contains(told[0].String(), "closed connections are still held") {
		t.Errorf("%s", told[0])
	}
}

// Gaps, a clock that jumps and samples without figures end nothing.
func TestHostileSamples(t *testing.T) {
	d := NewDetector(DetectorConfig{Process: "test"})
	nan := math.NaN()
	at := epoch
	for i, step := range []time.Duration{0, time.Minute, -time.Hour, 20 * time.Hour, 5 * time.Minute, 500 * time.Hour, 0, time.Minute, 11 * time.Minute} {
		at = at.Add(step)
		s := Sample{Time: at, Connections: i}
		for k := range s.Values {
			s.Values[k] = nan
		}
		for range 1000 {
			d.Add(s)
		}
	}
	for k := range 3000 {
		at = at.Add(10 * time.Minute)
		d.Add(Sample{Time: at, Connections: k % 7, Values: Values{math.Inf(1), -1, nan, 1e300, 0, 0, 0, 0, 0}})
	}
	if n := len(d.series.blocks); n > keptBlocks {
		t.Errorf("%d blocks kept", n)
	}
	if _, err := json.Marshal(d.Status()); err != nil {
		t.Error(err)
	}
}
