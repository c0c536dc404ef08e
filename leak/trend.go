package leak

import (
	"math"
	"time"
)

const (
	// BlockTime is the resolution of everything that is tested.
	BlockTime    = 10 * time.Minute
	blocksPerDay = int(24 * time.Hour / BlockTime)
	perHour      = int(time.Hour / BlockTime)

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
	leastBytes = 1 << 20
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
	fading bool // it slows down, if only a little
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
	all, earlier := r, r[:len(r)-n]
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
	t.shape, t.fading = shapeOf(x, y, line)
	t.fading = t.fading || fades(BlockQuantiles(r, bendBlocks, quantile))
	if t.shape == steady {
		before := medians(earlier, n/testBlocks, quantile)
		if wasThere(before, y[testBlocks-1], t.growth) || isEmptied(medians(all, max(1, rate/2), quantile), t.growth) {
			t.shape = returning
		}
	}
	return t, true
}

const (
	newLevel     = 0.25 // of the growth must be above what there was before
	earlierShare = 0.5  // of the window must lie before it, to know
	usualHigh    = 0.9  // quantile of what there was
)

// medians condenses a series from its end to blocks of so many values, and leaves
// out what is unknown.
func medians(xs []float64, size int, quantile float64) []float64 {
	blocks := len(xs) / size
	return known(BlockQuantiles(xs[len(xs)-blocks*size:], blocks, quantile))
}

// wasThere reports whether a series has only come back to where it was before
// the window: what a cache does that is emptied now and then. A leak goes where
// the process has never been.
func wasThere(before []float64, last, growth float64) bool {
	if float64(len(before)) < earlierShare*testBlocks {
		return false
	}
	return last < Quantile(before, usualHigh)+newLevel*growth
}

const (
	// fallShare is the part of the growth that must have been given back at once
	// for what grows to be something that is emptied now and then.
	fallShare = 0.125
	// fallTimes is how many times the scatter that must be, taken from
	// how each change differs from the one before.
	fallTimes = 2
	// backShare of the fall may be left of what had grown before it: it fills again
	// at once, and maps keep their buckets.
	backShare = 0.75
)

// isEmptied reports whether a series of half hours has fallen, from one to the
// next or the one after it, by a part of the growth, and at last to where it had
// been before: then it is a map that fills, however long it takes this time. A
// leak beside such a map raises what is left after it was emptied.
func isEmptied(ys []float64, growth float64) bool {
	if len(ys) < 3 {
		return false
	}
	fall := func(i int) (size, bottom float64) {
		bottom = ys[i+1]
		if i+2 < len(ys) {
			bottom = min(bottom, ys[i+2])
		}
		return ys[i] - bottom, bottom
	}
	largest, bends := 0.0, make([]float64, 0, len(ys))
	for i := range len(ys) - 1 {
		size, _ := fall(i)
		largest = max(largest, size)
		if i > 0 {
			bends = append(bends, ys[i+1]-2*ys[i]+ys[i-1])
		}
	}
	if largest < max(fallShare*growth, fallTimes*Spread(bends)) {
		return false
	}
	lowest := math.Inf(1) // before the first fall of the kind
	fell, rest := false, 0.0
	for i := range len(ys) - 1 {
		if !fell {
			lowest = min(lowest, ys[i])
		}
		if size, bottom := fall(i); size >= largest/2 {
			fell, rest = true, bottom
		}
	}
	return rest-lowest < backShare*largest
}

// shapeOf tells a leak's growth from growth that ends.
func shapeOf(x, y []float64, line Line) (s shape, fading bool) {
	const (
		lateShare  = 0.6 // slope of the later half, of that of the earlier one
		lastShare  = 0.5 // slope of the last third, of that of the whole
		curveShare = 0.5 // squared error of the saturation curve
		stepShare  = 0.6 // squared error of two levels
		jumpShare  = 0.5 // of the rise in one jump between neighbours

		// Of a young process.
		lateStrict, lastStrict, curveStrict = 0.9, 0.85, 0.9
	)
	jump := 0.0
	for i := range len(y) - 1 {
		jump = max(jump, y[i+1]-y[i])
	}
	if FitStep(y).Share < stepShare || jump > jumpShare*line.Slope*float64(len(y)-1) {
		return stepped, false
	}
	half, third := len(y)/2, len(y)/3
	early, late := FitLine(x[:half], y[:half]).Slope, FitLine(x[half:], y[half:]).Slope
	last := FitLine(x[len(x)-third:], y[len(y)-third:]).Slope
	if late < lateShare*early || last < lastShare*line.Slope {
		return saturating, true
	}
	curve := FitSaturation(x, y)
	if curve.Share < curveShare && curve.Rise > 0 {
		return saturating, true
	}
	return steady, late < lateStrict*early || last < lastStrict*line.Slope || curve.Share < curveStrict && curve.Rise > 0
}

// bendBlocks is how many medians of a window are looked at for the bend where the
// growth begins.
const bendBlocks = 24

// fades reports whether growth slows down from where it begins, as that of a
// cache does which began to fill within the window.
func fades(ys []float64) bool {
	ys = known(ys)
	x := indices(len(ys))
	h := FitHinge(x, ys)
	if h.N < hingeAfter {
		return true
	}
	x, ys = x[len(x)-h.N:], ys[len(ys)-h.N:]
	half, third := h.N/2, h.N/3
	slope := func(from, to int) float64 { return FitLine(x[from:to], ys[from:to]).Slope }
	return slope(half, h.N) < bendShare*slope(0, half) || slope(h.N-third, h.N) < bendShare*slope(0, h.N)
}

// bendShare is the least slope of the later half of the climb, as a part of that
// of the earlier one, and of its last third, as a part of that of the whole.
const bendShare = 0.8

func anyNaN(xs []float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) {
			return true
		}
	}
	return false
}
