package leak

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// grownDetector has seen so many hours.
func grownDetector(hours float64) *Detector {
	d := NewDetector(DetectorConfig{Process: "gateway/a"})
	feed(d, 0, hours, func(float64, *Sample) {})
	return d
}

// held is how many bytes of heap each of n things keeps.
func held[T any](n int, thing func(int) T) uint64 {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	list := make([]T, n)
	for i := range list {
		list[i] = thing(i)
	}
	after := live()
	runtime.KeepAlive(list)
	return (max(after, before) - before) / uint64(n)
}

// The promise is 200 bytes per connection; a gateway of 10,000 has 2 MB for it.
// The census, which adds to that while connections close, is in ws.
func TestSizes(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector adds its own")
	}
	detector := held(4, func(int) *Detector { return grownDetector(80) })
	const gateways = 10
	compared := held(1, func(int) *Contrast { return grownContrast(gateways) }) / gateways
	t.Logf("a detector after 80 hours: %d bytes; a process that is compared: %d bytes", detector, compared)
	if detector < 30<<10 || detector > 120<<10 || compared < 4<<10 || compared > 20<<10 {
		t.Errorf("a detector holds %d bytes, a process that is compared %d", detector, compared)
	}
}

// grownContrast has compared so many gateways for as long as it remembers.
func grownContrast(gateways int) *Contrast {
	c := NewContrast(nil)
	for block := range (keptHours + 1) * perHour {
		for i := range gateways {
			r := Report{Process: fmt.Sprint("gateway/", i), Started: epoch, Known: make(map[Class]float64), Beta: make(map[Class]float64)}
			r.Number, r.Connections, r.RSS = blockNumber(epoch)+int64(block), 5000, 100<<20
			r.Opened = Opened{TLS: int64(block * i), MTLS: int64(block * (gateways - i))}
			for _, class := range classes {
				r.Known[class], r.Beta[class] = float64(40<<20+(i*block*7919)%1000), 10
			}
			c.Add(r)
		}
	}
	return c
}

// BenchmarkAdd is one sample of a detector that has seen three days, of 20 in a
// block; every 120th is followed by the hourly check.
func BenchmarkAdd(b *testing.B) {
	d := grownDetector(80)
	s := Sample{Time: epoch.Add(80 * time.Hour), Connections: 5000, RSS: 100 << 20, Values: Values{40 << 20, 4 << 20, 5 << 20, 1 << 20, 1 << 10, 60, 12, 5030, 0}}
	b.ReportAllocs()
	for b.Loop() {
		s.Time = s.Time.Add(30 * time.Second)
		d.Add(s)
	}
}

// BenchmarkCheck is the hourly check of all classes over all windows.
func BenchmarkCheck(b *testing.B) {
	d := grownDetector(80)
	b.ReportAllocs()
	for b.Loop() {
		d.check(epoch.Add(80 * time.Hour))
	}
}

// BenchmarkCompare is the hourly comparison of 20 gateways.
func BenchmarkCompare(b *testing.B) {
	c := grownContrast(20)
	b.ReportAllocs()
	for b.Loop() {
		c.check(c.checked-1, epoch.Add(keptHours*time.Hour))
	}
}
