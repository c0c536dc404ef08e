package leak

import "math"

// Step is the best single step in a series.
type Step struct {
	At    int     // index of the first value after it
	Size  float64 // mean after less mean before
	Share float64 // squared error of two levels over that of a straight line; below 1 the step explains more
}

// FitStep finds where two levels describe ys best, with at least two values on
// either side. Without a residual to compare Share is 1.
func FitStep(ys []float64) Step {
	best := Step{Share: 1}
	n := len(ys)
	if n < 5 {
		return best
	}
	line := FitLine(indices(n), ys)
	total, squares := 0.0, 0.0
	for _, y := range ys {
		total += y
		squares += y * y
	}
	lowest, left := math.Inf(1), ys[0]
	for k := 2; k <= n-2; k++ {
		left += ys[k-1]
		a, b := left/float64(k), (total-left)/float64(n-k)
		sse := squares - a*a*float64(k) - b*b*float64(n-k)
		if sse < lowest {
			lowest = sse
			best.At, best.Size = k, b-a
		}
	}
	if line.SSE > 1e-12*squares {
		best.Share = max(0, lowest) / line.SSE
	}
	return best
}

// Saturation is the best curve a + b*(1-exp(-t/tau)) through a series.
type Saturation struct {
	Tau   float64 // in units of x
	Rise  float64 // b: how much it will have grown in the end
	Share float64 // squared error over that of a straight line; below 1 saturation explains more
}

// FitSaturation fits growth that comes to an end, with tau between a tenth of the
// range of x and all of it. x must ascend. Without a residual to compare Share
// is 1.
func FitSaturation(x, y []float64) Saturation {
	best := Saturation{Share: 1}
	if len(x) < 5 {
		return best
	}
	line := FitLine(x, y)
	squares := 0.0
	for _, v := range y {
		squares += v * v
	}
	if line.SSE <= 1e-12*squares {
		return best
	}
	span := x[len(x)-1] - x[0]
	curve := make([]float64, len(x))
	lowest := math.Inf(1)
	for _, share := range []float64{0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1} {
		tau := share * span
		for i := range x {
			curve[i] = 1 - math.Exp(-(x[i]-x[0])/tau)
		}
		if fit := FitLine(curve, y); fit.SSE < lowest {
			lowest = fit.SSE
			best = Saturation{Tau: tau, Rise: fit.Slope, Share: fit.SSE / line.SSE}
		}
	}
	return best
}

func indices(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i)
	}
	return x
}
