//go:build linux && !ws_goroutine

package ws

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// strangers counts the sockets of this process that are connected to one of the
// ports and belong to no open connection: those between accept and upgrade, and
// any that were lost. It costs about a microsecond for every open file.
func (r *registry) strangers(ports map[uint16]bool) (int64, error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return 0, err
	}
	ours := r.descriptors()
	n := int64(0)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < len(ours) && ours[fd] != 0 {
			continue
		}
		// What is no socket, or closed by now, is no stranger.
		address, err := unix.Getsockname(fd)
		if err != nil {
			continue
		}
		port := 0
		switch a := address.(type) {
		case *unix.SockaddrInet4:
			port = a.Port
		case *unix.SockaddrInet6:
			port = a.Port
		}
		if !ports[uint16(port)] {
			continue
		}
		if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listening == 0 {
			n++
		}
	}
	return n, nil
}
