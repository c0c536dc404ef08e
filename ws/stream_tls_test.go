//go:build !linux || ws_goroutine || !ws_records

package ws

import "crypto/tls"

// connSize is the allocator's size class of a Conn.
const connSize = 256

func stock(t tlsStream) *tls.Conn { return t }
