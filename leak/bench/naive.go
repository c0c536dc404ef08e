package bench

import (
	"math"
	"time"

	"holdfast/leak"
)

// Naive are detectors that others use, for comparison on the same series. They
// see the resident set, by block, of one process from its start.
type Naive struct {
	rss []float64
}

const (
	blocksPerHour = int(time.Hour / leak.BlockTime)
	naiveBlocks   = 24 * blocksPerHour // their window, a day
	naiveMedians  = 12
)

// Add takes a block and reports which of the three would alarm now: Mann-Kendall
// on the raw values (p < 0.05), least squares with R² > 0.8 and a positive slope
// (the linear backward regression of Precog's comparison), and Mann-Kendall on
// 12 block medians (p < 0.001).
func (n *Naive) Add(b leak.Block) (raw, ols, blocks bool) {
	if math.IsNaN(b.RSS) {
		return
	}
	if len(n.rss) == naiveBlocks {
		n.rss = append(n.rss[:0], n.rss[1:]...)
	}
	n.rss = append(n.rss, b.RSS)
	if len(n.rss) < naiveBlocks || (b.Number+1)%int64(blocksPerHour) != 0 {
		return
	}
	_, p := leak.MannKendall(n.rss)
	raw = p < 0.05
	x := make([]float64, naiveBlocks)
	for i := range x {
		x[i] = float64(i)
	}
	l := leak.FitLine(x, n.rss)
	ols = l.R2 > 0.8 && l.Slope > 0
	_, p = leak.MannKendall(leak.BlockQuantiles(n.rss, naiveMedians, 0.5))
	blocks = p < 0.001
	return raw, ols, blocks
}
