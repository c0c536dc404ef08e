package leak

import (
	"math"
	"time"
)

// maxBlockSamples bounds the samples of one block that are kept: one every five
// seconds. Of more, later ones replace earlier ones.
const maxBlockSamples = 120

// Block is ten minutes of a process: what a Detector tests, and what processes
// tell each other to compare themselves.
type Block struct {
	// Number of the block: Unix time divided by ten minutes.
	Number      int64   `json:"number"`
	Connections float64 `json:"connections"` // median
	RSS         float64 `json:"rss_bytes"`   // median
	Values      Values  `json:"-"`           // medians; low quantiles of high-water classes
	Opened      Opened  `json:"opened"`      // at the end of the block
}

// Time is the end of the block.
func (b Block) Time() time.Time { return time.Unix(0, (b.Number+1)*int64(BlockTime)) }

func blockNumber(t time.Time) int64 { return t.UnixNano() / int64(BlockTime) }

// gather collects the samples of the running block.
type gather struct {
	number      int64
	seen        int
	connections []float64
	rss         []float64
	values      [numClasses][]float64
	opened      Opened
}

func (g *gather) add(s Sample) {
	put := func(list *[]float64, v float64) {
		if len(*list) < maxBlockSamples {
			*list = append(*list, v)
		} else {
			(*list)[g.seen%maxBlockSamples] = v
		}
	}
	put(&g.connections, float64(s.Connections))
	put(&g.rss, float64(s.RSS))
	for i, v := range s.Values {
		put(&g.values[i], v)
	}
	g.opened = s.Opened
	g.seen++
}

// block condenses what was collected and starts anew.
func (g *gather) block() Block {
	b := Block{Number: g.number, Connections: Median(g.connections), RSS: Median(g.rss), Opened: g.opened}
	for i, list := range g.values {
		known := list[:0]
		for _, v := range list {
			if !math.IsNaN(v) {
				known = append(known, v)
			}
		}
		q := 0.5
		if classes[i].highWater() {
			q = 0.2
		}
		b.Values[i] = Quantile(known, q)
		g.values[i] = list[:0]
	}
	g.connections, g.rss, g.seen = g.connections[:0], g.rss[:0], 0
	return b
}

// series is the last keptBlocks blocks of a process without gaps in their
// numbers: what is missing is NaN.
type series struct {
	blocks []Block
}

// push appends a block. An older one than the last is ignored; so is a gap
// longer than what is kept, with everything before it.
func (s *series) push(b Block) bool {
	if n := len(s.blocks); n > 0 {
		last := s.blocks[n-1].Number
		if b.Number <= last {
			return false
		}
		if b.Number-last > int64(keptBlocks) {
			s.blocks = s.blocks[:0]
		}
		for m := last + 1; len(s.blocks) > 0 && m < b.Number; m++ {
			s.append(missingBlock(m, s.blocks[len(s.blocks)-1].Opened))
		}
	}
	s.append(b)
	return true
}

func (s *series) append(b Block) {
	if len(s.blocks) < keptBlocks {
		s.blocks = append(s.blocks, b)
		return
	}
	copy(s.blocks, s.blocks[1:])
	s.blocks[len(s.blocks)-1] = b
}

func missingBlock(number int64, o Opened) Block {
	b := Block{Number: number, Connections: math.NaN(), RSS: math.NaN(), Opened: o}
	for i := range b.Values {
		b.Values[i] = math.NaN()
	}
	return b
}

func (s *series) column(f func(Block) float64) []float64 {
	out := make([]float64, len(s.blocks))
	for i, b := range s.blocks {
		out[i] = f(b)
	}
	return out
}

// load is what a class is adjusted for: the connections, or for what the
// runtime never returns, the most that there were so far.
func (s *series) load(c Class) []float64 {
	n := s.column(func(b Block) float64 { return b.Connections })
	if c != Metadata {
		return n
	}
	highest := 0.0
	for i, v := range n {
		if v > highest {
			highest = v
		}
		if !math.IsNaN(v) {
			n[i] = highest
		}
	}
	return n
}

// perConnection estimates what one connection adds to a class, from
// differences over an hour and the prior.
func perConnection(load, y []float64, prior Ratio) Ratio {
	const step = perHour / 2
	var dx, dy []float64
	for i := perHour; i < len(y); i += step {
		x, v := load[i]-load[i-perHour], y[i]-y[i-perHour]
		if !math.IsNaN(x) && !math.IsNaN(v) {
			dx, dy = append(dx, x), append(dy, v)
		}
	}
	// Differences that overlap repeat one another: there are as many independent
	// ones as hours, half of them.
	own := HuberRatio(dx, dy, Ratio{0, math.Inf(1)})
	if math.IsInf(own.SE, 1) {
		return prior
	}
	own.SE *= math.Sqrt(float64(perHour) / float64(step))
	return combine(own, prior)
}

// adjusted is y less what the connections explain.
func adjusted(y, load []float64, beta float64) []float64 {
	r := make([]float64, len(y))
	for i := range y {
		r[i] = y[i] - beta*load[i]
	}
	return r
}
