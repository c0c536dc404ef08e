//go:build unix

package fleet

import "syscall"

// readable waits until the socket has something to read, or its read deadline
// passes. It needs far less stack than a read through TLS, which is what a
// station's memory is made of while it idles.
func (c *conn) readable() error {
	return c.raw.Read(func(fd uintptr) bool {
		var one [1]byte
		for {
			_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN // data, the end, or an error for the reader to find
			}
		}
	})
}
