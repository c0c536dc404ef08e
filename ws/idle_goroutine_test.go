//go:build !linux || ws_goroutine

package ws

import "testing"

func untilIdle(t testing.TB, c *Conn) {
	t.Helper()
	eventually(t, "connection idle", func() bool { return c.state.Load() == 0 })
}
