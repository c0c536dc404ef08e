package faults

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/e2e"
)

func open(port string) bool {
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// TestFault06HandshakeStorm: 3,000 stations with client certificates at once, as
// after an outage: none fails that waits 30 seconds, and who was there before is
// answered meanwhile. On a machine that is busy with other things the storm is
// smaller: as many as it can serve in a fifth of that time.
func TestFault06HandshakeStorm(t *testing.T) {
	n := all(t)
	stations := addMany(t, n, "S", mostHandshakes, 3, nil)
	storm := min(mostHandshakes, int(rate(t, stations[:200])*patience.Seconds()/5))
	before := attempt{station: add(t, n, "BEFORE", 2, nil)}.must(t)
	before.boot(t)

	start := make(chan struct{})
	took := make([]time.Duration, storm)
	failed := make(chan error, storm)
	var wg sync.WaitGroup
	for i := range storm {
		wg.Go(func() {
			<-start
			begin := time.Now()
			p, err := attempt{station: stations[i], tls: classic}.dial()
			took[i] = time.Since(begin)
			if err != nil {
				failed <- fmt.Errorf("after %s: %w", took[i].Round(time.Millisecond), err)
				return
			}
			p.nc.Close()
		})
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	close(start)
	var slowest time.Duration
	calls := 0
	for running := true; running; {
		select {
		case <-over:
			running = false
		default:
			begin := time.Now()
			before.call(t, "Heartbeat", "{}")
			slowest = max(slowest, time.Since(begin))
			calls++
		}
	}
	close(failed)
	count := 0
	for err := range failed {
		if count++; count <= 20 {
			t.Error(err)
		}
	}
	slices.Sort(took)
	t.Logf("%d handshakes at once: %d failed, median %s, last %s; meanwhile %d heartbeats of another station, the slowest %s",
		storm, count, took[storm/2].Round(time.Millisecond), took[storm-1].Round(time.Millisecond), calls, slowest.Round(time.Millisecond))
	if count > 0 {
		t.Errorf("%d of %d failed", count, storm)
	}
	before.leave()
	e2e.Await(t, "nobody left", patience, func() bool { return connections(n) == 0 })
	checked(t, n)
}

// rate is how many handshakes per second the machine does now, both ends of them.
func rate(t *testing.T, stations []station) float64 {
	begin := time.Now()
	var eg errgroup.Group
	eg.SetLimit(16)
	for _, s := range stations {
		eg.Go(func() error {
			p, err := attempt{station: s, tls: classic}.dial()
			if err == nil {
				p.nc.Close()
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	return float64(len(stations)) / time.Since(begin).Seconds()
}

// classic makes a key exchange as stations do: without a post-quantum half.
func classic(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} }
