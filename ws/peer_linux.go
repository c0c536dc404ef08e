package ws

import (
	"errors"

	"golang.org/x/sys/unix"
)

// peerLeft reports whether the peer closed its end, without reading anything.
func peerLeft(fd uintptr) bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
	return n == 0
}
