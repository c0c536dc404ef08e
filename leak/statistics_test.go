package leak

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > within {
		t.Errorf("%s is %g, want %g ± %g", what, got, want, within)
	}
}

// permutations calls f with every order of 0..n-1.
func permutations(n int, f func([]float64)) {
	xs := indices(n)
	var visit func(int)
	visit = func(k int) {
		if k == n {
			f(xs)
			return
		}
		for i := k; i < n; i++ {
			xs[k], xs[i] = xs[i], xs[k]
			visit(k + 1)
			xs[k], xs[i] = xs[i], xs[k]
		}
	}
	visit(0)
}

// The null distribution is that of all orders, counted.
func TestKendallTailIsExact(t *testing.T) {
	for n := 2; n <= 7; n++ {
		count, total := make(map[int]int), 0
		permutations(n, func(xs []float64) {
			s, _ := MannKendall(xs)
			count[s]++
			total++
		})
		pairs := n * (n - 1) / 2
		for s := -pairs; s <= pairs; s++ {
			atLeast := 0
			for v, c := range count {
				if v >= s {
					atLeast += c
				}
			}
			near(t, fmt.Sprintf("P(S>=%d), n=%d", s, n), KendallTail(n, s), float64(atLeast)/float64(total), 1e-12)
		}
	}
}

func TestMannKendall(t *testing.T) {
	up := indices(12)
	s, p := MannKendall(up)
	if s != 66 {
		t.Errorf("12 rising values give S = %d, want 66", s)
	}
	near(t, "p of 12 rising values, 1/12!", p*479001600, 1, 1e-9)
	if _, p := MannKendall([]float64{5, 5, 5, 5, 5, 5}); p < 0.5 {
		t.Errorf("equal values give p = %g", p)
	}
	// Kendall's table (M. G. Kendall, Rank Correlation Methods): n = 10, S = 21 has
	// the tail 0.036, S = 27 has 0.0083.
	near(t, "P(S>=21), n=10", KendallTail(10, 21), 0.036, 0.0005)
	near(t, "P(S>=27), n=10", KendallTail(10, 27), 0.0083, 0.0001)
	near(t, "exact and approximate tail at n=60", KendallTail(60, 300),
		normalTail(299/math.Sqrt(60.0*59*125/18)), 2e-4)
}

// Under "no trend" p is as often below a threshold as the threshold says.
func TestMannKendallLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const runs = 20000
	below := 0
	for range runs {
		xs := make([]float64, 12)
		for i := range xs {
			xs[i] = r.NormFloat64()
		}
		if _, p := MannKendall(xs); p <= 0.05 {
			below++
		}
	}
	if share := float64(below) / runs; share > 0.055 || share < 0.035 {
		t.Errorf("p <= 0.05 in %.3f of series without trend", share)
	}
}

func TestStudent(t *testing.T) {
	for _, tt := range []struct{ tail, df, t float64 }{ // of any printed table
		{0.05, 1, 6.3138}, {0.025, 4, 2.7764}, {0.05, 10, 1.8125}, {0.005, 20, 2.8453}, {0.05, 120, 1.6577}, {0.0005, 10, 4.5869},
	} {
		near(t, fmt.Sprintf("t with tail %g, df %g", tt.tail, tt.df), StudentQuantile(tt.tail, tt.df), tt.t, 1e-4)
		near(t, fmt.Sprintf("tail at %g, df %g", tt.t, tt.df), StudentTail(tt.t, tt.df), tt.tail, tt.tail*1e-3)
		near(t, "lower tail", StudentTail(-tt.t, tt.df), 1-tt.tail, 1e-4)
	}
	near(t, "a far tail, by 1/2*B: P(T>=20), df=10", StudentTail(20, 10), 1.069e-9, 2e-11)
}

func TestTheilSen(t *testing.T) {
	x, y := indices(40), make([]float64, 40)
	for i := range y {
		y[i] = 3*x[i] + 7
	}
	for i := range 10 { // a quarter of nonsense
		y[4*i] = 1e6
	}
	slope, intercept := TheilSen(x, y)
	near(t, "slope", slope, 3, 1e-9)
	near(t, "intercept", intercept, 7, 1e-9)
	if s, _ := TheilSen([]float64{1, 1}, []float64{2, 3}); !math.IsNaN(s) {
		t.Errorf("slope of points above one another is %g", s)
	}
	r := rand.New(rand.NewPCG(3, 4))
	inside := 0
	const runs = 1000
	for range runs {
		for i := range y {
			y[i] = 0.2*x[i] + r.NormFloat64()
		}
		if low, high := TheilSenInterval(x, y, 0.9); low <= 0.2 && 0.2 <= high {
			inside++
		}
	}
	if share := float64(inside) / runs; share < 0.86 || share > 0.94 {
		t.Errorf("90 %% interval covers %.3f", share)
	}
}

func TestFitLine(t *testing.T) {
	// F. J. Anscombe 1973, first set: 3.00 + 0.500 x, R² 0.667, error of the slope 0.118.
	x := []float64{10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5}
	y := []float64{8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68}
	l := FitLine(x, y)
	near(t, "slope", l.Slope, 0.5001, 1e-4)
	near(t, "intercept", l.Intercept, 3.0001, 1e-4)
	near(t, "R2", l.R2, 0.6665, 1e-4)
	near(t, "SE", l.SE, 0.1179, 1e-4)
	near(t, "p", l.SlopeTest(0), 0.00217/2, 1e-5)
	if p := l.SlopeTest(10); p < 0.4 {
		t.Errorf("with an error of 10 from elsewhere p is %g", p)
	}
	if l := FitLine(nil, nil); !math.IsInf(l.SE, 1) {
		t.Errorf("nothing fitted has the error %g", l.SE)
	}
	if p := FitLine(indices(5), indices(5)).SlopeTest(0); p != 0 {
		t.Errorf("a perfect line has p = %g", p)
	}
}

// With autocorrelated noise the widened interval still covers; the plain one does not.
func TestIntervalWithAutocorrelation(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const runs, n, rho = 2000, 60, 0.6
	wide, narrow := 0, 0
	for range runs {
		x, y, e := indices(n), make([]float64, n), 0.0
		for i := range y {
			e = rho*e + r.NormFloat64()
			y[i] = 0.1*x[i] + e
		}
		l := FitLine(x, y)
		if low, high := l.Interval(0.9); low <= 0.1 && 0.1 <= high {
			wide++
		}
		if w := 1.67 * l.SE; math.Abs(l.Slope-0.1) <= w {
			narrow++
		}
	}
	if share := float64(wide) / runs; share < 0.85 || share > 0.96 {
		t.Errorf("90 %% interval covers %.3f", share)
	}
	if share := float64(narrow) / runs; share > 0.75 {
		t.Errorf("the plain interval covers %.3f: the noise tests nothing", share)
	}
}

func TestHuberRatio(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	dx, dy := make([]float64, 200), make([]float64, 200)
	for i := range dx {
		dx[i] = 100 * r.NormFloat64()
		dy[i] = 5000*dx[i] + 1e4*r.NormFloat64()
		if i%10 == 0 {
			dy[i] += 5e7 // a burst
		}
	}
	nothing := Ratio{0, math.Inf(1)}
	got := HuberRatio(dx, dy, nothing)
	near(t, "bytes per connection", got.Value, 5000, 60)
	if got.SE > 60 {
		t.Errorf("error %g", got.SE)
	}
	near(t, "with a certain prior", HuberRatio(dx, dy, Ratio{4000, 0}).Value, 4000, 0)
	half := HuberRatio(dx, dy, Ratio{got.Value + 2, got.SE})
	near(t, "halfway between data and prior", half.Value, got.Value+1, 1e-6)
	near(t, "with half the variance", half.SE, got.SE/math.Sqrt2, 1e-9)
	if flat := HuberRatio(make([]float64, 50), dy[:50], Ratio{7, 1}); flat != (Ratio{7, 1}) {
		t.Errorf("without a change of connections the prior becomes %v", flat)
	}
}

func TestShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	x := indices(48)
	series := func(f func(float64) float64) []float64 {
		y := make([]float64, len(x))
		for i := range y {
			y[i] = f(x[i]) + r.NormFloat64()
		}
		return y
	}
	line := series(func(x float64) float64 { return x })
	step := series(func(x float64) float64 { return 50 * math.Floor(x/30) })
	bend := series(func(x float64) float64 { return 50 * (1 - math.Exp(-x/10)) })
	if s := FitStep(line); s.Share < 1 {
		t.Errorf("a line is taken for a step: %+v", s)
	}
	if s := FitStep(step); s.Share > 0.2 || s.At != 30 || math.Abs(s.Size-50) > 2 {
		t.Errorf("step of 50 at 30 found as %+v", s)
	}
	if s := FitSaturation(x, line); s.Share < 0.5 {
		t.Errorf("a line is taken for saturation: %+v", s)
	}
	if s := FitSaturation(x, bend); s.Share > 0.2 || s.Tau < 7 || s.Tau > 14 {
		t.Errorf("saturation with tau 10 found as %+v", s)
	}
}

func TestFitHinge(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const runs = 300
	inside := 0
	for range runs {
		x, y, e := indices(72), make([]float64, 72), 0.0
		bend := 10 + 30*r.Float64()
		for i := range y {
			e = 0.5*e + r.NormFloat64()
			y[i] = 100 + 2*max(0, x[i]-bend) + e
		}
		h := FitHinge(x, y)
		if math.Abs(h.Slope-2) <= h.Half {
			inside++
		}
		if math.Abs(h.At-bend) > 6 {
			t.Fatalf("bend at %.1f found at %.1f", bend, h.At)
		}
	}
	if share := float64(inside) / runs; share < 0.85 {
		t.Errorf("90 %% interval covers %.3f", share)
	}
	if h := FitHinge(indices(5), indices(5)); !math.IsInf(h.Half, 1) {
		t.Errorf("five points give %+v", h)
	}
}

func TestQuantiles(t *testing.T) {
	xs := []float64{4, 1, 3, 2}
	near(t, "median", Median(xs), 2.5, 0)
	near(t, "lowest", Quantile(xs, 0), 1, 0)
	near(t, "highest", Quantile(xs, 1), 4, 0)
	if xs[0] != 4 {
		t.Error("the argument was sorted")
	}
	if !math.IsNaN(Median(nil)) || Spread(nil) != 0 {
		t.Error("nothing has a median")
	}
	nan := math.NaN()
	got := BlockQuantiles([]float64{1, 2, nan, 4, nan, nan}, 3, 0.5)
	if got[0] != 1.5 || got[1] != 4 || !math.IsNaN(got[2]) {
		t.Errorf("blocks %v", got)
	}
}

func TestFades(t *testing.T) {
	series := func(f func(h float64) float64) []float64 {
		ys := make([]float64, bendBlocks)
		for h := range ys {
			ys[h] = f(float64(h)) + 0.05*math.Sin(3*float64(h))
		}
		return ys
	}
	for _, tt := range []struct {
		name string
		f    func(h float64) float64
		want bool
	}{
		{"a leak from the start", func(h float64) float64 { return h }, false},
		{"a leak from hour 10", func(h float64) float64 { return max(0, h-10) }, false},
		{"a cache from the start", func(h float64) float64 { return 20 * (1 - math.Exp(-h/10)) }, true},
		{"a cache from hour 8", func(h float64) float64 { return 20 * (1 - math.Exp(-max(0, h-8)/8)) }, true},
		{"such a cache, and a step", func(h float64) float64 {
			if h > 16 {
				h += 2
			}
			return 12 * (1 - math.Exp(-max(0, h-8)/6))
		}, true},
		{"unknown for the most part", func(h float64) float64 { return math.NaN() }, true},
	} {
		if got := fades(series(tt.f)); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestIsEmptied(t *testing.T) {
	series := func(f func(h float64) float64) []float64 {
		ys := make([]float64, 120)
		for k := range ys {
			ys[k] = f(float64(k)/2) + 0.05*math.Sin(3*float64(k))
		}
		return ys
	}
	for _, tt := range []struct {
		name   string
		f      func(h float64) float64
		growth float64
		want   bool
	}{
		{"a leak", func(h float64) float64 { return h }, 24, false},
		{"emptied, then it fills", func(h float64) float64 { return math.Mod(min(h, 20), 5) + max(0, h-20) }, 20, true},
		{"emptied once", func(h float64) float64 {
			if h > 8 {
				h -= 8
			}
			return h
		}, 30, true},
		{"what was emptied is small beside the growth", func(h float64) float64 { return math.Mod(min(h, 20), 3) + max(0, h-20) }, 40, false},
		{"a leak beside a map that is emptied", func(h float64) float64 { return math.Mod(h, 8) + h }, 40, false},
		{"noise", func(h float64) float64 { return 2*math.Sin(7*h) + h/4 }, 6, false},
	} {
		if got := isEmptied(series(tt.f), tt.growth); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
