//go:build !linux || ws_goroutine

package ws

import (
	"io"
	"net"
	"runtime/pprof"
	"sync"
	"time"
)

// sock is a socket; once parked, a net.Conn with a goroutine that reads from
// it, and another one while something waits to be written.
type sock struct {
	c  *Conn
	hs *handshake // nil once parked

	// Set by park, then read-only.
	conn net.Conn
	pump *pump

	mu      sync.Mutex
	closed  bool // or not parked yet
	pending *unsentBytes
	fin     bool // shut writing down when all is sent
}

func (k *sock) init(c *Conn, hs *handshake) { k.c, k.hs, k.closed = c, hs, true }

func (k *sock) park() error {
	k.conn, k.hs, k.closed = k.hs.conn, nil, false
	k.pump = &pump{taken: make(chan struct{}, 1), over: make(chan struct{})}
	return k.conn.SetDeadline(time.Time{})
}

// start starts the reading goroutine.
func (k *sock) start() {
	c := k.c
	var r io.Reader = k.conn
	if c.tls != nil {
		r = c.tls
	}
	c.s.registry.goroutines.Go(func() {
		pprof.SetGoroutineLabels(readingLabels)
		k.pump.run(c, r)
	})
}

// pump reads for a connection: what it read is taken during a turn, then it
// reads on.
type pump struct {
	taken chan struct{} // data and err were taken
	over  chan struct{} // closed with the socket

	mu   sync.Mutex
	data []byte
	err  error
}

func (p *pump) run(c *Conn, r io.Reader) {
	buf := make([]byte, 2<<10)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.data, p.err = buf[:n], err
		p.mu.Unlock()
		c.post(evRead)
		if err != nil {
			return
		}
		select {
		case <-p.taken:
		case <-p.over:
			return
		}
	}
}

// take copies what was read.
func (p *pump) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := copy(b, p.data)
	p.data = p.data[n:]
	switch {
	case n > 0 && len(p.data) == 0 && p.err == nil:
		p.taken <- struct{}{}
		return n, nil
	case len(p.data) == 0 && p.err != nil:
		return n, p.err
	case n == 0:
		return 0, errWouldBlock
	}
	return n, nil
}

func (c *Conn) read(b []byte) (int, error) { return c.sock.pump.take(b) }

// readParked is called by crypto/tls, on the reading goroutine.
func (k *sock) readParked(b []byte) (int, error) { return k.conn.Read(b) }

// writeParked takes all of b and has it written by a goroutine.
func (k *sock) writeParked(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return 0, net.ErrClosed
	}
	idle := k.pending == nil
	if idle {
		k.pending = &unsentBytes{}
	}
	k.pending.b = append(k.pending.b, b...)
	k.c.s.unsent.Add(int64(len(b)))
	if idle {
		k.c.s.registry.goroutines.Go(k.drain)
	}
	return len(b), nil
}

// drain writes what waits, until nothing does. After close it is the one that
// closes the connection.
func (k *sock) drain() {
	var chunk [4 << 10]byte
	for {
		k.mu.Lock()
		if k.pending.len() == 0 {
			k.pending = nil
			switch {
			case k.closed:
				_ = k.conn.Close()
			case k.fin:
				k.shutWrite()
			}
			k.mu.Unlock()
			k.c.post(evWrite)
			return
		}
		b := chunk[:copy(chunk[:], k.pending.b[k.pending.off:])]
		if !k.closed {
			_ = k.conn.SetWriteDeadline(time.Now().Add(k.c.s.cfg.WriteTime)) // Write fails then, too
		}
		k.mu.Unlock()

		n, err := k.conn.Write(b)
		k.mu.Lock()
		k.pending.took(n)
		if !k.closed {
			k.c.s.unsent.Add(-int64(n))
		}
		if err != nil {
			k.c.s.unsent.Add(-int64(k.leftover()))
			k.pending = &unsentBytes{}
		}
		k.mu.Unlock()
		if err != nil {
			k.c.Abort(ioReason(err))
		} else {
			k.c.post(evWrite)
		}
	}
}

// leftover returns what is counted as unsent and will not be sent.
func (k *sock) leftover() int {
	if k.closed {
		return 0
	}
	return k.pending.len()
}

func (k *sock) flush() error  { return nil }
func (k *sock) overdue() bool { return false }

func (k *sock) unsent() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pending.len()
}

func (k *sock) closeWrite() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fin = true
	if k.pending == nil {
		k.shutWrite()
	}
}

func (k *sock) shutWrite() {
	if w, ok := k.conn.(interface{ CloseWrite() error }); ok && !k.closed {
		_ = w.CloseWrite() // fails only if the peer is gone
	}
}

func (k *sock) failure() error { return io.EOF }

func (k *sock) close(rst bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.closed = true
	close(k.pump.over)
	k.c.s.unsent.Add(-int64(k.pending.len()))
	switch {
	case rst:
		reset(k.conn)
	case k.pending != nil: // the close frame, most likely
		_ = k.conn.SetDeadline(time.Now().Add(lingerTime)) // drain closes
	default:
		_ = k.conn.Close()
	}
}
