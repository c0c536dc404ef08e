package ws

import (
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// maxReads bounds the reads of one turn, so that one busy connection does not
// keep a worker from the others.
const maxReads = 32

// queue holds the connections that need a turn, each at most once.
type queue struct {
	mu         sync.Mutex
	ready      sync.Cond
	head, tail *Conn
	closed     bool
}

func (q *queue) push(c *Conn) {
	q.mu.Lock()
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
	q.mu.Unlock()
	q.ready.Signal()
}

// pop waits for a connection; nil means that the queue is closed and empty.
func (q *queue) pop() *Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head == nil {
		if q.closed {
			return nil
		}
		q.ready.Wait()
	}
	c := q.head
	q.head, c.next = c.next, nil
	if q.head == nil {
		q.tail = nil
	}
	return c
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Broadcast()
}

// work gives turns to connections until the queue is closed.
func (s *Server) work() {
	for c := s.queue.pop(); c != nil; c = s.queue.pop() {
		w := scratches.Get().(*scratch)
		c.turn(w)
		scratches.Put(w)
	}
}

// turn does what was posted, until nothing is.
func (c *Conn) turn(w *scratch) {
	for {
		ev := c.state.Swap(scheduled) &^ scheduled
		if ev == 0 {
			if c.state.CompareAndSwap(scheduled, 0) {
				return
			}
			continue
		}
		if c.guarded(ev, w) {
			c.state.Or(evRead) // more to read: to the end of the line
			c.s.queue.push(c)
			return
		}
	}
}

// guarded is handle, except that a panic of the session's code ends only its
// own connection.
func (c *Conn) guarded(ev uint32, w *scratch) (again bool) {
	defer func() {
		if v := recover(); v != nil {
			c.s.metrics.panics.Inc()
			c.s.cfg.Logger.Error("session panicked", "err", v, "stack", string(debug.Stack()))
			c.Abort(ReasonPanic)
		}
	}()
	return c.handle(ev, w)
}

// handle reports whether reading should go on at another turn.
func (c *Conn) handle(ev uint32, w *scratch) (again bool) {
	if c.gone {
		return false
	}
	if ev&evKill != 0 {
		c.finish(true)
		return false
	}
	if ev&evHup != 0 && c.readingStopped() { // reading would have told
		c.end(c.sock.failure())
		return false
	}
	if ev&evWrite != 0 {
		if err := c.sock.flush(); err != nil {
			c.end(err)
			return false
		}
		if c.phase.Load() == phaseEnding && c.sock.unsent() == 0 {
			c.finish(false)
			return false
		}
		if c.stalled && !c.behind() {
			c.stalled = false
			ev |= evRead
		}
	}
	if passed := ev >> evDueShift; passed != 0 {
		c.passed(passed)
	}
	if ev&evRead != 0 && !c.gone {
		return c.readable(w)
	}
	return false
}

// passed handles deadlines. Each may have become meaningless, or have been set
// anew, since it passed.
func (c *Conn) passed(set uint32) {
	has := func(k due) bool { return set&(1<<k) != 0 && !c.s.wheel.isSet(c, k) }
	if has(duePing) && c.phase.Load() == phaseOpen {
		c.ping()
	}
	if has(duePong) && c.pinged && (c.pingRequire || c.learned) {
		if c.readingStopped() {
			c.s.wheel.set(c, duePong, c.s.cfg.PongTime) // the pong may lie there unread
		} else {
			c.Close(CloseGoingAway, "no pong", ReasonNoPong)
		}
	}
	if has(dueWrite) && c.sock.overdue() {
		c.Abort(ReasonSlowReader)
	}
	if has(duePartial) {
		c.timed = false
		if c.unfinished() && c.phase.Load() == phaseOpen {
			c.fail(ClosePolicy, "message takes too long", ReasonSlowSender)
		}
	}
	if has(dueClose) && c.phase.Load() > phaseOpen {
		c.finish(true)
	}
}

// ping sends a ping and plans the next one.
func (c *Conn) ping() {
	if c.sock.unsent() == 0 { // else the last one has not even left
		if c.control(opPing, nil) != nil {
			return
		}
		c.s.metrics.pingsOut.Inc()
		if !c.pinged {
			c.pinged = true
			c.s.wheel.set(c, duePong, c.s.cfg.PongTime)
		}
	}
	c.s.wheel.set(c, duePing, jitter(c.pingEvery, 0.9, 1.1))
}

// jitter returns a random part of d between low and high.
func jitter(d time.Duration, low, high float64) time.Duration {
	return time.Duration(float64(d) * (low + (high-low)*rand.Float64()))
}

// fail closes because of what the peer sent. Nothing more of it is parsed; it
// is only read, so that the close frame is not lost in a reset.
func (c *Conn) fail(code uint16, text string, reason CloseReason) {
	c.mu.Lock()
	ok := c.closeLocked(phaseFailed, code, text, reason)
	t := c.tls
	c.mu.Unlock()
	if !ok { // closing already: enough is enough
		c.finish(false)
		return
	}
	if t != nil {
		_ = t.CloseWrite() // a failure shows at the next read
	}
	c.sock.closeWrite()
	c.s.wheel.set(c, dueClose, min(c.s.cfg.CloseTime, 2*time.Second))
}

// end handles an error of the socket.
func (c *Conn) end(err error) {
	c.mu.Lock()
	c.setReasonLocked(ioReason(err))
	c.mu.Unlock()
	c.finish(false)
}

// finish is the end: the socket is closed, by a reset if rst is set, and the
// session is told.
func (c *Conn) finish(rst bool) {
	if c.gone {
		return
	}
	c.gone = true
	c.mu.Lock()
	c.phase.Store(phaseDead)
	c.setReasonLocked(ReasonPeerGone)
	reason, t := c.reason, c.tls
	c.tls = nil
	c.mu.Unlock()
	if t != nil && !rst {
		_ = t.CloseWrite() // close_notify; the peer may be gone
	}
	c.s.registry.remove(c)
	c.sock.close(rst)
	c.s.wheel.remove(c)
	c.dropInbound()
	session := c.session
	c.session = nil
	defer c.s.closed(c, t) // even if the session panics
	session.Closed(c, reason)
}
