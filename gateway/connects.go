package gateway

import (
	"math/rand/v2"
	"sync"
	"time"
)

// connects bounds how often one station may connect: each connection costs a
// handshake, two events and two writes of the record, and a station that cannot
// stay (a firmware in a loop, two devices with one identity) comes back for ever.
//
// Each connection adds one to the station's level, and it falls by rate. A level
// above burst earns a penalty: connections are refused for penaltyLeast and up to
// as much again, at random, so that stations with the same fault do not return
// together. Only stations that proved who they are are counted: nobody can earn a
// penalty for another one.
type connects struct {
	rate float64 // per second; 0: no limit

	mu     sync.Mutex
	levels table[string, level] // by folded identity; those that fell to nothing are dropped
	swept  time.Time
}

type level struct {
	at    uint32 // Unix seconds
	until uint32 // of the penalty
	n     float32
}

const (
	// connectBurst is how many connections a station may make at once, as a
	// multiple of what it may make in a minute: tests, a technician, a bad hour.
	connectBurst = 50
	penaltyLeast = 30 * time.Second
	// sweepEvery is the time between two looks for levels that fell to nothing.
	sweepEvery = time.Minute
	// maxLevels bounds the stations that are counted; past it, further ones are not.
	maxLevels = 200_000
)

func newConnects(perMinute float64) *connects {
	return &connects{rate: perMinute / 60}
}

// add counts a connection and returns how long the station has to stay away;
// zero: not at all. first says that the penalty begins with this one.
func (c *connects) add(fold string, now time.Time) (wait time.Duration, first bool) {
	if c.rate <= 0 {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	unix := uint32(now.Unix())
	l, known := c.levels.m[fold]
	if !known && len(c.levels.m) >= maxLevels {
		return 0, false
	}
	if unix < l.until {
		return time.Duration(l.until-unix) * time.Second, false
	}
	l = l.fall(unix, c.rate)
	l.n++
	if float64(l.n) > c.rate*60*connectBurst {
		wait = penaltyLeast + rand.N(penaltyLeast)
		l.until = unix + uint32(wait/time.Second)
	}
	c.levels.set(fold, l)
	return wait, wait > 0
}

// fall returns the level at a later time.
func (l level) fall(unix uint32, rate float64) level {
	if unix > l.at {
		l.n = max(0, l.n-float32(rate*float64(unix-l.at)))
	}
	l.at = unix
	return l
}

// sweep drops levels that fell to nothing, now and then. With mu held.
func (c *connects) sweep(now time.Time) {
	if now.Sub(c.swept) < sweepEvery {
		return
	}
	c.swept = now
	unix := uint32(now.Unix())
	for k, l := range c.levels.m { // of a copy, if it shrinks
		if l.fall(unix, c.rate).n == 0 && unix >= l.until {
			c.levels.delete(k)
		}
	}
}

// penalized counts the stations that have to stay away now. Metrics ask for it
// again and again, so that levels are swept although nobody connects.
func (c *connects) penalized(now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	n, unix := 0, uint32(now.Unix())
	for _, l := range c.levels.m {
		if unix < l.until {
			n++
		}
	}
	return n
}

// forget lets a station begin anew: its operator changed something about it.
func (c *connects) forget(fold string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.levels.delete(fold)
}
