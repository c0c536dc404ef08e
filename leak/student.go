package leak

import "math"

// StudentTail returns P(T >= t) for Student's t with df degrees of freedom.
// With df <= 0 nothing is known: it is 0.5 then.
func StudentTail(t, df float64) float64 {
	switch {
	case df <= 0 || math.IsNaN(t):
		return 0.5
	case math.IsInf(t, 1):
		return 0
	case math.IsInf(t, -1):
		return 1
	}
	tail := regularBeta(df/(df+t*t), df/2, 0.5) / 2
	if t < 0 {
		return 1 - tail
	}
	return tail
}

// StudentQuantile returns the t with P(T >= t) = tail, for a tail between 0 and
// 0.5 and df > 0: with tail 0.05, half the width of a 90 % interval in standard
// errors.
func StudentQuantile(tail, df float64) float64 {
	if tail >= 0.5 {
		return 0
	}
	if tail <= 0 || df <= 0 {
		return math.Inf(1)
	}
	low, high := 0.0, 1.0
	for StudentTail(high, df) > tail {
		high *= 2
		if high > 1e12 {
			return high
		}
	}
	for range 80 {
		mid := (low + high) / 2
		if StudentTail(mid, df) > tail {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2
}

// regularBeta is the regularized incomplete beta function I_x(a, b), by its
// continued fraction with Lentz's method.
func regularBeta(x, a, b float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	if x > (a+1)/(a+b+2) { // the fraction converges fast below this
		return 1 - regularBeta(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	const tiny, enough = 1e-300, 1e-15
	nonzero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/nonzero(1-(a+b)*x/(a+1))
	f := d
	for m := 1.0; m < 500; m++ {
		num := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / nonzero(1+num*d)
		c = nonzero(1 + num/c)
		f *= c * d
		num = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / nonzero(1+num*d)
		c = nonzero(1 + num/c)
		f *= c * d
		if math.Abs(c*d-1) < enough {
			break
		}
	}
	return front * f
}
