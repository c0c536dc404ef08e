package main

import (
	"math"
	"math/rand/v2"
	"testing"
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
