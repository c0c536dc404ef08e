//go:build linux && !ws_goroutine && ws_records

package ws

import (
	"crypto/tls"
	"io"

	"holdfast/ws/record"
)

// With the build tag ws_records, an open connection is carried by package
// record, which keeps its keys and no expanded ciphers; crypto/tls does the
// handshake, and keeps the connections that record does not take.

// tlsStream is what carries a connection with TLS: a *record.Conn or a *tls.Conn.
type tlsStream interface {
	io.ReadWriter
	CloseWrite() error
}

// watch is what has to be known of the handshake beside what crypto/tls tells.
type watch = *record.Handshake

// watched is the configuration with which a handshake is watched.
func watched(cfg *tls.Config) *tls.Config { return record.Config(cfg) }

// server begins the handshake.
func (o *opener) server() *tls.Conn {
	o.watch = &record.Handshake{Conn: &o.c.sock}
	return tls.Server(o.watch, o.ep.TLS)
}

// content is the stream while the connection is opened.
func (o *opener) content() io.ReadWriter { return taking{o.tls, o.watch} }

// taking tells the watch what was read.
type taking struct {
	*tls.Conn
	watch watch
}

func (t taking) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.watch.Took(n)
	return n, err
}

// handshakes is what a failed opening gives up.
func (o *opener) handshakes() tlsStream {
	if o.tls == nil {
		return nil
	}
	return o.tls
}

// carryOn makes the stream that of the open connection.
func (o *opener) carryOn() {
	if r, rest := o.watch.Take(o.tls.ConnectionState(), &o.c.sock); r != nil {
		o.rest = append(o.rest, rest...)
		o.c.tls = r
		retire(o.s, ObjectHandshake, o.c.cohort, o.tls)
		o.s.metrics.carried.WithLabelValues(carriedByRecord).Inc()
		return
	}
	forgetHandshake(o.tls)
	o.c.tls = o.tls
	o.s.metrics.carried.WithLabelValues(carriedByTLS).Inc()
}

func retireTLS(s *Server, cohort uint16, t tlsStream) {
	switch t := t.(type) {
	case *tls.Conn:
		retire(s, ObjectTLS, cohort, t)
	case *record.Conn:
		retire(s, ObjectTLS, cohort, t)
	}
}

func (c *Conn) lend(w *scratch) {
	switch t := c.tls.(type) {
	case *tls.Conn:
		lend(t, w)
	case *record.Conn:
		if w.raw == nil {
			w.raw = make([]byte, 0, rawSize)
		}
		w.lent = t.Lend(w.raw)
	}
}

func (c *Conn) unlend(w *scratch) {
	switch t := c.tls.(type) {
	case *tls.Conn:
		unlend(t, w)
		return
	case *record.Conn:
		w.lent = false
		if t.Return() {
			w.raw = nil
		}
		return
	}
	if w.lent { // gone meanwhile, and with it the buffer
		w.raw, w.lent = nil, false
	}
}

// halfRecord reports whether part of a TLS record waits for the rest.
func (c *Conn) halfRecord() bool {
	switch t := c.tls.(type) {
	case *tls.Conn:
		return halfRecord(t)
	case *record.Conn:
		return t.Incomplete()
	}
	return false
}
