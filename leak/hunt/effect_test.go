package hunt

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestFitEffectsKnown recovers effects that are known, exactly without noise and
// from blocks of several kinds of events.
func TestFitEffectsKnown(t *testing.T) {
	events := [][]float64{{100, 0}, {0, 5000}, {50, 0}, {0, 10000}, {80, 2000}, {20, 100}}
	growth := make([]float64, len(events))
	for i, e := range events {
		growth[i] = 3400*e[0] + 2*e[1]
	}
	got := FitEffects(events, growth)
	for k, want := range []float64{3400, 2} {
		if e := got[k]; math.Abs(e.Value-want) > 1e-6*want || e.Low > want*(1+1e-9) || e.High < want*(1-1e-9) || e.P > 1e-6 {
			t.Errorf("kind %d: %+v, want %g", k, e, want)
		}
	}
}

// TestFitEffectsJump has one block with a jump of a hundred times its growth.
func TestFitEffectsJump(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var events [][]float64
	var growth []float64
	for i := range 20 {
		row := []float64{0, 0}
		row[i%2] = 100
		events = append(events, row)
		growth = append(growth, 3000*row[0]+20000*random.NormFloat64())
	}
	growth[7] += 3e7
	got := FitEffects(events, growth)
	if e := got[0]; e.Value < 2700 || e.Value > 3300 || e.P > 1e-4 {
		t.Errorf("leaking kind: %+v, want 3,000", e)
	}
	if e := got[1]; e.P < 0.01 {
		t.Errorf("innocent kind with a jump: %+v", e)
	}
}

// TestFitEffectsIdentifiable: what cannot be known is not made up.
func TestFitEffectsIdentifiable(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events [][]float64
	}{
		{"no events of the second kind", [][]float64{{1, 0}, {2, 0}, {3, 0}}},
		{"always together", [][]float64{{1, 2}, {2, 4}, {3, 6}}},
	} {
		growth := []float64{10, 20, 30}
		if e := FitEffects(tt.events, growth)[1]; e.Value != 0 || !math.IsInf(e.High, 1) || e.P != 0.5 {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
	if got := FitEffects(nil, nil); got != nil {
		t.Errorf("nothing measured: %v", got)
	}
}

// TestFitEffectsCoverage: with noise of the kind that settled readings have (of
// the level, so that neighbouring differences are not independent, and jumps)
// the intervals hold the truth as often as they say, and an innocent kind is
// rarely suspected.
func TestFitEffectsCoverage(t *testing.T) {
	const (
		runs   = 600
		kinds  = 5
		rounds = 10
		truth  = 2000.0
	)
	random := rand.New(rand.NewPCG(3, 4))
	held, suspected, innocents := 0, 0, 0
	for range runs {
		var events [][]float64
		var growth []float64
		level := 300e3 * random.NormFloat64()
		for range rounds {
			for _, k := range random.Perm(kinds) {
				n := 300 + 100*random.Float64()
				row := make([]float64, kinds)
				row[k] = n
				next := 300e3 * random.NormFloat64()
				g := next - level + 100e3*random.NormFloat64()
				level = next
				if k == 0 {
					g += truth * n
				}
				if random.Float64() < 0.03 {
					g += 2e6 * random.NormFloat64()
				}
				events, growth = append(events, row), append(growth, g)
			}
		}
		for k, e := range FitEffects(events, growth) {
			if k == 0 {
				if e.Low <= truth && truth <= e.High {
					held++
				}
				continue
			}
			innocents++
			if e.P < suspectP {
				suspected++
			}
		}
	}
	if share := float64(held) / runs; share < 0.93 {
		t.Errorf("the 95 %% interval held the truth in %.3f of the runs", share)
	}
	if share := float64(suspected) / float64(innocents); share > 2*suspectP {
		t.Errorf("%.4f of innocent kinds were suspected, want about %g", share, suspectP)
	}
	t.Logf("interval held in %d of %d, suspected %d of %d innocent", held, runs, suspected, innocents)
}

// TestFitEffectsExact: counts fit exactly in most blocks. A kind of events whose
// blocks alone differ keeps its effect, and its interval.
func TestFitEffectsExact(t *testing.T) {
	var events [][]float64
	var growth []float64
	for i := range 8 {
		// A storm of ten events of the first kind follows each block.
		n := 37 + 3.7*float64(i)
		events = append(events, []float64{10 + n, 0, 0}, []float64{10, n, 0}, []float64{10, 0, n / 7})
		growth = append(growth, 0, 0, float64(i%3)-1)
	}
	effects := FitEffects(events, growth)
	if e := effects[2]; math.IsInf(e.High, 1) || e.High <= 0 || e.Low >= 0 {
		t.Errorf("%+v, want an interval around 0", e)
	}
	for _, e := range effects[:2] {
		if math.IsInf(e.High, 1) || e.High > 0.01 {
			t.Errorf("%+v, want about 0", e)
		}
	}
}
