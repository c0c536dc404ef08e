//go:build !linux || ws_goroutine || !ws_records

package ws

import (
	"crypto/tls"
	"io"
)

// tlsStream is what carries a connection with TLS.
type tlsStream = *tls.Conn

// watch is what has to be known of the handshake beside what crypto/tls tells.
type watch struct{}

// watched is the configuration with which a handshake is watched.
func watched(cfg *tls.Config) *tls.Config { return cfg }

// server begins the handshake.
func (o *opener) server() *tls.Conn { return tls.Server(&o.c.sock, o.ep.TLS) }

// content is the stream while the connection is opened.
func (o *opener) content() io.ReadWriter { return o.tls }

// handshakes is what a failed opening gives up.
func (o *opener) handshakes() tlsStream { return o.tls }

// carryOn makes the stream that of the open connection.
func (o *opener) carryOn() {
	forgetHandshake(o.tls)
	o.c.tls = o.tls
	o.s.metrics.carried.WithLabelValues(carriedByTLS).Inc()
}

func retireTLS(s *Server, cohort uint16, t tlsStream) { retire(s, ObjectTLS, cohort, t) }

func (c *Conn) lend(w *scratch) {
	if c.tls != nil {
		lend(c.tls, w)
	}
}

func (c *Conn) unlend(w *scratch) {
	if c.tls != nil {
		unlend(c.tls, w)
		return
	}
	if w.lent { // gone meanwhile, and with it the buffer
		w.raw, w.lent = nil, false
	}
}

// halfRecord reports whether part of a TLS record waits for the rest.
func (c *Conn) halfRecord() bool { return c.tls != nil && halfRecord(c.tls) }
