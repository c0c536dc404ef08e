//go:build linux && !ws_goroutine

package ws

import (
	"testing"

	"golang.org/x/sys/unix"
)

// untilIdle waits until c took everything that its peer wrote before the call
// and has no turn: whatever is incomplete now waits without a goroutine.
func untilIdle(t testing.TB, c *Conn) {
	t.Helper()
	eventually(t, "connection idle", func() bool {
		c.sock.mu.Lock()
		defer c.sock.mu.Unlock()
		if c.sock.fd < 0 {
			return true
		}
		n, err := unix.IoctlGetInt(c.sock.fd, unix.TIOCINQ)
		return err == nil && n == 0 && c.state.Load() == 0
	})
}
