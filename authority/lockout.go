package authority

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxLockouts   = 32 << 10         // pairs of station and source that are remembered, at least
	lockoutWindow = 15 * time.Minute // failures further apart do not add up
	maxLockout    = 15 * time.Minute
)

// lockouts slows down guessing: after some wrong passwords in a row, a station
// is refused from that source for a while, twice as long with every further one.
type lockouts struct {
	failures int           // free ones
	first    time.Duration // length of the first lockout

	mu     sync.Mutex
	recent recent[lockoutKey, lockout]
}

type lockoutKey struct {
	station string // folded
	source  netip.Prefix
}

type lockout struct {
	failures int
	last     time.Time
	until    time.Time
}

// sourceOf is whom a lockout is for: an IPv4 address or an IPv6 network of 64 bits.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for no address at all: the zero Prefix
	return p
}

// begin counts an attempt as failed before its password is checked, so that
// attempts at the same time cannot outrun the limit; succeeded takes it back.
// If it returns more than zero, the attempt is refused for that long.
func (l *lockouts) begin(k lockoutKey, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, _ := l.recent.get(k)
	if wait := e.until.Sub(now); wait > 0 {
		return wait
	}
	if now.Sub(e.last) > lockoutWindow {
		e = lockout{}
	}
	e.failures++
	e.last = now
	if over := e.failures - l.failures; over >= 0 {
		e.until = now.Add(min(l.first<<min(over, 10), maxLockout))
	}
	l.recent.put(k, e)
	return 0
}

func (l *lockouts) succeeded(k lockoutKey) {
	l.mu.Lock()
	l.recent.delete(k)
	l.mu.Unlock()
}

// forget ends all failures of a station: its password or its record changed.
func (l *lockouts) forget(station string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range []map[lockoutKey]lockout{l.recent.cur, l.recent.old} {
		for k := range m {
			if k.station == station {
				delete(m, k)
			}
		}
	}
}

func (l *lockouts) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.len()
}
