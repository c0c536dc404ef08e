package hunt

import (
	"math"

	"holdfast/leak"
)

// Effect is what one event adds to a quantity: bytes, or a count.
type Effect struct {
	Value float64 `json:"value"` // per event
	Low   float64 `json:"low"`   // 95 % confidence interval
	High  float64 `json:"high"`
	// P is the one-sided probability of so large an effect if there is none.
	P float64 `json:"p"`
	// Blocks is how many blocks of the experiment had such events.
	Blocks int `json:"blocks"`
}

// Upper is what an event keeps at most. An event cannot keep less than nothing: an
// effect below it is noise, or memory that others had left, and the bound is no
// smaller than half of the interval.
func (e Effect) Upper() float64 { return max(e.High, e.High-e.Value) }

const (
	effectConfidence = 0.95
	effectRounds     = 30
	// huberTuning is where Huber's loss turns from square to linear, in standard
	// deviations: 95 % efficient for normal noise.
	huberTuning = 1.345
	// exact is the share of the largest growth below which residuals are rounding.
	exact = 1e-9
)

// FitEffects regresses growth on numbers of events: row i of events tells how
// many of each kind there were while the quantity grew by growth[i]. Huber's
// loss keeps a few jumps from deciding. The standard errors are those of White
// (HC3), so that kinds of events may differ in noise; their degrees of freedom
// are those of the kind, its blocks less one, not those of all blocks.
//
// A kind without events, or one that always comes with another in the same
// proportion, has the effect 0 with an infinite interval.
func FitEffects(events [][]float64, growth []float64) []Effect {
	if len(events) == 0 {
		return nil
	}
	kinds := len(events[0])
	// Events are scaled per kind, so that thousands of messages and ten storms
	// fit one matrix.
	scale, blocks := make([]float64, kinds), make([]int, kinds)
	for _, row := range events {
		for k, n := range row {
			if n != 0 {
				blocks[k]++
				scale[k] = max(scale[k], math.Abs(n))
			}
		}
	}
	x := make([][]float64, len(events))
	for i, row := range events {
		x[i] = make([]float64, kinds)
		for k := range row {
			if scale[k] > 0 {
				x[i][k] = row[k] / scale[k]
			}
		}
	}
	largest := 0.0
	for _, y := range growth {
		largest = max(largest, math.Abs(y))
	}
	weights := make([]float64, len(x))
	for i := range weights {
		weights[i] = 1
	}
	var beta, residuals []float64
	var inverse [][]float64
	for range effectRounds {
		var next []float64
		next, inverse = leastSquares(x, growth, weights)
		residuals = make([]float64, len(x))
		for i := range x {
			residuals[i] = growth[i] - dot(x[i], next)
		}
		done := beta != nil
		for k := range next {
			done = done && math.Abs(next[k]-beta[k]) <= 1e-9*math.Abs(next[k])
		}
		beta = next
		spread := leak.Spread(residuals)
		// Most blocks fit exactly, as counts do: the others are no outliers of a
		// distribution, they are all that is known of their kind.
		if done || spread <= exact*largest {
			break
		}
		for i, r := range residuals {
			weights[i] = min(1, huberTuning*spread/max(math.Abs(r), 1e-300))
		}
	}
	effects := make([]Effect, kinds)
	for k := range effects {
		e := Effect{Blocks: blocks[k], Low: math.Inf(-1), High: math.Inf(1), P: 0.5}
		if df := float64(blocks[k] - 1); df > 0 && inverse[k][k] > 0 {
			se := whiteError(x, residuals, weights, inverse, k) / scale[k]
			e.Value = beta[k] / scale[k]
			half := leak.StudentQuantile((1-effectConfidence)/2, df) * se
			e.Low, e.High = e.Value-half, e.Value+half
			switch {
			case se > 0:
				e.P = leak.StudentTail(e.Value/se, df)
			case e.Value > 0:
				e.P = 0
			default:
				e.P = 1
			}
		}
		effects[k] = e
	}
	return effects
}

// whiteError is the HC3 standard error of coefficient k of a weighted fit.
func whiteError(x [][]float64, residuals, weights []float64, inverse [][]float64, k int) float64 {
	variance := 0.0
	for i, row := range x {
		leverage := 0.0
		for a := range row {
			leverage += row[a] * dot(inverse[a], row) * weights[i]
		}
		r := residuals[i] / max(1-leverage, 0.05)
		g := dot(inverse[k], row) * weights[i] * r
		variance += g * g
	}
	return math.Sqrt(variance)
}

// leastSquares solves the weighted normal equations and returns the inverse of
// their matrix as well. Columns that carry nothing of their own get 0 in both.
func leastSquares(x [][]float64, y, weights []float64) (beta []float64, inverse [][]float64) {
	n := len(x[0])
	// [X'WX | I], reduced in place.
	m := make([][]float64, n)
	right := make([]float64, n)
	for a := range m {
		m[a] = make([]float64, 2*n)
		m[a][n+a] = 1
		for i, row := range x {
			right[a] += weights[i] * row[a] * y[i]
			for b := range row {
				m[a][b] += weights[i] * row[a] * row[b]
			}
		}
	}
	dead := make([]bool, n)
	for a := range m {
		if m[a][a] < 1e-9 {
			dead[a] = true
			continue
		}
		pivot := m[a][a]
		for b := range m[a] {
			m[a][b] /= pivot
		}
		for o := range m {
			if factor := m[o][a]; o != a && factor != 0 {
				for b := range m[o] {
					m[o][b] -= factor * m[a][b]
				}
			}
		}
	}
	beta, inverse = make([]float64, n), make([][]float64, n)
	for a := range m {
		inverse[a] = make([]float64, n)
		for b := range n {
			if !dead[a] && !dead[b] {
				inverse[a][b] = m[a][n+b]
			}
		}
		beta[a] = dot(inverse[a], right)
	}
	return beta, inverse
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}
