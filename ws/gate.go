package ws

import (
	"context"
	"net"
	"runtime/pprof"
	"sync"
	"time"
)

// gate admits accepted connections to openings: at most max of them have a
// goroutine, at most maxWait more wait in line, and whoever brings another one
// is held up until there is room. Nobody is opened who waited too long.
type gate struct {
	max, maxWait int
	open         func(*arrival) // runs on an opening's goroutine

	mu     sync.Mutex
	line   []*arrival // first in, first out; line[:head] is gone
	head   int
	busy   int           // openings that have a goroutine
	room   chan struct{} // closed when a full line has room again; nil while nobody waits for it
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
		case g.busy < g.max:
			g.busy++
			g.ended.Go(func() { g.serve(a) })
			g.mu.Unlock()
			return true
		case len(g.line)-g.head < g.maxWait:
			g.line = append(g.line, a)
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

// serve opens a and then those who wait in line.
func (g *gate) serve(a *arrival) {
	pprof.SetGoroutineLabels(openingLabels)
	for a != nil {
		g.open(a)
		a = g.next()
	}
}

// next takes the first in line, or ends the calling opening if there is none.
func (g *gate) next() *arrival {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.head == len(g.line) {
		g.line, g.head = nil, 0
		g.busy--
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

// slots bounds how many openings compute at once. An opening gives its slot
// back while it waits for its peer; one that already began goes before one
// that did not, so that few handshakes are half done at any time.
type slots struct {
	mu           sync.Mutex
	free, all    int
	begun, fresh []chan struct{} // waiting, first in, first out
}

func newSlots(n int) *slots { return &slots{free: n, all: n} }

func (s *slots) acquire(begun bool) {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	if begun {
		s.begun = append(s.begun, turn)
	} else {
		s.fresh = append(s.fresh, turn)
	}
	s.mu.Unlock()
	<-turn // comes: a slot is held only while computing
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range []*[]chan struct{}{&s.begun, &s.fresh} {
		if len(*q) > 0 {
			close((*q)[0])
			(*q)[0] = nil
			*q = (*q)[1:]
			return
		}
	}
	s.free++
}

func (s *slots) running() int { s.mu.Lock(); defer s.mu.Unlock(); return s.all - s.free }
