package ws

import (
	"errors"
	"slices"
	"sync"
	"unicode/utf8"
)

const (
	scratchSize = 16 << 10 // bytes of a worker's read buffer
	maxHeld     = 64 << 10 // bytes of messages kept while paused
	maxPooled   = 64 << 10 // larger frame buffers are not kept

	// unsentStop stops reading from a peer that does not read: its requests
	// would only make the queue longer.
	unsentStop = 64 << 10
)

// scratch is what a worker lends to the connection that has the turn.
type scratch struct {
	buf  []byte // plaintext
	raw  []byte // crypto/tls's records
	lent bool   // raw is in use
}

var scratches = sync.Pool{New: func() any { return &scratch{buf: make([]byte, scratchSize)} }}

// framePool keeps buffers in which frames are put together.
type framePool struct{ p sync.Pool }

type frameBuffer struct{ b []byte }

var frames = framePool{sync.Pool{New: func() any { return new(frameBuffer) }}}

func (f *framePool) get() *frameBuffer { return f.p.Get().(*frameBuffer) }

func (f *framePool) put(b *frameBuffer) {
	if cap(b.b) <= maxPooled {
		f.p.Put(b)
	}
}

// inbound is what a connection keeps between turns while a frame or message is
// incomplete, or messages are held back.
type inbound struct {
	buf        []byte // read and not yet parsed
	msg        []byte // the fragments so far
	op         byte   // of the fragmented message; 0: there is none
	compressed bool
	held       []heldMessage
	heldBytes  int
	counted    int64 // of it in Server.partial
}

type heldMessage struct {
	op   byte
	data []byte
}

func (c *Conn) inbound() *inbound {
	if c.in == nil {
		c.in = &inbound{}
	}
	return c.in
}

// unfinished reports whether the peer began something that it did not finish.
func (c *Conn) unfinished() bool {
	return c.in != nil && (len(c.in.buf) > 0 || c.in.op != 0) && !c.stalled || c.halfRecord()
}

// readingStopped reports whether nothing more may be read for now.
func (c *Conn) readingStopped() bool {
	if c.phase.Load() != phaseOpen {
		return false
	}
	if c.behind() {
		c.stalled = true
		return true
	}
	return c.paused.Load() && c.in != nil && c.in.heldBytes >= maxHeld
}

// behind reports whether the peer does not read what it is sent.
func (c *Conn) behind() bool { return c.sock.unsent() > min(unsentStop, c.s.cfg.MaxUnsent) }

// readable reads and parses until the socket has no more, so that no message
// waits for the next packet. It reports whether there is more for another turn.
func (c *Conn) readable(w *scratch) (again bool) {
	c.lend(w)
	defer c.settle(w)
	b := w.buf[:0]
	if c.in != nil && len(c.in.buf) > 0 {
		b, c.in.buf = c.in.buf, nil
	}
	c.deliverHeld()
	for reads := 0; !c.gone; reads++ {
		var need int
		if b, need = c.parse(b); c.gone {
			return false
		}
		if len(b) <= scratchSize && (len(b) == 0 || &b[0] != &w.buf[0]) {
			b = w.buf[:copy(w.buf, b)]
		}
		if c.readingStopped() {
			break
		}
		if reads == maxReads {
			again = true
			break
		}
		b = room(b, need)
		n, err := c.read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == nil {
			continue
		}
		if b, _ = c.parse(b); c.gone {
			return false
		}
		if errors.Is(err, errWouldBlock) {
			break
		}
		c.end(err)
		return false
	}
	if len(b) > 0 {
		if &b[0] == &w.buf[0] {
			b = slices.Clone(b)
		}
		c.inbound().buf = b
	}
	return again
}

// room makes place for what the frame at the start of b needs, in steps: what
// the peer announces costs nothing until it comes.
func room(b []byte, need int) []byte {
	if len(b) < cap(b) {
		return b
	}
	grown := make([]byte, len(b), max(min(need, max(2*len(b), 4096)), len(b)+maxHeader))
	copy(grown, b)
	return grown
}

// settle ends a turn that read: buffers go back, what is kept is counted and
// gets its time limit.
func (c *Conn) settle(w *scratch) {
	c.unlend(w)
	if c.gone {
		return
	}
	var counted int64
	if in := c.in; in != nil {
		if len(in.buf) == 0 && in.op == 0 && len(in.held) == 0 {
			c.s.partial.Add(-in.counted)
			c.in = nil
		} else {
			counted = int64(cap(in.buf) + cap(in.msg) + in.heldBytes)
			total := c.s.partial.Add(counted - in.counted)
			grew := counted > in.counted
			in.counted = counted
			if grew && total > c.s.cfg.MaxPartial {
				c.fail(CloseTryLater, "out of buffers", ReasonOverload)
			}
		}
	}
	c.timeMessage(c.unfinished())
}

// timeMessage starts or stops the time limit of an unfinished message.
func (c *Conn) timeMessage(on bool) {
	switch {
	case on && !c.timed:
		c.s.wheel.set(c, duePartial, c.s.cfg.MessageTime)
	case !on && c.timed:
		c.s.wheel.clear(c, duePartial)
	}
	c.timed = on
}

// dropInbound forgets what was kept.
func (c *Conn) dropInbound() {
	if c.in != nil {
		c.s.partial.Add(-c.in.counted)
		c.in = nil
	}
}

// parse handles the whole frames at the start of b. It returns the rest, moved
// to the start of b, and how long the frame there is as far as known.
func (c *Conn) parse(b []byte) (rest []byte, need int) {
	used := 0
	for c.phase.Load() <= phaseClosing {
		h, n, err := parseHeader(b[used:], c.agreed.on)
		if err != nil {
			c.fail(CloseProtocolError, err.Error(), ReasonBadFrame)
			break
		}
		if n == 0 {
			need = maxHeader
			break
		}
		if !c.allowed(h) {
			break
		}
		need = n + int(h.length)
		if len(b)-used < need {
			break
		}
		payload := b[used+n : used+need]
		unmask(payload, h.key)
		used += need
		c.s.metrics.framesIn.Inc()
		c.s.metrics.bytesIn.Add(float64(need))
		c.frame(h, payload)
		if c.gone {
			break
		}
		if c.behind() {
			c.stalled = true
			break
		}
	}
	if c.phase.Load() > phaseClosing {
		return b[:0], 0
	}
	return b[:copy(b, b[used:])], need
}

// allowed judges a frame by its header and place, before its payload is there.
func (c *Conn) allowed(h header) bool {
	if h.op >= opClose {
		return true
	}
	sofar, begun := 0, c.in != nil && c.in.op != 0
	if begun {
		sofar = len(c.in.msg)
	}
	switch {
	case h.op == opContinuation && !begun:
		c.fail(CloseProtocolError, "continuation of nothing", ReasonBadFrame) // §5.4
	case h.op != opContinuation && begun:
		c.fail(CloseProtocolError, "message inside of a message", ReasonBadFrame)
	case h.length > uint64(c.s.cfg.MaxMessage-sofar):
		c.fail(CloseTooBig, "message is too big", ReasonTooBig)
	default:
		return true
	}
	return false
}

// frame handles one unmasked frame.
func (c *Conn) frame(h header, payload []byte) {
	if c.pinged && (!c.pingRequire || h.op == opPong) {
		c.pinged = false
		c.s.wheel.clear(c, duePong)
	}
	switch h.op {
	case opPing:
		c.s.metrics.pingsIn.Inc()
		if c.control(opPong, payload) == nil {
			c.s.metrics.pongsOut.Inc()
		}
	case opPong:
		c.s.metrics.pongsIn.Inc()
		c.learned = true
	case opClose:
		c.peerCloses(payload)
	case opText, opBinary:
		c.timeMessage(false)
		if h.fin {
			c.message(h.op, h.rsv1, payload)
			return
		}
		in := c.inbound()
		in.op, in.compressed, in.msg = h.op, h.rsv1, slices.Clone(payload)
	case opContinuation:
		in := c.in
		in.msg = append(in.msg, payload...)
		if h.fin {
			op, compressed, msg := in.op, in.compressed, in.msg
			in.op, in.msg = 0, nil
			c.timeMessage(false)
			c.message(op, compressed, msg)
		}
	}
}

// peerCloses handles the peer's close frame, §5.5.1.
func (c *Conn) peerCloses(payload []byte) {
	code, err := parseClose(payload)
	if err != nil {
		if errors.Is(err, errCloseText) {
			c.fail(CloseInvalidData, err.Error(), ReasonBadUTF8)
		} else {
			c.fail(CloseProtocolError, err.Error(), ReasonBadFrame)
		}
		return
	}
	c.mu.Lock()
	c.peerCode = code
	answered := c.closeLocked(phaseEnding, code, "", ReasonPeerClose)
	c.mu.Unlock()
	if answered && c.sock.unsent() > 0 {
		c.s.wheel.set(c, dueClose, c.s.cfg.CloseTime)
		return
	}
	c.finish(false)
}

// message handles a whole message: decompress, check, deliver or hold back.
func (c *Conn) message(op byte, compressed bool, data []byte) {
	if c.phase.Load() != phaseOpen {
		return
	}
	if compressed {
		buf := frames.get()
		defer frames.put(buf)
		plain, err := inflate(buf.b[:0], data, c.s.cfg.MaxMessage)
		switch {
		case errors.Is(err, errInflatedTooBig):
			c.fail(CloseTooBig, "message is too big", ReasonTooBig)
			return
		case err != nil:
			c.fail(CloseInvalidData, "invalid compressed data", ReasonBadFrame)
			return
		}
		c.s.metrics.inflated.Inc()
		buf.b, data = plain, plain
	}
	if op == opText && !utf8.Valid(data) {
		c.fail(CloseInvalidData, "text is not UTF-8", ReasonBadUTF8) // §8.1
		return
	}
	if c.paused.Load() || c.in != nil && len(c.in.held) > 0 {
		in := c.inbound()
		in.held = append(in.held, heldMessage{op, slices.Clone(data)})
		in.heldBytes += len(data) + 64 // small ones count, too
		return
	}
	c.deliver(op, data)
}

func (c *Conn) deliver(op byte, data []byte) {
	if b, ok := c.session.(BinarySession); ok && op == opBinary {
		b.Binary(c, data)
		return
	}
	c.session.Message(c, data)
}

// deliverHeld delivers what was held back, until the next Pause.
func (c *Conn) deliverHeld() {
	for c.in != nil && len(c.in.held) > 0 && !c.paused.Load() && c.phase.Load() == phaseOpen && !c.behind() {
		m := c.in.held[0]
		c.in.held[0] = heldMessage{}
		c.in.held = c.in.held[1:]
		c.in.heldBytes -= len(m.data) + 64
		c.deliver(m.op, m.data)
	}
}
