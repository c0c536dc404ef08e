package leak

import (
	"math"
	"time"
)

const (
	// blockTime is the resolution of everything that is tested.
	blockTime    = 10 * time.Minute
	blocksPerDay = int(24 * time.Hour / blockTime)
	perHour      = int(time.Hour / blockTime)

	// keptBlocks is the longest window: 72 hours.
	keptBlocks = 3 * 24 * perHour

	// testBlocks is how many medians a window is condensed to. With 12, the
	// smallest p that Mann-Kendall can give is 2e-9.
	testBlocks = 12

	// alpha is the only constant of the false-alarm budget. By the union bound
	// over 24 checks a day and some 20 pairs of class and window, a healthy
	// process would be called leaking 0.01 times a day if its residuals were
	// exchangeable; the other conditions lower that.
	alpha = 2e-5

	// noiseTimes is how many times its noise a class must have grown by.
	noiseTimes = 3

	// leastBytes and leastCount are below what nothing is called a leak, however
	// small the process is: pages, arenas and workers come in such steps.
	leastBytes = 768 << 10
	leastCount = 10
)

// window is one length of time over which growth is tested. A window of whole
// days cancels day and night. Shorter ones must show more growth, 1 and 2 % an
// hour: half a day of a cache that is emptied at night rises as steadily as a
// leak, and a slower leak can wait for a day.
type window struct {
	hours  int
	bytes  float64 // least growth of a byte class, as a share of RSS
	counts float64 // least growth of a count, as a share of the connections
}

var windows = [...]window{
	{6, 0.12, 0.01}, {12, 0.12, 0.01}, {24, 0.025, 0.005}, {48, 0.02, 0.004}, {72, 0.02, 0.004},
}

// shape is what growth looks like if it is not a leak's.
type shape uint8

const (
	steady     shape = iota
	saturating       // it comes to an end
	stepped          // it happened at once
	returning        // it was there before, and went away
)

// trend is the test of one series over one window.
type trend struct {
	hours  int
	p      float64 // of Mann-Kendall and of the slope, the larger one
	growth float64 // over the window, in the unit of the series
	noise  float64 // standard deviation of the medians around the line
	shape  shape
}

// grows reports whether there is growth beyond chance, noise and floor, be it a
// leak or not.
func (t trend) grows(floor float64) bool {
	return t.p < alpha && t.growth >= floor && t.growth >= noiseTimes*t.noise
}

// testTrend tests the newest hours of r, of which rate values are an hour, NaN
// where there is none. slack is a series of the same length whose trend explains that of r
// with an uncertain factor: extra is the standard error of that factor. ok is
// false if too much is missing.
func testTrend(r, slack []float64, hours, rate int, extra, quantile float64) (t trend, ok bool) {
	n := hours * rate
	if len(r) < n || n < testBlocks {
		return t, false
	}
	earlier := r[:len(r)-n]
	r = r[len(r)-n:]
	missing := 0
	for _, v := range r {
		if math.IsNaN(v) {
			missing++
		}
	}
	if missing*10 > n {
		return t, false
	}
	y := BlockQuantiles(r, testBlocks, quantile)
	for _, v := range y {
		if math.IsNaN(v) {
			return t, false
		}
	}
	t.hours = hours
	_, t.p = MannKendall(y)
	if t.p >= alpha { // it cannot become smaller: the rest is for those that grow
		return t, true
	}
	x := indices(testBlocks)
	line := FitLine(x, y)
	if extra > 0 {
		if s := BlockQuantiles(slack[len(slack)-n:], testBlocks, 0.5); !anyNaN(s) {
			extra *= math.Abs(FitLine(x, s).Slope)
		}
	}
	t.p = max(t.p, line.SlopeTest(extra))
	slope, _ := TheilSen(x, y)
	t.growth = slope * testBlocks
	rest := make([]float64, testBlocks)
	for i := range rest {
		rest[i] = y[i] - slope*x[i]
	}
	t.noise = Spread(rest)
	t.shape = shapeOf(x, y, line)
	if t.shape == steady && wasThere(earlier, y[testBlocks-1], t.growth, n, quantile) {
		t.shape = returning
	}
	return t, true
}

const (
	newLevel     = 0.25 // of the growth must be above what there was before
	earlierShare = 0.5  // of the window must lie before it, to know
	usualHigh    = 0.9  // quantile of what there was
)

// wasThere reports whether a series has only come back to where it was before
// the window of n values: what a cache does that is emptied now and then. A leak
// goes where the process has never been.
func wasThere(earlier []float64, last, growth float64, n int, quantile float64) bool {
	size := n / testBlocks // values in a median
	blocks := len(earlier) / size
	if float64(blocks) < earlierShare*testBlocks {
		return false
	}
	before := known(BlockQuantiles(earlier[len(earlier)-blocks*size:], blocks, quantile))
	if float64(len(before)) < earlierShare*testBlocks {
		return false
	}
	return last < Quantile(before, usualHigh)+newLevel*growth
}

// shapeOf tells a leak's growth from growth that ends.
func shapeOf(x, y []float64, line Line) shape {
	const (
		lateShare  = 0.6 // slope of the later half, of that of the earlier one
		lastShare  = 0.5 // slope of the last third, of that of the whole
		curveShare = 0.5 // squared error of the saturation curve
		stepShare  = 0.6 // squared error of two levels
		jumpShare  = 0.5 // of the rise in one jump between neighbours
	)
	jump := 0.0
	for i := range len(y) - 1 {
		jump = max(jump, y[i+1]-y[i])
	}
	if FitStep(y).Share < stepShare || jump > jumpShare*line.Slope*float64(len(y)-1) {
		return stepped
	}
	half, third := len(y)/2, len(y)/3
	early, late := FitLine(x[:half], y[:half]).Slope, FitLine(x[half:], y[half:]).Slope
	last := FitLine(x[len(x)-third:], y[len(y)-third:]).Slope
	if late < lateShare*early || last < lastShare*line.Slope {
		return saturating
	}
	if s := FitSaturation(x, y); s.Share < curveShare && s.Rise > 0 {
		return saturating
	}
	return steady
}

func anyNaN(xs []float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) {
			return true
		}
	}
	return false
}
