package bench

import (
	"math"
	"time"

	"holdfast/leak"
)

// replay runs detectors and the comparison over blocks that processes told
// before, series by series of one length, and calls hear with every verdict that
// is new or changed, as a csms records it. What a block does not hold is not
// replayed: the memory limit, and whose the retained connections are.
func replay(start time.Time, series [][]leak.Report, hear func(leak.Verdict)) {
	contrast := leak.NewContrast(nil)
	detectors := make([]*leak.Detector, len(series))
	longest := 0
	for i, s := range series {
		longest = max(longest, len(s))
		if len(s) > 0 {
			detectors[i] = leak.NewDetector(leak.DetectorConfig{Process: s[0].Process, Start: start})
		}
	}
	for k := range longest + 1 { // a block ends with the sample after it
		for i, s := range series {
			if detectors[i] == nil || k > len(s) {
				continue
			}
			sample := leak.Sample{Time: s[len(s)-1].Time()}
			if k < len(s) {
				sample = sampleOf(s[k])
			}
			verdicts, block := detectors[i].Add(sample)
			if block != nil {
				for _, v := range contrast.Add(detectors[i].Report(*block)) {
					hear(v)
				}
			}
			for _, v := range verdicts {
				hear(contrast.Hear(v))
			}
		}
	}
}

// sampleOf is a sample that makes a block like this.
func sampleOf(r leak.Report) leak.Sample {
	s := leak.Sample{Time: r.Time().Add(-leak.BlockTime), Connections: int(r.Connections), Opened: r.Opened, RSS: int64(r.RSS)}
	for i, c := range leak.Classes() {
		v, ok := r.Known[c]
		if !ok {
			v = math.NaN()
		}
		s.Values[i] = v
	}
	return s
}
