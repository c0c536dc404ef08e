package bench

import (
	"runtime"

	"holdfast/leak"
)

// sizeConnections are those of a gateway that a detector's memory is divided by.
const sizeConnections = 10_000

// bytesPerConnection is what a detector holds that has seen the longest series of
// all runs, for each of 10,000 connections: its size does not depend on them.
func bytesPerConnection(runs []Run) float64 {
	var series []leak.Report
	for _, r := range runs {
		for _, g := range r.Gateways {
			if len(g.series) > len(series) {
				series = g.series
			}
		}
	}
	if len(series) == 0 {
		return 0
	}
	live := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	const copies = 8
	before := live()
	var list [copies]*leak.Detector
	for i := range list {
		list[i] = leak.NewDetector(leak.DetectorConfig{Process: series[0].Process, Start: series[0].Started})
		for _, b := range series {
			s := sampleOf(b)
			for at := s.Time; at.Before(s.Time.Add(leak.BlockTime)); at = at.Add(leak.SampleInterval) {
				again := s
				again.Time = at
				list[i].Add(again)
			}
		}
	}
	after := live()
	runtime.KeepAlive(list)
	return max(0, after-before) / copies / sizeConnections
}
