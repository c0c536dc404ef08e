package bench

import (
	"math"
	"testing"
)

// The values are those of published tables (Garwood 1936; Clopper and Pearson 1934).
func TestExactIntervals(t *testing.T) {
	for _, tt := range []struct {
		events int
		want   Interval
	}{{0, Interval{0, 3.6889}}, {1, Interval{0.0253, 5.5716}}, {2, Interval{0.2422, 7.2247}}, {10, Interval{4.7954, 18.3904}}} {
		if in := poissonInterval(tt.events); math.Abs(in.Low-tt.want.Low) > 1e-3 || math.Abs(in.High-tt.want.High) > 1e-3 {
			t.Errorf("%d events: %+v, want %+v", tt.events, in, tt.want)
		}
	}
	all := []part{{4, 4}, {2, 2}, {0, 0}, {1, 1}, {3, 3}, {4, 4}, {4, 4}, {1, 1}, {1, 1}, {1, 1}, {1, 1}} // ten runs
	if in := shareInterval(all); math.Abs(in.Low-0.6915) > 1e-4 || in.High != 1 {
		t.Errorf("ten of ten: %+v", in)
	}
	for i := range all {
		all[i].hits = 0
	}
	if in := shareInterval(all); in.Low != 0 || math.Abs(in.High-0.3085) > 1e-4 {
		t.Errorf("none of ten: %+v", in)
	}
	if in := shareInterval(nil); in != (Interval{0, 1}) {
		t.Errorf("nothing: %+v", in)
	}
}

// Gateways that fail together are one failure, not four.
func TestIntervalsDrawRuns(t *testing.T) {
	var together, apart []part
	for i := range 40 {
		p := part{4, 4}
		if i%10 == 0 {
			p.hits = 0
		}
		together = append(together, p)
		for range 4 {
			one := part{1, 1}
			if i%10 == 0 {
				one.hits = 0
			}
			apart = append(apart, one)
		}
	}
	a, b := shareInterval(together), shareInterval(apart)
	if a.Low > 0.85 || a.High < 0.95 || a.High-a.Low < 1.5*(b.High-b.Low) {
		t.Errorf("36 of 40 runs of four: %+v; 144 of 160 alone: %+v", a, b)
	}
	if again := shareInterval(together); again != a {
		t.Errorf("%+v, and again %+v", a, again)
	}
	if in := medianInterval([][]float64{{1, 2, 3}, {2, 3, 4}, {30}}); in.Low < 1 || in.Low > 3 || in.High < 3 || in.High > 30 {
		t.Errorf("median %+v", in)
	}
}
