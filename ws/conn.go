package ws

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unique"
)

// Conn is one WebSocket connection. Its methods may be called from any
// goroutine, by the session's own calls, too; they do not block.
type Conn struct {
	sock sock // crypto/tls reads and writes through it

	// Set by the opening, then read-only.
	s           *Server
	ep          *endpoint
	remote      netip.AddrPort
	subprotocol unique.Handle[string]
	pingEvery   time.Duration // 0: no pings
	tlsVersion  uint16
	tlsSuite    uint16
	agreed      agreement
	resumed     bool
	pingRequire bool

	// Owned by whoever has the turn: the opening, then one worker at a time.
	in      *inbound // nil unless something is incomplete or held back
	gone    bool     // Closed was called
	stalled bool     // reading stopped until the peer reads
	timed   bool     // duePartial is set
	pinged  bool     // a ping is unanswered
	learned bool     // the peer ponged once
	cohort  uint16   // number in Server.cohorts; set by the opening, then read-only
	session Session

	state  atomic.Uint32 // what to do at the next turn; see post
	phase  atomic.Uint32 // changed under mu
	paused atomic.Bool
	timers timers // guarded by Server.wheel
	next   *Conn  // guarded by Server.queue

	mu       sync.Mutex
	tls      tlsStream // nil: plain, or gone
	reason   CloseReason
	peerCode uint16
}

// Phases of a connection's life.
const (
	phaseOpening uint32 = iota
	phaseOpen
	phaseClosing // our close frame went first
	phaseFailed  // our close frame reported a violation: what comes is not parsed
	phaseEnding  // the peer's close frame is answered, the answer is on its way
	phaseDead
)

// Bits of Conn.state.
const (
	evRead  uint32 = 1 << iota // the socket may have something, or Resume
	evWrite                    // the socket takes more
	evKill                     // end without ceremony
	evHup                      // the socket is dead in both directions
	// scheduled: a worker has the turn or the connection is in the queue.
	scheduled
	// evDue+k: the deadline k passed.
	evDueShift = iota
)

// Info says what is known about a connection.
type Info struct {
	Label       string // of the endpoint
	Remote      netip.AddrPort
	TLSVersion  uint16 // 0: plain
	CipherSuite uint16
	Resumed     bool // TLS session resumption
	Subprotocol string
	Deflate     bool // permessage-deflate is in use
}

// Info returns what was agreed on when the connection was opened.
func (c *Conn) Info() Info {
	return Info{
		Label: c.ep.label, Remote: c.remote,
		TLSVersion: c.tlsVersion, CipherSuite: c.tlsSuite, Resumed: c.resumed,
		Subprotocol: c.subprotocol.Value(), Deflate: c.agreed.on,
	}
}

// PeerClose returns the code of the peer's close frame: CloseNoStatus if it
// had none, 0 if there was no close frame.
func (c *Conn) PeerClose() uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peerCode
}

// Unsent returns the bytes that wait for the peer to read.
func (c *Conn) Unsent() int { return c.sock.unsent() }

// Send sends one text message. What the socket does not take is queued, up to
// Config.MaxUnsent, for Config.WriteTime. Errors: ErrClosed once the connection
// is closing, ErrSlowReader, or what the socket said; after the latter two the
// connection ends.
func (c *Conn) Send(data []byte) error { return c.send(opText, data) }

// SendBinary is Send for a binary message.
func (c *Conn) SendBinary(data []byte) error { return c.send(opBinary, data) }

func (c *Conn) send(op byte, data []byte) error {
	buf := frames.get()
	defer frames.put(buf)
	if c.agreed.on && len(data) >= minDeflate {
		small := frames.get()
		defer frames.put(small)
		var err error
		if small.b, err = deflate(small.b[:0], data, c.agreed.bits); err == nil && len(small.b) < len(data) {
			buf.b = append(appendHeader(buf.b[:0], op, true, len(small.b)), small.b...)
			c.s.metrics.deflated.Inc()
			return c.write(buf.b)
		}
	}
	buf.b = append(appendHeader(buf.b[:0], op, false, len(data)), data...)
	return c.write(buf.b)
}

// control sends a control frame.
func (c *Conn) control(op byte, payload []byte) error {
	var buf [2 + maxControl]byte
	return c.write(append(appendHeader(buf[:0], op, false, len(payload)), payload...))
}

// write sends whole frames while the connection is open.
func (c *Conn) write(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase.Load() != phaseOpen {
		return ErrClosed
	}
	return c.writeLocked(frame)
}

func (c *Conn) writeLocked(frame []byte) error {
	err := ErrSlowReader
	if c.sock.unsent() <= c.s.cfg.MaxUnsent {
		if c.tls != nil {
			_, err = c.tls.Write(frame)
		} else {
			_, err = c.sock.Write(frame)
		}
	}
	if err != nil {
		c.abortLocked(ioReason(err))
		return err
	}
	c.s.metrics.framesOut.Inc()
	c.s.metrics.bytesOut.Add(float64(len(frame)))
	return nil
}

// Close starts the closing handshake: a close frame with code and text, a
// short wait for the peer's (Config.CloseTime), then the end, whose reason is
// what Closed reports. Code 0 sends a close frame without one. Of several
// closes the first counts.
func (c *Conn) Close(code uint16, text string, reason CloseReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeLocked(phaseClosing, code, text, reason) {
		c.s.wheel.set(c, dueClose, c.s.cfg.CloseTime)
		c.post(evRead) // reading may have stopped
	}
}

// closeLocked sends a close frame, once.
func (c *Conn) closeLocked(phase uint32, code uint16, text string, reason CloseReason) bool {
	if c.phase.Load() != phaseOpen {
		return false
	}
	c.setReasonLocked(reason)
	payload := closePayload(code, text)
	var buf [2 + maxControl]byte
	if c.writeLocked(append(appendHeader(buf[:0], opClose, false, len(payload)), payload...)) != nil {
		return false
	}
	c.phase.Store(phase)
	return true
}

// Abort ends the connection without a close frame, by a reset.
func (c *Conn) Abort(reason CloseReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase.Load() != phaseDead {
		c.abortLocked(reason)
	}
}

func (c *Conn) abortLocked(reason CloseReason) {
	c.setReasonLocked(reason)
	c.post(evKill)
}

// setReasonLocked keeps the first reason.
func (c *Conn) setReasonLocked(reason CloseReason) {
	if c.reason == "" {
		c.reason = reason
	}
}

// Pause holds messages back until Resume. Pings, pongs and the peer's close
// are handled meanwhile, as long as not more than 64 KiB of messages have to
// be kept; then nothing more is read. Messages that are held back when the
// connection ends are dropped. A message may still be delivered while Pause is
// called from another goroutine than the session's.
func (c *Conn) Pause() { c.paused.Store(true) }

// Resume ends Pause. Nothing happens if the connection is not paused.
func (c *Conn) Resume() {
	if c.paused.CompareAndSwap(true, false) {
		c.post(evRead)
	}
}

// post notes what has to be done and gets the connection a turn if it has
// none. Whoever has the turn sees the note before giving the turn up.
func (c *Conn) post(ev uint32) {
	if c.state.Or(ev|scheduled)&scheduled == 0 {
		c.s.queue.push(c)
	}
}
