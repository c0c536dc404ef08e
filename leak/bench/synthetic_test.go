package bench

import (
	"testing"
)

// The long table is `holdfast leak bench --synthetic`; this one keeps the
// detector from getting worse.
func TestSyntheticSeries(t *testing.T) {
	cfg := SyntheticConfig{Seeds: 2, First: 1, Rates: []float64{0.2, 1}}
	if raceEnabled { // the arithmetic takes ten times as long: look for races alone
		cfg = SyntheticConfig{Seeds: 1, First: 1, Hours: 10, Rates: []float64{1}, Fleets: 1}
	}
	rep, err := RunSynthetic(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c := rep.Detector; c.TruePositive+c.FalsePositive+c.TrueNegative+c.FalseNegative != cfg.Seeds*(len(rep.Healthy)+len(rep.Leaking)) {
		t.Errorf("%+v of %d and %d cases", c, len(rep.Healthy), len(rep.Leaking))
	}
	if raceEnabled {
		return
	}
	for _, h := range rep.Healthy {
		t.Logf("%-28s alarms %d, raw MK %d, OLS %d, block MK %d of %d", h.Scenario, h.Alarms, h.RawMK, h.OLS, h.BlockMK, h.Runs)
	}
	for _, l := range rep.Leaking {
		t.Logf("%-12s bursty %-5v %.1f %%/h: found %d, class right %d of %d, delays %.0f", l.Class, l.Bursty, l.Rate, l.Found, l.Right, l.Runs, l.Delays)
	}
	covered := 0
	for _, l := range rep.Leaking {
		covered += l.Covered
	}
	t.Logf("the first forecast's interval held the truth in %d of %d", covered, rep.ClassHit)
	if float64(covered) < 0.8*float64(rep.ClassHit) {
		t.Errorf("the intervals of 90 %% hold the truth in %d of %d", covered, rep.ClassHit)
	}
	d := rep.Detector
	t.Logf("precision %.3f recall %.3f F1 %.3f, class right %d of %d, %d alarms in %.0f pod-days",
		d.Precision(), d.Recall(), d.F1(), rep.ClassHit, d.TruePositive, rep.Alarms, rep.PodDays)
	t.Logf("raw MK F1 %.3f, OLS F1 %.3f, block MK F1 %.3f", rep.RawMK.F1(), rep.OLS.F1(), rep.BlockMK.F1())
	if d.Precision() < 0.97 || d.Recall() < 0.95 {
		t.Errorf("precision %.3f, recall %.3f", d.Precision(), d.Recall())
	}
	if best := max(rep.RawMK.F1(), rep.OLS.F1(), rep.BlockMK.F1()); d.F1() < best+0.05 {
		t.Errorf("F1 %.3f, another detector has %.3f", d.F1(), best)
	}
}

// Caches whose last part fills so unevenly that the slope is anybody's guess.
func TestUnsureGrowth(t *testing.T) {
	if raceEnabled {
		t.Skip("arithmetic without goroutines")
	}
	for _, seed := range []uint64{906, 911, 916} {
		if o := simulate(Synthetic{Seed: seed, Scenario: WarmUp}, 60); o.verdict != nil {
			t.Errorf("seed %d after %.0f h: %s", seed, o.hoursAfter, o.verdict)
		}
	}
}
