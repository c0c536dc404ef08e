package ws

import (
	"net"
	"net/netip"
	"time"
)

// The socket of a connection, type sock, is the net.Conn below crypto/tls. It
// lives in two states. While the connection is opened it passes everything to
// the accepted net.Conn and blocks. Once parked it never blocks: Read returns
// errWouldBlock, and Write takes everything and queues what the kernel does
// not, since crypto/tls makes an error of Write permanent.

// wouldBlock is errWouldBlock's type. crypto/tls does not make an error
// permanent that is a net.Error and temporary.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "ws: nothing to read" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock error = wouldBlock{}

// handshake is what a socket needs while its connection is opened.
type handshake struct {
	conn  net.Conn
	gate  *gate // nil: reading is not followed by computing
	held  bool  // a slot is held
	there bool  // there is something to read: reading does not wait
}

// Read gives the slot back while it waits.
func (h *handshake) Read(b []byte) (int, error) {
	if !h.there {
		h.wait()
	}
	h.there = false
	n, err := h.conn.Read(b)
	h.compute()
	return n, err
}

// spoken notes that the peer's first bytes are there.
func (h *handshake) spoken() {
	h.there = true
	h.compute()
}

// compute takes a slot, after reading.
func (h *handshake) compute() {
	if h.gate != nil && !h.held {
		h.gate.acquire()
		h.held = true
	}
}

// wait gives the slot back.
func (h *handshake) wait() {
	if h.held {
		h.held = false
		h.gate.release()
	}
}

// computed gives the slot back for good: what is read from now on costs nothing.
func (h *handshake) computed() {
	h.wait()
	h.gate = nil
}

func (k *sock) Read(b []byte) (int, error) {
	if k.hs != nil {
		return k.hs.Read(b)
	}
	return k.readParked(b)
}

func (k *sock) Write(b []byte) (int, error) {
	if k.hs != nil {
		return k.hs.conn.Write(b)
	}
	return k.writeParked(b)
}

// Close does nothing: crypto/tls must not close what the connection owns.
func (k *sock) Close() error { return nil }

// LocalAddr is known only during the opening (tls.ClientHelloInfo.Conn).
func (k *sock) LocalAddr() net.Addr {
	if k.hs != nil {
		return k.hs.conn.LocalAddr()
	}
	return &net.TCPAddr{}
}

// RemoteAddr is the client's address, which a proxy may have told.
func (k *sock) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(k.c.remote) }

// Deadlines are the opening's, on the accepted net.Conn, and the wheel's.
func (k *sock) SetDeadline(time.Time) error      { return nil }
func (k *sock) SetReadDeadline(time.Time) error  { return nil }
func (k *sock) SetWriteDeadline(time.Time) error { return nil }

// unsentBytes is what waits for the peer to read.
type unsentBytes struct {
	b    []byte // b[off:] waits
	off  int
	sent uint64 // bytes taken by the kernel so far
	goal uint64 // what sent must have reached when dueWrite passes
}

func (u *unsentBytes) len() int {
	if u == nil {
		return 0
	}
	return len(u.b) - u.off
}

// took notes that the kernel took n bytes.
func (u *unsentBytes) took(n int) {
	u.off += n
	u.sent += uint64(n)
	if u.off > len(u.b)/2 {
		u.b = u.b[:copy(u.b, u.b[u.off:])]
		u.off = 0
	}
}

// aim sets what has to be reached by the next deadline: all that waits now.
func (u *unsentBytes) aim() { u.goal = u.sent + uint64(u.len()) }

// addrPort returns a's address, or none for other networks than TCP.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
