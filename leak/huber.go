package leak

import "math"

// Ratio is y per unit of x with its standard error.
type Ratio struct{ Value, SE float64 }

const (
	// huberTuning is where Huber's loss turns from square to linear, in standard
	// deviations: 95 % efficient for normal noise.
	huberTuning = 1.345
	huberRounds = 20
)

// HuberRatio regresses dy on dx through the origin with Huber's loss, so that a
// few jumps do not decide, and combines the result with a prior: each counts by
// the inverse of its variance. A prior with SE 0 is certain and returned as it
// is; one with an infinite SE counts nothing.
//
// To find bytes per connection give it differences of both over an hour: a fit
// of levels would let the connections explain a trend that only runs beside
// them.
func HuberRatio(dx, dy []float64, prior Ratio) Ratio {
	if prior.SE == 0 {
		return prior
	}
	sxx, sxy := 0.0, 0.0
	for i := range dx {
		sxx += dx[i] * dx[i]
		sxy += dx[i] * dy[i]
	}
	if sxx == 0 || len(dx) < 3 {
		return prior
	}
	b := sxy / sxx
	residuals := make([]float64, len(dx))
	scale := 0.0
	for range huberRounds {
		for i := range dx {
			residuals[i] = dy[i] - b*dx[i]
		}
		scale = Spread(residuals)
		if scale == 0 {
			break
		}
		swxx, swxy := 0.0, 0.0
		for i, r := range residuals {
			w := min(1, huberTuning*scale/max(math.Abs(r), 1e-300))
			swxx += w * dx[i] * dx[i]
			swxy += w * dx[i] * dy[i]
		}
		if swxx == 0 {
			break
		}
		next := swxy / swxx
		if math.Abs(next-b) <= 1e-9*math.Abs(b) {
			b = next
			break
		}
		b = next
	}
	return combine(Ratio{b, scale / math.Sqrt(sxx)}, prior)
}

// combine weighs two estimates of the same ratio by the inverse of their
// variances.
func combine(a, b Ratio) Ratio {
	switch {
	case math.IsInf(b.SE, 1) || a.SE == 0:
		return a
	case math.IsInf(a.SE, 1) || b.SE == 0:
		return b
	}
	wa, wb := 1/(a.SE*a.SE), 1/(b.SE*b.SE)
	return Ratio{(wa*a.Value + wb*b.Value) / (wa + wb), math.Sqrt(1 / (wa + wb))}
}
