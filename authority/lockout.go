package authority

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"
)

const (
	maxLockouts   = 32 << 10         // pairs of station and source that are remembered, at least
	lockoutWindow = 15 * time.Minute // failures further apart do not add up
	maxLockout    = 15 * time.Minute

	// A source may present this many wrong passwords, over all stations: at once,
	// and per second after that. Stations behind one address that all have wrong
	// passwords stay below it, as each of them is soon locked out alone.
	sourceBurst = 300
	sourceRate  = 10
	maxSources  = 8 << 10 // sources that are remembered, at least
)

// lockouts slows down guessing: after some wrong passwords in a row, a station
// is refused from that source for a while, twice as long with every further one;
// and a source that tries many stations is slowed down as a whole. There is no
// limit for a station over all sources: it would let anybody lock out a station.
//
// Replicas tell each other of failures of a pair, so that its limit holds over
// all of them. What a source may do as a whole, it may do at each replica.
type lockouts struct {
	failures int           // free ones
	first    time.Duration // length of the first lockout
	self     string        // names this process to the others
	tell     func(LockoutChange)

	mu      sync.Mutex
	recent  recent[lockoutKey, lockout]
	sources recent[netip.Prefix, bucket]
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

// bucket holds how many wrong passwords a source has left.
type bucket struct {
	left float64
	at   time.Time
}

// LockoutChange is what replicas tell each other of wrong passwords.
type LockoutChange struct {
	From    string       `json:"from"`             // process
	Station string       `json:"station"`          // folded identity
	Source  netip.Prefix `json:"source,omitzero"`  // none: any
	Failed  bool         `json:"failed,omitempty"` // else the failures are forgiven
}

func newLockouts(failures int, first time.Duration, tell func(LockoutChange)) *lockouts {
	return &lockouts{failures: failures, first: first, self: rand.Text(), tell: tell,
		recent: newRecent[lockoutKey, lockout](maxLockouts), sources: newRecent[netip.Prefix, bucket](maxSources)}
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
// attempts at the same time cannot outrun the limits; succeeded and undecided
// take it back. If it returns more than zero, the attempt is refused for that
// long; whole says that it is for what the source did to all stations.
func (l *lockouts) begin(k lockoutKey, now time.Time) (wait time.Duration, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, _ := l.recent.get(k)
	if wait := e.until.Sub(now); wait > 0 {
		return wait, false
	}
	b, ok := l.sources.get(k.source)
	if !ok {
		b = bucket{left: sourceBurst, at: now}
	}
	if d := now.Sub(b.at); d > 0 {
		b.left, b.at = min(b.left+d.Seconds()*sourceRate, sourceBurst), now
	}
	if b.left < 1 {
		return time.Second, true
	}
	b.left--
	l.sources.put(k.source, b)
	l.count(k, e, now)
	return 0, false
}

// count adds a failure. Under mu.
func (l *lockouts) count(k lockoutKey, e lockout, now time.Time) {
	if now.Sub(e.last) > lockoutWindow {
		e = lockout{}
	}
	e.failures++
	e.last = now
	if over := e.failures - l.failures; over >= 0 {
		e.until = now.Add(min(l.first<<min(over, 10), maxLockout))
	}
	l.recent.put(k, e)
}

// failed tells the other replicas of a wrong password that begin counted.
func (l *lockouts) failed(k lockoutKey) {
	l.tell(LockoutChange{From: l.self, Station: k.station, Source: k.source, Failed: true})
}

// succeeded ends all failures of a pair.
func (l *lockouts) succeeded(k lockoutKey) {
	l.mu.Lock()
	e, _ := l.recent.get(k)
	l.recent.delete(k)
	l.giveBack(k.source)
	l.mu.Unlock()
	if e.failures > 1 { // one is what begin counted
		l.tell(LockoutChange{From: l.self, Station: k.station, Source: k.source})
	}
}

// undecided takes back what begin counted: nothing was found out.
func (l *lockouts) undecided(k lockoutKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.recent.get(k)
	if !ok {
		return
	}
	l.giveBack(k.source)
	if e.failures--; e.failures <= 0 {
		l.recent.delete(k)
		return
	}
	e.until = time.Time{}
	l.recent.put(k, e)
}

func (l *lockouts) giveBack(source netip.Prefix) {
	if b, ok := l.sources.get(source); ok {
		b.left = min(b.left+1, sourceBurst)
		l.sources.put(source, b)
	}
}

// forget ends all failures of a station: its password or its record changed.
func (l *lockouts) forget(station string) {
	l.forgive(station)
	l.tell(LockoutChange{From: l.self, Station: station})
}

func (l *lockouts) forgive(station string) {
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

// heard takes over what another replica told.
func (l *lockouts) heard(c LockoutChange, now time.Time) {
	k := lockoutKey{station: c.Station, source: c.Source}
	switch {
	case c.From == l.self:
	case c.Failed:
		l.mu.Lock()
		defer l.mu.Unlock()
		e, _ := l.recent.get(k)
		l.count(k, e, now)
	case c.Source.IsValid():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.recent.delete(k)
	default:
		l.forgive(c.Station)
	}
}

// HearLockout takes over what another replica told by Config.TellLockout.
func (a *Authority) HearLockout(c LockoutChange) { a.lockouts.heard(c, a.cfg.Now()) }

func (l *lockouts) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.len()
}
