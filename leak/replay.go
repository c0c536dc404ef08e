package leak

import (
	"math"
	"time"
)

// Replay runs detectors and the comparison over blocks that processes told
// before, series by series of one length, and calls hear with every verdict that
// is new or changed, as a csms records it. What a block does not hold is not
// replayed: the memory limit, and whose the retained connections are.
func Replay(start time.Time, series [][]Report, hear func(Verdict)) {
	contrast := NewContrast(nil)
	monitors := make([]*Monitor, len(series))
	longest := 0
	for i, s := range series {
		longest = max(longest, len(s))
		if len(s) > 0 {
			monitors[i] = NewMonitor(MonitorConfig{Detector: DetectorConfig{Process: s[0].Process, Start: start}})
		}
	}
	for k := range longest + 1 { // a block ends with the sample after it
		for i, s := range series {
			if monitors[i] == nil || k > len(s) {
				continue
			}
			sample := Sample{Time: s[len(s)-1].Time()}
			if k < len(s) {
				sample = s[k].sample()
			}
			verdicts, block := monitors[i].detector.Add(sample)
			if block != nil {
				for _, v := range contrast.Add(monitors[i].report(*block)) {
					hear(v)
				}
			}
			for _, v := range verdicts {
				hear(contrast.Hear(v))
			}
		}
	}
}

// sample is one that makes a block like this.
func (r Report) sample() Sample {
	s := Sample{Time: r.Time().Add(-blockTime), Connections: int(r.Connections), Opened: r.Opened, RSS: int64(r.RSS)}
	for i, c := range classes {
		v, ok := r.Known[c]
		if !ok {
			v = math.NaN()
		}
		s.Values[i] = v
	}
	return s
}
