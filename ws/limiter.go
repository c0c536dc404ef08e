package ws

import (
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds how many source addresses a limiter remembers.
const maxSources = 1 << 16

// limiter is a token bucket per source address. Safe for concurrent use.
type limiter struct {
	rate  float64 // per second; 0: no limit
	burst float64

	mu      sync.Mutex
	sources map[netip.Addr]bucket
	swept   time.Time // the last search for sources to forget
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(rate float64, burst int) *limiter {
	return &limiter{rate: rate, burst: float64(max(burst, 1)), sources: make(map[netip.Addr]bucket)}
}

// allow takes a token of the source's bucket.
func (l *limiter) allow(addr netip.Addr, now time.Time) bool {
	if l.rate == 0 {
		return true
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		p, _ := addr.Prefix(64)
		addr = p.Addr()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.sources[addr]
	if !ok {
		if len(l.sources) >= maxSources && !l.forget(now) {
			return true // more sources than can be told apart: the gate must do
		}
		b = bucket{tokens: l.burst, at: now}
	}
	b.tokens = min(l.burst, b.tokens+l.rate*now.Sub(b.at).Seconds())
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.sources[addr] = b
	return allowed
}

// forget drops sources whose bucket is full again, at most once a second, and
// reports whether there is room.
func (l *limiter) forget(now time.Time) bool {
	if now.Sub(l.swept) < time.Second {
		return false
	}
	l.swept = now
	for a, b := range l.sources {
		if b.tokens+l.rate*now.Sub(b.at).Seconds() >= l.burst {
			delete(l.sources, a)
		}
	}
	return len(l.sources) < maxSources
}
