package leak

import (
	"math"
	"slices"
)

// maxPairs bounds the pairs of points that TheilSen looks at; of a longer series
// it takes every second, third … point.
const maxPairs = 200_000

// TheilSen returns the median of the slopes of all pairs of points, in units of
// y per unit of x, and the median intercept: up to 29 % of outliers do not move
// it. NaN if no two points have different x.
func TheilSen(x, y []float64) (slope, intercept float64) {
	slopes := pairSlopes(x, y)
	if len(slopes) == 0 {
		return math.NaN(), math.NaN()
	}
	slope = Median(slopes)
	rest := make([]float64, len(x))
	for i := range x {
		rest[i] = y[i] - slope*x[i]
	}
	return slope, Median(rest)
}

// TheilSenInterval returns the interval of the Theil-Sen slope with the given
// confidence (0.9: 5 % outside on either side), from the order statistics of the
// pair slopes (P. K. Sen 1968). The points must be independent of one another;
// for series of memory that holds between long blocks at best.
func TheilSenInterval(x, y []float64, confidence float64) (low, high float64) {
	slopes := pairSlopes(x, y)
	if len(slopes) == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	slices.Sort(slopes)
	n, m := float64(len(x)), float64(len(slopes))
	z := math.Sqrt2 * math.Erfinv(confidence)
	c := z * math.Sqrt(n*(n-1)*(2*n+5)/18) * m / (n * (n - 1) / 2)
	i, j := int(math.Floor((m-c)/2)), int(math.Ceil((m+c)/2))
	if i < 0 || j >= len(slopes) {
		return math.Inf(-1), math.Inf(1)
	}
	return slopes[i], slopes[j]
}

func pairSlopes(x, y []float64) []float64 {
	step := 1
	for n := len(x); n/step*(n/step-1)/2 > maxPairs; step++ {
	}
	slopes := make([]float64, 0, len(x)/step*(len(x)/step)/2+1)
	for i := 0; i < len(x); i += step {
		for j := i + step; j < len(x); j += step {
			if dx := x[j] - x[i]; dx != 0 {
				slopes = append(slopes, (y[j]-y[i])/dx)
			}
		}
	}
	return slopes
}
