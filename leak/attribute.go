package leak

import "math"

// Attribution is what one new connection of either kind adds to a class, by the
// growth of several processes.
type Attribution struct {
	MTLS   Ratio  // bytes (or things) per connection with a client certificate
	TLS    Ratio  // per connection without
	Cohort Cohort // what that means
	// Skew is how different the processes' shares of mutual TLS are, as a standard
	// deviation: 0 when all are alike, 0.5 when each has one kind only.
	Skew float64
}

// growth is how much a class of one process grew, with its standard error, and
// the connections that were opened meanwhile.
type growth struct {
	amount Ratio
	opened Opened
}

const (
	// clearTimes standard errors make a difference clear.
	clearTimes = 2.1
	// leastSkew of the shares is needed: below it the difference between processes
	// is that of chance, and what it seems to say as well.
	leastSkew = 0.08
	// scatterFrom is the number of processes from which their scatter around the
	// fit is the error: it holds whatever is wrong with each one's own.
	scatterFrom = 5
	// surePart is the largest error, as a part of the estimate, with which a
	// cohort is named.
	surePart = 0.25
)

// attribute explains the growth of processes by their new connections: amount =
// a*MTLS + b*TLS by least squares. With two processes the errors are theirs, with
// three and four also the scatter around the fit, if that is larger, and with
// more the scatter alone. One process cannot be compared: its cohort is unknown.
func attribute(list []growth) Attribution {
	at := Attribution{MTLS: Ratio{0, math.Inf(1)}, TLS: Ratio{0, math.Inf(1)}}
	if len(list) < 2 {
		return at
	}
	at.Cohort = CohortUndetermined
	shares := make([]float64, 0, len(list))
	var mm, mt, tt, my, ty float64
	for _, g := range list {
		m, t := float64(g.opened.MTLS), float64(g.opened.TLS)
		if m+t > 0 {
			shares = append(shares, m/(m+t))
		}
		mm, mt, tt = mm+m*m, mt+m*t, tt+t*t
		my, ty = my+m*g.amount.Value, ty+t*g.amount.Value
	}
	at.Skew = deviation(shares)
	det := mm*tt - mt*mt
	if at.Skew < leastSkew || det <= 1e-9*mm*tt || mm == 0 || tt == 0 {
		return at
	}
	a, b := (tt*my-mt*ty)/det, (mm*ty-mt*my)/det
	sse, va, vb := 0.0, 0.0, 0.0
	for _, g := range list {
		m, t := float64(g.opened.MTLS), float64(g.opened.TLS)
		rest := g.amount.Value - a*m - b*t
		sse += rest * rest
		ha, hb := (tt*m-mt*t)/det, (mm*t-mt*m)/det // what this growth does to a and b
		va += ha * ha * g.amount.SE * g.amount.SE
		vb += hb * hb * g.amount.SE * g.amount.SE
	}
	times := clearTimes
	if n := len(list); n > 2 {
		s2 := sse / float64(n-2)
		sa, sb := s2*tt/det, s2*mm/det
		if n < scatterFrom {
			va, vb = max(va, sa), max(vb, sb)
		} else {
			va, vb, times = sa, sb, StudentQuantile(0.025, float64(n-2))
		}
	}
	at.MTLS, at.TLS = Ratio{a, math.Sqrt(va)}, Ratio{b, math.Sqrt(vb)}
	switch {
	case a > 0 && at.MTLS.SE < surePart*a && b+times*at.TLS.SE < a/2:
		at.Cohort = CohortMTLS
	case b > 0 && at.TLS.SE < surePart*b && a+times*at.MTLS.SE < b/2:
		at.Cohort = CohortTLS
	case a > 0 && b > 0 && at.MTLS.SE < surePart*a && at.TLS.SE < surePart*b:
		at.Cohort = CohortBoth
	}
	return at
}

// deviation is the standard deviation of xs.
func deviation(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	mean, sum := 0.0, 0.0
	for _, x := range xs {
		mean += x / float64(len(xs))
	}
	for _, x := range xs {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum / float64(len(xs)))
}
