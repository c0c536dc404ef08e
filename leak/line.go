package leak

import "math"

// Line is a straight line fitted by least squares.
type Line struct {
	Slope     float64 // units of y per unit of x
	Intercept float64 // y at x = 0
	SE        float64 // standard error of Slope, for independent residuals
	SSE       float64 // sum of squared residuals
	R2        float64 // share of the variance of y that the line explains
	Rho       float64 // correlation of a residual with the one before
	N         int     // points
}

// FitLine fits y = Intercept + Slope*x. With fewer than two different x the
// slope is 0 and its error infinite.
func FitLine(x, y []float64) Line {
	l := Line{N: len(x), SE: math.Inf(1)}
	if len(x) == 0 {
		return l
	}
	n := float64(len(x))
	mx, my := 0.0, 0.0
	for i := range x {
		mx += x[i] / n
		my += y[i] / n
	}
	sxx, sxy, syy := 0.0, 0.0, 0.0
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		sxx += dx * dx
		sxy += dx * dy
		syy += dy * dy
	}
	if sxx > 0 {
		l.Slope = sxy / sxx
	}
	l.Intercept = my - l.Slope*mx
	before, lagged := 0.0, 0.0
	for i := range x {
		r := y[i] - l.Intercept - l.Slope*x[i]
		l.SSE += r * r
		lagged += r * before
		before = r
	}
	if syy > 0 {
		l.R2 = 1 - l.SSE/syy
	}
	if l.SSE > 0 {
		l.Rho = lagged / l.SSE
	}
	if sxx > 0 && n > 2 {
		l.SE = math.Sqrt(l.SSE / (n - 2) / sxx)
	}
	return l
}

// maxRho bounds the correlation that SEAR1 believes: beyond it a short series
// cannot be told from a random walk, and the error would be infinite.
const maxRho = 0.95

// SEAR1 is the standard error of the slope when each residual depends on the one
// before (first-order autoregression with coefficient Rho, corrected for the
// downward bias of short series). It is never smaller than SE.
func (l Line) SEAR1() float64 {
	if l.N < 4 {
		return l.SE
	}
	// A fitted line takes about (1+3*rho)/n from the correlation of what is left,
	// as M. G. Kendall 1954 found for a fitted mean.
	rho := l.Rho + (1+3*l.Rho)/float64(l.N)
	rho = min(max(rho, 0), maxRho)
	return l.SE * math.Sqrt((1+rho)/(1-rho))
}

// Interval returns the interval of the slope with the given confidence (0.9: 5 %
// outside on either side), widened for autocorrelated residuals.
func (l Line) Interval(confidence float64) (low, high float64) {
	w := StudentQuantile((1-confidence)/2, float64(l.N-2)) * l.SEAR1()
	if math.IsNaN(w) { // infinity times zero
		w = math.Inf(1)
	}
	return l.Slope - w, l.Slope + w
}

// SlopeTest returns the one-sided probability of such a slope or a steeper one if
// there is none (Student's t). extra is the standard deviation that the slope
// has from elsewhere, such as an adjustment of y; 0 if none.
func (l Line) SlopeTest(extra float64) float64 {
	se := math.Hypot(l.SE, extra)
	if se == 0 {
		if l.Slope > 0 {
			return 0
		}
		return 1
	}
	return StudentTail(l.Slope/se, float64(l.N-2))
}
