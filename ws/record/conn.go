package record

import (
	"crypto/cipher"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Alerts that this package sends, §6.
const (
	alertCloseNotify       = tls.AlertError(0)
	alertUnexpectedMessage = tls.AlertError(10)
	alertBadRecordMAC      = tls.AlertError(20)
	alertRecordOverflow    = tls.AlertError(22)
	alertDecodeError       = tls.AlertError(50)
	alertProtocolVersion   = tls.AlertError(70)
	alertInternalError     = tls.AlertError(80)
	alertUserCanceled      = tls.AlertError(90)
)

const (
	levelWarning = 1
	levelFatal   = 2

	typeKeyUpdate = 24 // of a handshake message
	keyUpdateSize = 5

	// maxUseless bounds the records in a row that bring nothing: empty ones,
	// key updates, warnings.
	maxUseless = 16
)

// Conn is the server's side of a TLS connection after its handshake. Read is for
// one goroutine at a time; Write and CloseWrite may be called by any.
type Conn struct {
	under io.ReadWriter
	suite *suite

	in      half
	reading *reading // nil: nothing is read, nothing is wrong
	useless uint8

	mu     sync.Mutex
	closed bool // by CloseWrite or by an alert of ours
	out    half
}

// reading is what reading needs beside the keys.
type reading struct {
	buf   []byte // buf[:at] is used up
	at    int
	lent  bool        // buf is somebody else's
	plain []byte      // content that waits; a part of buf
	aead  cipher.AEAD // nil: make it
	hand  []byte      // the start of a handshake message
	err   error       // for good
}

func (c *Conn) state() *reading {
	if c.reading == nil {
		c.reading = &reading{}
	}
	return c.reading
}

// Lend gives the connection a buffer of at least BufferSize bytes for the reads
// until Return. It refuses while content waits in the buffer that it has.
func (c *Conn) Lend(buf []byte) bool {
	r := c.state()
	if len(r.plain) > 0 {
		return false
	}
	n := copy(buf[:BufferSize], r.buf[r.at:])
	r.buf, r.at, r.lent = buf[:n], 0, true
	return true
}

// Return ends the use of what was lent. It reports whether the buffer stays with
// the connection, because content waits in it. What is left of an incomplete
// record moves to a buffer of its size.
func (c *Conn) Return() (kept bool) {
	r := c.reading
	if r == nil {
		return false
	}
	r.aead = nil
	if len(r.plain) > 0 {
		kept, r.lent = r.lent, false
		return kept
	}
	rest := r.buf[r.at:]
	if len(rest) == 0 && r.err == nil && len(r.hand) == 0 {
		c.reading = nil
		return false
	}
	if r.lent || r.at > 0 {
		r.buf, r.at = append([]byte(nil), rest...), 0
	}
	r.lent = false
	return false
}

// Incomplete reports whether a part of a record waits for the rest.
func (c *Conn) Incomplete() bool { return c.reading != nil && len(c.reading.buf) > c.reading.at }

// Read returns content. An error of the stream below that is temporary, as
// net.Error has it, may be followed by content; any other is for good. After
// close_notify it is io.EOF. What the peer does wrong is a tls.AlertError, which
// it is told as well.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r := c.state()
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if err := c.next(r); err != nil {
			var wait net.Error
			if !errors.As(err, &wait) || !wait.Temporary() { //nolint:staticcheck // as crypto/tls decides it
				r.err = err
			}
			return 0, err
		}
	}
	n := copy(b, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next reads one record and handles it.
func (c *Conn) next(r *reading) error {
	record, err := c.record(r)
	if err != nil {
		return err
	}
	if r.aead == nil {
		if r.aead, err = c.suite.aead(c.in.key[:c.suite.keySize]); err != nil {
			return c.fail(alertInternalError)
		}
	}
	typ, plain, err := c.in.open(c.suite, r.aead, record)
	if err != nil {
		return c.fail(err)
	}
	if typ == typeApplicationData && len(plain) > 0 && len(r.hand) == 0 {
		c.useless = 0
		r.plain = plain
		return nil
	}
	if c.useless++; c.useless > maxUseless {
		return c.fail(alertUnexpectedMessage)
	}
	switch {
	case typ == typeHandshake && c.suite.tls13 && len(plain) > 0:
		return c.handshake(r, plain)
	case len(r.hand) > 0: // §5.1: nothing between the parts of a message
	case typ == typeAlert:
		return c.alerted(plain)
	case typ == typeApplicationData:
		return nil
	}
	return c.fail(alertUnexpectedMessage) // renegotiation, too
}

// record returns the next whole record, which is in r.buf.
func (c *Conn) record(r *reading) ([]byte, error) {
	for {
		b := r.buf[r.at:]
		n := lengthOf(b)
		if n > 0 {
			if err := c.suite.check(b); err != nil {
				return nil, c.fail(err)
			}
			if len(b) >= n {
				r.at += n
				return b[:n], nil
			}
		}
		if cap(r.buf) < BufferSize {
			r.buf, r.at = append(make([]byte, 0, BufferSize), b...), 0
		} else if cap(r.buf)-len(r.buf) == 0 || len(b) == 0 {
			r.buf, r.at = r.buf[:copy(r.buf, b)], 0
		}
		n, err := c.under.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		if n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) && len(r.buf) > r.at {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}

// alerted handles an alert of the peer.
func (c *Conn) alerted(b []byte) error {
	if len(b) != 2 {
		return c.fail(alertDecodeError)
	}
	level, what := b[0], tls.AlertError(b[1])
	switch {
	case what == alertCloseNotify:
		return io.EOF
	case c.suite.tls13 && what == alertUserCanceled, !c.suite.tls13 && level == levelWarning:
		return nil
	}
	return fmt.Errorf("record: the peer: %w", what)
}

// handshake takes a part of handshake messages in TLS 1.3. A client sends only
// KeyUpdate after the handshake, §4.6.3.
func (c *Conn) handshake(r *reading, b []byte) error {
	r.hand = append(r.hand, b...)
	m := r.hand
	switch {
	case m[0] != typeKeyUpdate,
		len(m) > keyUpdateSize: // §5.1: it ends its record
		return c.fail(alertUnexpectedMessage)
	case len(m) < keyUpdateSize:
		return nil
	case m[1] != 0, m[2] != 0, m[3] != 1, m[4] > 1:
		return c.fail(alertDecodeError)
	}
	asked := m[4] == 1
	r.hand, r.aead = nil, nil
	if err := c.in.update(c.suite); err != nil {
		return c.fail(alertInternalError)
	}
	if !asked {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	if err := c.send(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 0}); err != nil {
		return err
	}
	return c.out.update(c.suite)
}

// fail tells the peer why the connection ends, and returns that as an error.
func (c *Conn) fail(err error) error {
	var alert tls.AlertError
	if errors.As(err, &alert) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			c.closed = true
			_ = c.send(typeAlert, []byte{levelFatal, byte(alert)}) // the peer may be gone
		}
	}
	return fmt.Errorf("record: %w", err)
}

// Write sends all of b in as many records as it takes and in one write.
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	if err := c.send(typeApplicationData, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite sends close_notify, once.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.send(typeAlert, []byte{levelWarning, byte(alertCloseNotify)})
}

// maxPooled bounds the buffers that are kept for writing.
const maxPooled = 64 << 10

var sealed = sync.Pool{New: func() any { return new([]byte) }}

// send writes records of one type. Guarded by mu.
func (c *Conn) send(typ byte, b []byte) error {
	a, err := c.suite.aead(c.out.key[:c.suite.keySize])
	if err != nil {
		return err
	}
	buf := sealed.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooled {
			sealed.Put(buf)
		}
	}()
	*buf = (*buf)[:0]
	for len(b) > 0 {
		n := min(len(b), maxPlaintext)
		*buf = c.out.seal(c.suite, a, *buf, typ, b[:n])
		b = b[n:]
	}
	_, err = c.under.Write(*buf)
	return err
}
