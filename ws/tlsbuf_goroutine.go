//go:build !linux || ws_goroutine

package ws

import "crypto/tls"

// A goroutine is always inside of tls.Conn.Read here: its buffers are in use.

func releasesBuffers() bool { return false }

func forgetHandshake(*tls.Conn) {}

func lend(*tls.Conn, *scratch) {}

func unlend(*tls.Conn, *scratch) {}

func halfRecord(*tls.Conn) bool { return false }
