package bench

import (
	"math"
	"math/rand/v2"

	"holdfast/leak"
)

// Interval is 95 % of confidence.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

const (
	tail      = 0.025 // on either side of an interval
	resamples = 2000
)

// part is what one run adds to a share: hits of so many. Gateways of one run have
// the same fault and stations, so that runs are what is drawn from, not gateways.
type part struct{ hits, of int }

// shareInterval is that of a share over runs, by drawing as many runs with
// replacement. Where every run says the same there is nothing to draw: the interval
// is then the exact one for as many runs.
func shareInterval(parts []part) Interval {
	var sum part
	var runs []part
	for _, p := range parts {
		if p.of > 0 {
			runs = append(runs, p)
			sum.hits, sum.of = sum.hits+p.hits, sum.of+p.of
		}
	}
	n := float64(len(runs))
	switch {
	case n == 0:
		return Interval{0, 1}
	case sum.hits == 0:
		return Interval{0, 1 - math.Pow(tail, 1/n)}
	case sum.hits == sum.of:
		return Interval{math.Pow(tail, 1/n), 1}
	}
	return drawn(len(runs), func(pick func() int) float64 {
		var s part
		for range runs {
			p := runs[pick()]
			s.hits, s.of = s.hits+p.hits, s.of+p.of
		}
		return share(s.hits, s.of)
	})
}

// medianInterval is that of the median of the values of all runs.
func medianInterval(runs [][]float64) Interval {
	return drawn(len(runs), func(pick func() int) float64 {
		var list []float64
		for range runs {
			list = append(list, runs[pick()]...)
		}
		return leak.Median(list)
	})
}

// drawn is the interval of a figure over draws of n runs, the same ones each time.
func drawn(n int, figure func(pick func() int) float64) Interval {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	list := make([]float64, resamples)
	for i := range list {
		list[i] = figure(func() int { return r.IntN(n) })
	}
	return Interval{leak.Quantile(list, tail), leak.Quantile(list, 1-tail)}
}

// poissonInterval is the exact one of a mean of which events were counted.
func poissonInterval(events int) Interval {
	// atMost is the probability of so many events or fewer.
	atMost := func(n int, mean float64) float64 {
		term := math.Exp(-mean)
		sum := term
		for k := 1; k <= n; k++ {
			term *= mean / float64(k)
			sum += term
		}
		return sum
	}
	solve := func(n int, p float64) float64 { // atMost falls with the mean
		low, high := 0.0, 10+3*float64(n)
		for range 60 {
			if mid := (low + high) / 2; atMost(n, mid) > p {
				low = mid
			} else {
				high = mid
			}
		}
		return low
	}
	in := Interval{High: solve(events, tail)}
	if events > 0 {
		in.Low = solve(events-1, 1-tail)
	}
	return in
}
