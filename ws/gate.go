package ws

import (
	"context"
	"net"
	"sync"
	"time"
)

// gate takes accepted connections through their openings. At most slots of
// them compute at any time: that bounds what a storm takes from established
// connections. An opening gives its slot back while it waits for its peer, and
// one that has begun gets the next slot before one that has not, so that few
// handshakes are half done. A connection has a goroutine from its first slot on;
// before, it waits in line at the cost of a pointer. At most max of them have a
// goroutine, at most maxWait more wait in line, and whoever brings another one
// is held up until there is room.
type gate struct {
	max, maxWait, slots int
	open                func(*arrival) // runs on an opening's goroutine, which holds a slot

	mu     sync.Mutex
	line   []*arrival // first in, first out; line[:head] is gone
	head   int
	busy   int             // openings that have a goroutine
	held   int             // slots that are held
	begun  []chan struct{} // openings that wait for their next slot, first in, first out
	room   chan struct{}   // closed when a full line has room again; nil while nobody waits for it
	closed bool
	ended  sync.WaitGroup // openings
}

// arrival is an accepted connection before its opening.
type arrival struct {
	ctx   context.Context // of its listener
	conn  net.Conn
	ep    *endpoint
	since time.Time
}

// put hands a over. It blocks while the line is full; then full is called
// once. It returns false, without taking a, when ctx ended or the gate closed.
func (g *gate) put(ctx context.Context, a *arrival, full func()) bool {
	for first := true; ; first = false {
		g.mu.Lock()
		switch {
		case g.closed:
			g.mu.Unlock()
			return false
		case len(g.line)-g.head < g.maxWait:
			g.line = append(g.line, a)
			g.startLocked()
			g.mu.Unlock()
			return true
		}
		if g.room == nil {
			g.room = make(chan struct{})
		}
		room := g.room
		g.mu.Unlock()
		if first {
			full()
		}
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// again puts a, whose peer says nothing, at the end of the line. It returns
// false, without taking a, when the gate closed.
func (g *gate) again(a *arrival) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.line = append(g.line, a) // beyond maxWait by one for each opening at worst
	g.startLocked()
	return true
}

// startLocked gives free slots to openings that begun and then to the line.
func (g *gate) startLocked() {
	for g.held < g.slots {
		if len(g.begun) > 0 {
			close(g.begun[0])
			g.begun[0] = nil
			g.begun = g.begun[1:]
			g.held++
			continue
		}
		if g.busy == g.max {
			return
		}
		a := g.popLocked()
		if a == nil {
			return
		}
		g.held++
		g.busy++
		g.ended.Go(func() { g.serve(a) })
	}
}

// serve opens a and then those in line that find a slot free.
func (g *gate) serve(a *arrival) {
	for a != nil {
		g.open(a)
		g.mu.Lock()
		if a = nil; g.held < g.slots && len(g.begun) == 0 {
			a = g.popLocked()
		}
		if a != nil {
			g.held++
		} else {
			g.busy--
		}
		g.mu.Unlock()
	}
}

// popLocked takes the first in line; nil if there is none.
func (g *gate) popLocked() *arrival {
	if g.head == len(g.line) {
		g.line, g.head = nil, 0
		return nil
	}
	a := g.line[g.head]
	g.line[g.head] = nil
	g.head++
	if g.head >= 1024 && g.head*2 > len(g.line) {
		g.line = append([]*arrival(nil), g.line[g.head:]...)
		g.head = 0
	}
	g.wakeLocked()
	return a
}

func (g *gate) wakeLocked() {
	if g.room != nil {
		close(g.room)
		g.room = nil
	}
}

// acquire waits for a slot, which comes: one is held only while computing.
func (g *gate) acquire() {
	g.mu.Lock()
	if g.held < g.slots {
		g.held++
		g.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	g.begun = append(g.begun, turn)
	g.mu.Unlock()
	<-turn
}

// release gives a slot back.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	g.startLocked()
}

// close refuses newcomers, gives back those in line and waits for the openings.
func (g *gate) close(drop func(*arrival)) {
	g.mu.Lock()
	g.closed = true
	line := g.line[g.head:]
	g.line, g.head = nil, 0
	g.wakeLocked()
	g.mu.Unlock()
	for _, a := range line {
		drop(a)
	}
	g.ended.Wait()
}

func (g *gate) opening() int { g.mu.Lock(); defer g.mu.Unlock(); return g.busy }
func (g *gate) waiting() int { g.mu.Lock(); defer g.mu.Unlock(); return len(g.line) - g.head }
func (g *gate) running() int { g.mu.Lock(); defer g.mu.Unlock(); return g.held }
