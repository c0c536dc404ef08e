package ws

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks at what the peer sent, without reading it.
func peek(fd uintptr) peerState {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case n > 0:
		return peerSpoke
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return peerSilent
	}
	return peerLeft
}

// deferSeconds is how long the kernel keeps a connection to itself, at the cost
// of a request instead of a socket, until its peer sends something. It bounds
// the kernel's patience with a full accept queue, too: in a storm, those who wait
// longer are reset.
const deferSeconds = 15

// deferAccept has l accept only peers that said something, for a while: what
// connects and stays silent, or leaves, costs no file. Other listeners than TCP
// have no such option, and nothing is lost.
func deferAccept(l net.Listener) {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferSeconds)
	})
}
