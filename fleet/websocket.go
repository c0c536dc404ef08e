package fleet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"holdfast/ocpp"
)

// Opcodes and close codes of RFC 6455 §5.2 and §7.4.1.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	closeNormal      = 1000
	closeGoingAway   = 1001
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoStatus    = 1005
	closeInvalidText = 1007
	closeTooBig      = 1009
)

const (
	// frameTimeout bounds the time from the first byte of a message to its last.
	frameTimeout = 30 * time.Second
	// writeTimeout bounds one frame's way into the socket.
	writeTimeout = 20 * time.Second
	// closeTimeout bounds the wait for the peer's half of the close handshake.
	closeTimeout = 3 * time.Second
)

var past = time.Unix(1, 0)

// readers lends a buffer to a connection while it has something to read.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4096) }}

// writeBuffers lends a buffer to a connection while it writes a frame.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// closeError says that the connection ends by a close frame: the peer's, or ours
// because of what the peer sent.
type closeError struct {
	code   int
	reason string
	ours   bool
}

func (e *closeError) Error() string {
	if e.ours {
		return fmt.Sprintf("closed with %d: %s", e.code, e.reason)
	}
	return fmt.Sprintf("peer closed with %d %q", e.code, e.reason)
}

// conn is the client side of one WebSocket connection. It holds no buffer while
// nothing is read or written.
type conn struct {
	// Set by dial, then read-only.
	nc      net.Conn // tcp, or TLS over it
	tcp     *net.TCPConn
	raw     syscall.RawConn // of tcp
	max     int             // largest message, in bytes
	profile ocpp.SecurityProfile
	quirks  quirks // of the station

	mute atomic.Bool // answers nothing

	// Owned by the station's goroutine.
	part          []byte    // fragments of an unfinished message
	kind          byte      // its opcode, zero if there is none
	pinged, heard bool      // we pinged; something was read since
	pingedAt      time.Time // of stations that need pings

	// ahead is a byte that readable had to read, where it cannot wait otherwise.
	ahead    [1]byte
	hasAhead bool
}

// Read reads from the connection below.
func (c *conn) Read(p []byte) (int, error) {
	if c.hasAhead && len(p) > 0 {
		p[0], c.hasAhead = c.ahead[0], false
		return 1, nil
	}
	return c.nc.Read(p)
}

func newConn(nc net.Conn, tcp *net.TCPConn, profile ocpp.SecurityProfile, limit int) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &conn{nc: nc, tcp: tcp, raw: raw, max: limit, profile: profile}, nil
}

// readMessage returns the next text or binary message, which is valid until the
// next call. Pings are answered on the way. A nil message without an error means
// that a control frame or a fragment was dealt with.
func (c *conn) readMessage(br *bufio.Reader) ([]byte, error) {
	var head [10]byte
	if _, err := io.ReadFull(br, head[:2]); err != nil {
		return nil, err
	}
	if c.quirks.has(SlowReader) {
		time.Sleep(slowRead)
	}
	if !c.mute.Load() {
		c.heard = true
	}
	final, op := head[0]&0x80 != 0, head[0]&0x0f
	if head[0]&0x70 != 0 {
		return nil, c.fail(closeProtocol, "reserved bits without an extension")
	}
	if head[1]&0x80 != 0 {
		return nil, c.fail(closeProtocol, "masked frame from a server") // RFC 6455 §5.1
	}
	length := uint64(head[1])
	switch length {
	case 126:
		if _, err := io.ReadFull(br, head[2:4]); err != nil {
			return nil, err
		}
		length = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		if _, err := io.ReadFull(br, head[2:10]); err != nil {
			return nil, err
		}
		length = binary.BigEndian.Uint64(head[2:])
	}
	if op >= opClose {
		if !final || length > 125 { // RFC 6455 §5.5
			return nil, c.fail(closeProtocol, "control frame fragmented or too long")
		}
		return nil, c.control(br, op, int(length))
	}
	switch {
	case op == opContinuation && c.kind == 0:
		return nil, c.fail(closeProtocol, "continuation of nothing")
	case op != opContinuation && c.kind != 0:
		return nil, c.fail(closeProtocol, "new message inside a fragmented one")
	case op > opBinary:
		return nil, c.fail(closeProtocol, "unknown opcode")
	case length > uint64(c.max-len(c.part)):
		return nil, c.fail(closeTooBig, "message too big")
	}
	if op != opContinuation {
		c.kind = op
	}
	message, err := readGrowing(br, c.part, int(length))
	if err != nil {
		return nil, err
	}
	if !final {
		c.part = message
		return nil, nil
	}
	kind := c.kind
	c.part, c.kind = nil, 0
	if kind == opText && !utf8.Valid(message) { // RFC 6455 §8.1
		return nil, c.fail(closeInvalidText, "text is not UTF-8")
	}
	if message == nil {
		message = []byte{}
	}
	return message, nil
}

// readGrowing appends n bytes of r to b. Memory grows with what arrives, not
// with what a length field promises.
func readGrowing(r io.Reader, b []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, 16<<10)
		at := len(b)
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
		n -= step
	}
	return b, nil
}

// control deals with a control frame whose header has been read.
func (c *conn) control(br *bufio.Reader, op byte, length int) error {
	var data [125]byte
	payload := data[:length]
	if _, err := io.ReadFull(br, payload); err != nil {
		return err
	}
	switch op {
	case opPing:
		if c.mute.Load() || c.quirks.has(NeverPongs) {
			return nil
		}
		switch {
		case c.quirks.has(TextPongs):
			return c.write(opText, []byte("pong"))
		case c.quirks.has(DropsAtPing):
			return errPinged
		case c.quirks.has(NeedsPings):
			c.pingedAt = time.Now()
		}
		return c.write(opPong, payload) // RFC 6455 §5.5.3
	case opPong:
		return nil
	case opClose:
		e := &closeError{code: closeNoStatus}
		if length == 1 || length > 2 && !utf8.Valid(payload[2:]) {
			return c.fail(closeProtocol, "malformed close frame")
		}
		if length >= 2 {
			e.code = int(binary.BigEndian.Uint16(payload))
			e.reason = string(payload[2:])
		}
		if !c.mute.Load() {
			c.write(opClose, payload[:min(length, 2)]) // RFC 6455 §5.5.1; the connection ends either way
		}
		return e
	}
	return c.fail(closeProtocol, "unknown control frame")
}

// fail sends a close frame that says what the peer did wrong.
func (c *conn) fail(code int, reason string) error {
	c.writeClose(code, reason)
	return &closeError{code: code, reason: reason, ours: true}
}

func (c *conn) writeClose(code int, reason string) error {
	return c.write(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// write sends one final, masked frame (RFC 6455 §5.3). A frame is one Write of
// nc, so that those of several goroutines (see Line) do not mix.
func (c *conn) write(op byte, payload []byte) error {
	pooled := writeBuffers.Get().(*[]byte)
	b := (*pooled)[:0]
	first := op
	for op == opText && c.quirks.has(Fragments) && len(payload) > smallPiece {
		b = appendFrame(b, first, payload[:smallPiece])
		first, payload = opContinuation, payload[smallPiece:]
	}
	b = appendFrame(b, 0x80|first, payload)
	c.tcp.SetWriteDeadline(time.Now().Add(writeTimeout))
	rest := b
	for op == opText && c.quirks.has(SlowSender) && len(rest) > smallPiece {
		if _, err := c.nc.Write(rest[:smallPiece]); err != nil {
			return err
		}
		rest = rest[smallPiece:]
		time.Sleep(slowWrite)
	}
	_, err := c.nc.Write(rest)
	if cap(b) <= 64<<10 {
		*pooled = b
		writeBuffers.Put(pooled)
	}
	return err
}

// appendFrame appends a masked frame with the given first byte.
func appendFrame(b []byte, first byte, payload []byte) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := rand.Uint32()
	b = binary.BigEndian.AppendUint32(b, mask)
	at := len(b)
	b = append(b, payload...)
	applyMask(b[at:], mask)
	return b
}

func applyMask(b []byte, mask uint32) {
	wide := uint64(mask)<<32 | uint64(mask)
	for len(b) >= 8 {
		binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(mask >> (24 - 8*(i&3)))
	}
}

// fallSilent makes the connection one whose network has forgotten it: nothing is
// answered any more, and what arrives is not heard. It says goodbye with a pong that
// nobody asked for (RFC 6455 §5.5.3), so that a server that requires pongs only of
// stations that send some requires them.
func (c *conn) fallSilent() error {
	err := c.write(opPong, nil)
	c.mute.Store(true)
	return err
}

// reset cuts the connection with a TCP RST: no close frame, no TLS alert.
func (c *conn) reset() {
	c.tcp.SetLinger(0)
	c.tcp.Close()
}

// close performs our half of the close handshake, waits a bounded time for the
// peer's, and closes the socket (RFC 6455 §7.1.2).
func (c *conn) close(code int, reason string) {
	defer c.hangUp()
	if c.mute.Load() || c.writeClose(code, reason) != nil {
		return
	}
	br := readers.Get().(*bufio.Reader)
	br.Reset(c)
	defer func() { br.Reset(nil); readers.Put(br) }()
	c.mute.Store(true) // what still arrives is not answered
	c.tcp.SetReadDeadline(time.Now().Add(closeTimeout))
	for {
		if _, err := c.readMessage(br); err != nil {
			return
		}
	}
}

// hangUp closes the socket, with a TLS close_notify where there is TLS.
func (c *conn) hangUp() { c.nc.Close() }
