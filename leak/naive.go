package leak

import "math"

// Naive are detectors that others use, for comparison on the same series. They
// see the resident set, by block, of one process from its start.
type Naive struct {
	rss []float64
}

// naiveHours is their window.
const naiveHours = 24

// Add takes a block and reports which of the three would alarm now: Mann-Kendall
// on the raw values (p < 0.05), least squares with R² > 0.8 and a positive slope
// (the linear backward regression of Precog's comparison), and Mann-Kendall on
// 12 block medians (p < 0.001).
func (n *Naive) Add(b Block) (raw, ols, blocks bool) {
	if math.IsNaN(b.RSS) {
		return
	}
	if len(n.rss) == naiveHours*perHour {
		n.rss = append(n.rss[:0], n.rss[1:]...)
	}
	n.rss = append(n.rss, b.RSS)
	if len(n.rss) < naiveHours*perHour || (b.Number+1)%int64(perHour) != 0 {
		return
	}
	_, p := MannKendall(n.rss)
	raw = p < 0.05
	l := FitLine(indices(len(n.rss)), n.rss)
	ols = l.R2 > 0.8 && l.Slope > 0
	_, p = MannKendall(BlockQuantiles(n.rss, testBlocks, 0.5))
	blocks = p < 0.001
	return raw, ols, blocks
}
