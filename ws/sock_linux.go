//go:build linux && !ws_goroutine

package ws

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Times of the kernel's own search for dead peers, in seconds and, for the
// last, milliseconds. Pings are the finer instrument.
const (
	keepAliveIdle     = 300
	keepAliveInterval = 30
	keepAliveCount    = 4
	userTimeout       = 120_000 // unacknowledged bytes end the connection
)

// sock is a socket; once parked, a bare file descriptor in the epoll set. The
// descriptor is read and closed only by whoever has the connection's turn.
type sock struct {
	c  *Conn
	hs *handshake // nil once parked

	mu      sync.Mutex
	fd      int // -1: closed
	pending *unsentBytes
	armed   bool // the epoll set reports writability
	fin     bool // shut writing down when all is sent
}

func (k *sock) init(c *Conn, hs *handshake) { k.c, k.hs, k.fd = c, hs, -1 }

// park makes the accepted connection a bare descriptor. The net.Conn and what
// the runtime keeps for it are given up.
func (k *sock) park() error {
	conn := k.hs.conn
	defer conn.Close()
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("ws: %T has no file descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if ctlErr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return fmt.Errorf("dup: %w", err)
	}
	// Not a TCP socket, then these fail and nothing is lost.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	k.fd, k.hs = fd, nil
	return nil
}

// start does nothing: the epoll set tells of what arrives.
func (k *sock) start() {}

func (k *sock) readParked(b []byte) (int, error) {
	for {
		n, err := unix.Read(k.fd, b)
		switch {
		case err == nil && n == 0 && len(b) > 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, errWouldBlock
		case !errors.Is(err, unix.EINTR):
			return 0, err
		}
	}
}

// writeParked takes all of b, or fails for good.
func (k *sock) writeParked(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return 0, net.ErrClosed
	}
	n := 0
	if k.pending == nil {
		var err error
		if n, err = write(k.fd, b); err != nil {
			return 0, err
		}
		if n == len(b) {
			return n, nil
		}
		k.pending = &unsentBytes{}
		if err := k.arm(); err != nil {
			return 0, err
		}
	}
	k.pending.b = append(k.pending.b, b[n:]...)
	k.c.s.unsent.Add(int64(len(b) - n))
	if k.pending.goal == 0 {
		k.pending.aim()
		k.c.s.wheel.set(k.c, dueWrite, k.c.s.cfg.WriteTime)
	}
	return len(b), nil
}

// arm asks the epoll set for writability, once: the edge comes again each time
// after the socket was full.
func (k *sock) arm() error {
	if k.armed {
		return nil
	}
	k.armed = true
	return k.c.s.registry.watchWrite(k.fd)
}

// write writes what the kernel takes.
func write(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := unix.Write(fd, b[n:])
		switch {
		case err == nil:
			n += m
		case errors.Is(err, unix.EAGAIN):
			return n, nil
		case !errors.Is(err, unix.EINTR):
			return n, err
		}
	}
	return n, nil
}

// flush sends what waits, as far as the socket takes it.
func (k *sock) flush() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil || k.fd < 0 {
		return nil
	}
	n, err := write(k.fd, k.pending.b[k.pending.off:])
	k.c.s.unsent.Add(-int64(n))
	k.pending.took(n)
	if err != nil {
		return err
	}
	if k.pending.len() == 0 {
		k.pending = nil
		k.c.s.wheel.clear(k.c, dueWrite)
		if k.fin {
			return unix.Shutdown(k.fd, unix.SHUT_WR)
		}
	}
	return nil
}

// unsent returns the bytes that wait.
func (k *sock) unsent() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pending.len()
}

// overdue reports, at dueWrite, whether what waited at the last one still does.
func (k *sock) overdue() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending == nil {
		return false
	}
	if k.pending.sent < k.pending.goal {
		return true
	}
	k.pending.aim()
	k.c.s.wheel.set(k.c, dueWrite, k.c.s.cfg.WriteTime)
	return false
}

// closeWrite ends our direction once everything is sent.
func (k *sock) closeWrite() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fin = true
	if k.pending == nil && k.fd >= 0 {
		_ = unix.Shutdown(k.fd, unix.SHUT_WR) // fails only if the peer is gone
	}
}

// failure returns the socket's error.
func (k *sock) failure() error {
	if n, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		return syscall.Errno(n)
	}
	return io.EOF
}

// close gives the descriptor back. With rst the peer gets a reset and the
// kernel forgets what was not acknowledged.
func (k *sock) close(rst bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return
	}
	if rst {
		_ = unix.SetsockoptLinger(k.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = unix.Close(k.fd)
	k.fd = -1
	k.c.s.unsent.Add(-int64(k.pending.len()))
	k.pending = nil
}
