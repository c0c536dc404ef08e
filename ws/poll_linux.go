//go:build linux && !ws_goroutine

package ws

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readsByGoroutine: an idle connection has none.
const readsByGoroutine = false

// registry knows all parked connections by their descriptor and watches them
// with one epoll set, edge-triggered: a connection is registered once and
// costs no system call at a wake but its reads.
type registry struct {
	epoll int
	file  *os.File // epoll, waited for by the runtime's own poller
	raw   syscall.RawConn

	mu    sync.RWMutex
	conns []*Conn // by descriptor
}

func newRegistry() (*registry, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("ws: create epoll set: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // only then does os.File wait without a thread
		return nil, errors.Join(err, unix.Close(fd))
	}
	r := &registry{epoll: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if r.raw, err = r.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, r.file.Close())
	}
	return r, nil
}

// add watches c's descriptor. What is readable already is reported at once.
func (r *registry) add(c *Conn) error {
	fd := c.sock.fd
	r.mu.Lock()
	if fd >= len(r.conns) {
		grown := make([]*Conn, max(fd+1, len(r.conns)+len(r.conns)/4, 64))
		copy(grown, r.conns)
		r.conns = grown
	}
	r.conns[fd] = c
	r.mu.Unlock()
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		r.remove(c)
		return fmt.Errorf("ws: watch socket: %w", err)
	}
	return nil
}

// watchWrite adds writability to what is reported of a descriptor.
func (r *registry) watchWrite(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, fd, &ev)
}

// remove forgets c, before its descriptor is closed and can be another's.
// Closing takes it out of the epoll set.
func (r *registry) remove(c *Conn) {
	r.mu.Lock()
	if fd := c.sock.fd; fd >= 0 && fd < len(r.conns) && r.conns[fd] == c {
		r.conns[fd] = nil
	}
	r.mu.Unlock()
}

// all returns the connections.
func (r *registry) all() []*Conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []*Conn
	for _, c := range r.conns {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// descriptors returns what cohort each descriptor's connection has, plus one;
// 0 is a descriptor that is no connection's.
func (r *registry) descriptors() []uint16 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	of := make([]uint16, len(r.conns))
	for fd, c := range r.conns {
		if c != nil {
			of[fd] = c.cohort + 1
		}
	}
	return of
}

// run posts events to connections until stop.
func (r *registry) run() error {
	events := make([]unix.EpollEvent, 256)
	var n int
	var err error
	wait := func(fd uintptr) bool {
		n, err = unix.EpollWait(int(fd), events, 0)
		if errors.Is(err, unix.EINTR) {
			n, err = 0, nil
		}
		return n > 0 || err != nil
	}
	for {
		if waitErr := r.raw.Read(wait); waitErr != nil {
			if errors.Is(waitErr, os.ErrDeadlineExceeded) {
				return nil
			}
			return fmt.Errorf("ws: wait for events: %w", waitErr)
		}
		if err != nil {
			return fmt.Errorf("ws: wait for events: %w", err)
		}
		r.mu.RLock()
		for _, ev := range events[:n] {
			// A descriptor may have changed hands since: then its new owner has
			// a turn for nothing.
			if c := r.conns[ev.Fd]; c != nil {
				c.post(eventBits(ev.Events))
			}
		}
		r.mu.RUnlock()
	}
}

func eventBits(events uint32) (bits uint32) {
	if events&unix.EPOLLOUT != 0 {
		bits |= evWrite
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		bits |= evRead
	}
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		bits |= evHup
	}
	return bits
}

// stop ends run.
func (r *registry) stop() { _ = r.file.SetReadDeadline(time.Unix(1, 0)) }

// close gives the epoll set back, after run.
func (r *registry) close() error { return r.file.Close() }

// read reads what is there, decrypted, or returns errWouldBlock.
func (c *Conn) read(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(b)
	}
	return c.sock.Read(b)
}
