package leak

import "math"

// Hinge is a series that is flat at first and then climbs.
type Hinge struct {
	At    float64 // x of the bend
	Level float64 // y before it
	Slope float64 // units of y per unit of x after it
	// Half is half of the width of the interval of Slope with 90 % confidence.
	Half float64
	N    int // points after the bend
}

const (
	hingeWidth = 1.9  // standard errors in half a 90 % interval, small samples
	hingeLeast = 0.08 // of the slope: what the model itself is not better than
	hingeAfter = 6    // points after the bend at least

	hingeLeastPoints = hingeAfter + 3
)

// FitHinge fits y = Level for x < At and Level + Slope*(x-At) after it; x must
// ascend. The half width is the largest of three: the standard error of the
// slope with autocorrelation, the scatter of the increments between sixths of
// the climb (a leak in bursts has few independent ones), and 8 % of the slope.
// With fewer than nine points nothing is fitted, and Half is infinite.
//
// A plain slope over a window that began before the leak is too small, and its
// interval a promise that is not kept; hence the bend.
func FitHinge(x, y []float64) Hinge {
	best := Hinge{Half: math.Inf(1)}
	n := len(x)
	if n < hingeLeastPoints {
		return best
	}
	lowest := math.Inf(1)
	ramp := make([]float64, n)
	for k := 0; k <= n-hingeAfter; k++ {
		for i := range x {
			ramp[i] = max(0, x[i]-x[k])
		}
		if fit := FitLine(ramp, y); fit.SSE < lowest {
			lowest = fit.SSE
			best = Hinge{At: x[k], Level: fit.Intercept, Slope: fit.Slope, N: n - k}
		}
	}
	after := n - best.N
	line := FitLine(x[after:], y[after:])
	best.Half = max(hingeWidth*line.SEAR1(), hingeLeast*math.Abs(best.Slope), hingeWidth*incrementError(x[after:], y[after:]))
	return best
}

// incrementError is the standard error of the mean slope between sixths of a
// series, in units of y per unit of x.
func incrementError(x, y []float64) float64 {
	const parts = 6
	k := min(parts, len(x)/2)
	if k < 3 {
		return 0
	}
	bx, by := BlockQuantiles(x, k, 0.5), BlockQuantiles(y, k, 0.5)
	mean, slopes := 0.0, make([]float64, k-1)
	for i := range slopes {
		slopes[i] = (by[i+1] - by[i]) / (bx[i+1] - bx[i])
		mean += slopes[i] / float64(k-1)
	}
	variance := 0.0
	for _, s := range slopes {
		variance += (s - mean) * (s - mean) / float64(k-2)
	}
	return math.Sqrt(variance / float64(k-1))
}
