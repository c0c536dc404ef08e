package ws

import (
	"context"
	"sync"
	"time"
)

// tick is the resolution of all deadlines of open connections.
const tick = 50 * time.Millisecond

// due names a connection's deadlines; each has at most one time.
type due uint8

const (
	duePing    due = iota // send a ping
	duePong               // the ping should have been answered
	dueWrite              // unsent bytes should have been taken
	duePartial            // the unfinished message should be complete
	dueClose              // the closing handshake should be over
	numDue
)

// timers are a connection's deadlines in ticks, 0 for none, and its place in
// the wheel. Guarded by wheel.mu.
type timers struct {
	due        [numDue]uint32
	at         uint32 // the tick it is filed under, 0 while it is not in the wheel
	next, prev *Conn
}

// wheelSize is how many ticks pass before the wheel is round. A deadline
// further away stays in its slot for more rounds.
const wheelSize = 2048

// wheel holds the deadlines of all connections: no connection has a timer of
// its own. A connection is filed once, under its earliest deadline.
type wheel struct {
	start time.Time

	mu    sync.Mutex
	now   uint32 // the last tick that was handled
	slots [wheelSize]*Conn
	filed int
}

// ticks converts d, rounded up and at least one.
func ticks(d time.Duration) uint32 { return max(uint32((d+tick-1)/tick), 1) }

// set files c's deadline k to pass after d, in place of an earlier setting.
func (w *wheel) set(c *Conn, k due, d time.Duration) {
	at := uint32(time.Since(w.start)/tick) + ticks(d) + 1 // no earlier than d from now
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &c.timers
	t.due[k] = at
	if t.at == 0 || at < t.at {
		w.unfile(c)
		w.file(c, max(at, w.now+1))
	}
}

// clear forgets deadline k. c stays filed until the tick comes.
func (w *wheel) clear(c *Conn, k due) {
	w.mu.Lock()
	c.timers.due[k] = 0
	w.mu.Unlock()
}

// isSet reports whether deadline k lies ahead.
func (w *wheel) isSet(c *Conn, k due) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.timers.due[k] != 0
}

// remove forgets c.
func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	c.timers.due = [numDue]uint32{}
	w.unfile(c)
	w.mu.Unlock()
}

func (w *wheel) file(c *Conn, at uint32) {
	t, slot := &c.timers, &w.slots[at%wheelSize]
	t.at, t.next, t.prev = at, *slot, nil
	if t.next != nil {
		t.next.timers.prev = c
	}
	*slot = c
	w.filed++
}

func (w *wheel) unfile(c *Conn) {
	t := &c.timers
	if t.at == 0 {
		return
	}
	if t.prev != nil {
		t.prev.timers.next = t.next
	} else {
		w.slots[t.at%wheelSize] = t.next
	}
	if t.next != nil {
		t.next.timers.prev = t.prev
	}
	t.at, t.next, t.prev = 0, nil, nil
	w.filed--
}

// advance handles the ticks up to now and calls fire, with w.mu held, for each
// connection with the set of its deadlines that passed.
func (w *wheel) advance(now uint32, fire func(c *Conn, passed uint32)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now-w.now > wheelSize { // the process was stopped for long: one round is enough
		w.now = now - wheelSize
	}
	for w.now < now {
		w.now++
		for c := w.slots[w.now%wheelSize]; c != nil; {
			t := &c.timers
			next := t.next
			if t.at <= now {
				w.unfile(c)
				var passed, earliest uint32
				for k, at := range t.due {
					switch {
					case at == 0:
					case at <= now:
						passed |= 1 << k
						t.due[k] = 0
					case earliest == 0 || at < earliest:
						earliest = at
					}
				}
				if earliest != 0 {
					w.file(c, earliest)
				}
				if passed != 0 {
					fire(c, passed)
				}
			}
			c = next
		}
	}
}

// run advances the wheel until ctx ends.
func (w *wheel) run(ctx context.Context, fire func(c *Conn, passed uint32)) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.advance(uint32(time.Since(w.start)/tick), fire)
		}
	}
}

// count returns how many connections are filed.
func (w *wheel) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.filed
}
