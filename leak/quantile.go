package leak

import (
	"math"
	"slices"
)

// Quantile returns the q-quantile (0 to 1) of xs, interpolated between
// neighbours; NaN if xs is empty. It leaves xs as it is.
func Quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Clone(xs)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// Median returns the median of xs; NaN if xs is empty.
func Median(xs []float64) float64 { return Quantile(xs, 0.5) }

// normalMAD makes a median absolute deviation comparable with the standard
// deviation of normal noise.
const normalMAD = 1.4826

// Spread returns a standard deviation that outliers do not move: 1.4826 times
// the median absolute deviation from the median. 0 for fewer than two values.
func Spread(xs []float64) float64 {
	if len(xs) < 2 {
		return 0
	}
	m := Median(xs)
	d := make([]float64, len(xs))
	for i, x := range xs {
		d[i] = math.Abs(x - m)
	}
	return normalMAD * Median(d)
}

// BlockQuantiles cuts xs into k blocks of nearly equal length and returns the
// q-quantile of each, NaN values left out. A block without values is NaN.
func BlockQuantiles(xs []float64, k int, q float64) []float64 {
	out := make([]float64, k)
	block := make([]float64, 0, len(xs)/max(k, 1)+1)
	for i := range out {
		block = block[:0]
		for _, x := range xs[i*len(xs)/k : (i+1)*len(xs)/k] {
			if !math.IsNaN(x) {
				block = append(block, x)
			}
		}
		out[i] = Quantile(block, q)
	}
	return out
}
