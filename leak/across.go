package leak

import "math"

// hold than one with the other kind only.
func contrast(rs [][]float64, shares []float64, sign float64) []float64 {
	out := make([]float64, len(rs[0]))
	for t := range out {
		mean, n := 0.0, 0.0
		for i := range rs {
			if !math.IsNaN(rs[i][t]) {
				mean, n = mean+shares[i], n+1
			}
		}
		mean /= n
		sxx, sum := 0.0, 0.0
		for i, r := range rs {
			if !math.IsNaN(r[t]) {
				d := shares[i] - mean
				sxx += d * d
				// Each process counts from its own level: who is missing for an hour must
				// not shift the others.
				sum += d * (r[t] - Median(known(r)))
			}
		}
		out[t] = sign * sum / sxx
		if n < 2 || sxx == 0 {
			out[t] = math.NaN()
		}
	}
	return out
}

func mean(rs [][]float64) []float64 {
	out := make([]float64, len(rs[0]))
	for t := range out {
		n := 0.0
		for _, r := range rs {
			if !math.IsNaN(r[t]) {
				out[t] += r[t] - Median(known(r))
				n++
			}
		}
		out[t] /= n
	}
	return out
}

func known(xs []float64) []float64 {
	out := make([]float64, 0, len(xs))
	for _, x := range xs {
		if !math.IsNaN(x) {
			out = append(out, x)
		}
	}
	return out
}
