package api

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxFailures is how many wrong credentials one source may present within
	// failureWindow before it is told to wait.
	maxFailures   = 20
	failureWindow = time.Minute
	// maxSources is how many sources are counted apart; further ones share a count.
	maxSources = 4096
)

// failures counts wrong credentials by source: an IPv4 address or an IPv6 /64.
type failures struct {
	mu      sync.Mutex
	sources map[netip.Prefix]*failureCount // at most maxSources and one for the rest
}

type failureCount struct {
	n     int
	until time.Time // end of the window
}

func newFailures() *failures { return &failures{sources: make(map[netip.Prefix]*failureCount)} }

// add counts a failure and returns how long the source has to wait; zero: not.
func (f *failures) add(remote string, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := source(remote)
	c, ok := f.sources[key]
	if !ok && len(f.sources) >= maxSources {
		for k, old := range f.sources {
			if !now.Before(old.until) {
				delete(f.sources, k)
			}
		}
		if len(f.sources) >= maxSources {
			key = netip.Prefix{}
			c, ok = f.sources[key]
		}
	}
	if !ok || !now.Before(c.until) {
		c = &failureCount{until: now.Add(failureWindow)}
		f.sources[key] = c
	}
	c.n++
	if c.n > maxFailures {
		return c.until.Sub(now)
	}
	return 0
}

// source returns what a remote address is counted under; all unreadable ones together.
func source(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
