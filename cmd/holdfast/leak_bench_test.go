package main

import (
	"math"
	"math/rand/v2"
	"testing"

	"holdfast/leak/bench"
)

func TestPoisson(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sum := 0
	for range 10_000 {
		sum += poisson(r, 3)
	}
	if mean := float64(sum) / 10_000; math.Abs(mean-3) > 0.1 {
		t.Errorf("mean %v, want 3", mean)
	}
	if n := poisson(r, 0); n != 0 {
		t.Errorf("of nothing came %d", n)
	}
}

// The largest gateway of all has stations enough on its busiest day.
func TestBenchStationsAreEnough(t *testing.T) {
	c := &leakBench{Stations: 60}
	s := &benchStations{kind: bench.LoadRamp, mean: 1.15 * 60, swing: 0.25}
	for h := range 120 {
		if n := 1.04 * s.connections(float64(h)); n > float64(c.ownStations()) {
			t.Fatalf("%.0f connections at hour %d, %d stations", n, h, c.ownStations())
		}
	}
}
