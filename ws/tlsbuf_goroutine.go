//go:build !linux || ws_goroutine

package ws

import "crypto/tls"

// A goroutine is always inside of tls.Conn.Read here: its buffers are in use.

func releasesBuffers() bool { return false }

func forgetHandshake(*tls.Conn) {}

func (c *Conn) lend(*scratch) {}

func (c *Conn) unlend(*scratch) {}

func (c *Conn) halfRecord() bool { return false }
