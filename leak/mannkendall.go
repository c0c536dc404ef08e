package leak

import "math"

// exactKendall is up to which length the null distribution is computed
// exactly; longer series use the normal approximation with continuity
// correction, whose error is below 1e-6 in absolute terms there.
const exactKendall = 60

// MannKendall tests for an upward trend: s is the number of pairs that rise
// less those that fall, p the one-sided probability of such an s or a larger one
// if the order of the values means nothing (H. B. Mann 1945). Pairs of equal
// values count nothing, which makes p larger than it could be, never smaller.
//
// The values must be exchangeable under "no trend". Samples of memory every few
// seconds are not: they follow one another, and the test alarms on every healthy
// process. Medians of long blocks are, nearly.
func MannKendall(xs []float64) (s int, p float64) {
	n := len(xs)
	for i := range xs {
		for j := i + 1; j < n; j++ {
			switch {
			case xs[j] > xs[i]:
				s++
			case xs[j] < xs[i]:
				s--
			}
		}
	}
	return s, KendallTail(n, s)
}

// KendallTail returns P(S >= s) for the Mann-Kendall statistic S of n
// exchangeable values without ties: exact for n up to 60.
func KendallTail(n, s int) float64 {
	pairs := n * (n - 1) / 2
	if s <= -pairs {
		return 1
	}
	if s > pairs {
		return 0
	}
	if n > exactKendall {
		variance := float64(n) * float64(n-1) * float64(2*n+5) / 18
		return normalTail((float64(s) - 1) / math.Sqrt(variance))
	}
	// S = pairs - 2*inversions, and the inversions of a random order of m values
	// are those of m-1 values plus a uniform number from 0 to m-1.
	density := []float64{1}
	for m := 2; m <= n; m++ {
		next := make([]float64, m*(m-1)/2+1)
		sum := 0.0
		for k := range next {
			if k < len(density) {
				sum += density[k]
			}
			if k >= m {
				sum -= density[k-m]
			}
			next[k] = max(0, sum) / float64(m)
		}
		density = next
	}
	// The sum of the smaller half is free of cancellation.
	limit := (pairs - s) / 2
	tail := 0.0
	for k := 0; k <= limit && k < len(density); k++ {
		tail += density[k]
	}
	return min(1, tail)
}

// normalTail is P(Z >= z).
func normalTail(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }
