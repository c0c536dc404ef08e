package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unique"
)

// opening takes an accepted connection through PROXY header, TLS, HTTP head
// and the caller's decision, and parks it. It runs on a goroutine of the gate
// and begins with a slot.
func (s *Server) opening(a *arrival) {
	hs := &handshake{conn: a.conn, gate: &s.gate, held: true}
	defer hs.wait()
	if a.ctx.Err() != nil {
		s.shed(a.conn, shedShutdown)
		return
	}
	if time.Since(a.since) > s.cfg.WaitTime {
		s.shed(a.conn, shedExpired)
		return
	}
	// Deadlines fail only if the peer is gone, which reading tells.
	unblock := context.AfterFunc(a.ctx, func() { _ = a.conn.SetDeadline(time.Unix(1, 0)) })
	if said := s.hello(hs, a); said != peerSpoke {
		switch late := time.Since(a.since) >= s.cfg.HandshakeTime; {
		case !unblock():
			s.shed(a.conn, shedShutdown)
		case said == peerLeft:
			s.shed(a.conn, shedGone)
		case late || !s.gate.again(a):
			s.shed(a.conn, shedSilent)
		}
		return
	}
	_ = a.conn.SetDeadline(time.Now().Add(s.cfg.HandshakeTime))
	o := &opener{s: s, ep: a.ep, ctx: a.ctx}
	o.c = &Conn{s: s, ep: a.ep, remote: addrPort(a.conn.RemoteAddr())}
	o.c.sock.init(o.c, hs)
	ok := o.run(a.conn)
	if !unblock() {
		ok = false // its deadlines are spoiled
	}
	if !ok {
		_ = a.conn.Close()
		o.c.cohort = s.cohorts.of(Cohort{Label: a.ep.label, TLSVersion: o.c.tlsVersion})
		s.retire(o.c, o.handshakes())
		s.released()
		return
	}
	o.park()
}

// helloTime is how long a peer that says nothing keeps an opening from others
// who wait; then it goes to the end of the line. A station speaks first, and at
// once, but in a storm its first packet may be lost, and comes again after a
// second or two.
const helloTime = 3 * time.Second

// hello waits for the first byte, without reading it and without a slot. It
// returns peerSilent after helloTime if others wait, and after HandshakeTime.
func (s *Server) hello(hs *handshake, a *arrival) peerState {
	sc, ok := a.conn.(syscall.Conn)
	if !ok {
		return peerSpoke // reading finds out
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return peerLeft
	}
	for {
		_ = a.conn.SetReadDeadline(time.Now().Add(min(helloTime, s.cfg.HandshakeTime)))
		said := peerSilent
		err := raw.Read(func(fd uintptr) bool {
			if said = peek(fd); said == peerSilent {
				hs.wait()
			}
			return said != peerSilent
		})
		switch {
		case said == peerSpoke:
			hs.spoken()
			return said
		case said == peerLeft, !errors.Is(err, os.ErrDeadlineExceeded):
			return peerLeft
		case s.gate.waiting() > 0, time.Since(a.since) >= s.cfg.HandshakeTime, a.ctx.Err() != nil:
			return peerSilent
		}
	}
}

// opener is one opening at work.
type opener struct {
	s     *Server
	ep    *endpoint
	ctx   context.Context
	c     *Conn
	tls   *tls.Conn // nil: plain
	watch watch     // of what is below it

	response Response
	rest     []byte // what came after the head
	more     bool   // the peer sends more than a head
}

// heads keeps buffers for HTTP heads of usual size: in a storm, a thousand
// openings wait for theirs.
var heads = sync.Pool{New: func() any { b := make([]byte, usualHead); return &b }}

const usualHead = 1 << 10

// run does everything up to the 101 answer, and reports whether that was sent.
func (o *opener) run(conn net.Conn) bool {
	if o.ep.proxied(o.c.remote.Addr()) {
		remote, err := readProxyHeader(&o.c.sock, o.c.remote)
		if err != nil || !o.s.limiter.allow(remote.Addr(), time.Now()) {
			reason := shedProxy
			if err == nil {
				reason = shedSource
			}
			o.s.metrics.sheds.WithLabelValues(reason).Inc()
			reset(conn)
			return false
		}
		o.c.remote = remote
	}
	h, ok := o.request()
	o.c.sock.hs.computed()
	return ok && o.answer(h)
}

// request does the TLS handshake and reads the head. It answers what cannot
// be upgraded.
func (o *opener) request() (*head, bool) {
	var stream io.ReadWriter = &o.c.sock
	if o.ep.TLS != nil {
		if !o.handshake() {
			return nil, false
		}
		stream = o.content()
	}
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	h, rest, err := readHead(stream, *buf)
	if err != nil {
		var bad *headError
		if errors.As(err, &bad) {
			o.s.metrics.badRequest(o.ep.label, bad.status)
			o.c.sock.hs.computed()
			o.more = true
			o.reply(bad.status, bad.header, bad.text+"\n")
		}
		return nil, false
	}
	o.rest = append([]byte(nil), rest...)
	o.more = len(rest) > 0
	return h, true
}

// handshake does the TLS handshake and counts it.
func (o *opener) handshake() bool {
	start := time.Now()
	t := o.server()
	if err := t.HandshakeContext(o.ctx); err != nil {
		kind := o.s.metrics.failure(err)
		o.s.metrics.handshakes.WithLabelValues(o.ep.label, kind).Inc()
		var record tls.RecordHeaderError
		if errors.As(err, &record) && record.Conn != nil && strings.HasPrefix(string(record.RecordHeader[:]), "GET ") {
			o.reply(http.StatusBadRequest, nil, "TLS is required\n")
		}
		if o.ep.Failed != nil {
			o.ep.Failed(o.c.remote, err)
		}
		o.tls = t // only to be retired: what is answered after this is answered by nobody
		return false
	}
	o.ep.seconds.Observe(time.Since(start).Seconds())
	o.tls = t
	state := t.ConnectionState()
	o.c.tlsVersion, o.c.tlsSuite, o.c.resumed = state.Version, state.CipherSuite, state.DidResume
	result := handshakeFull
	if state.DidResume {
		result = handshakeResumed
	}
	o.s.metrics.handshakes.WithLabelValues(o.ep.label, result).Inc()
	return true
}

// readHead reads up to the head's end and returns what was read beyond it,
// which stays in buf, or in a buffer of maxHead bytes if that is too small.
func readHead(r io.Reader, buf []byte) (*head, []byte, error) {
	for n := 0; ; {
		m, err := r.Read(buf[n:])
		if end := headEnd(buf[:n+m], n); end > 0 {
			h, bad := parseHead(buf[:end])
			if bad != nil {
				return nil, nil, bad
			}
			return h, buf[end : n+m], nil
		}
		n += m
		if err != nil {
			return nil, nil, fmt.Errorf("read HTTP head: %w", err)
		}
		if n == len(buf) && n < maxHead {
			buf = append(make([]byte, 0, maxHead), buf...)[:maxHead]
		}
		if n == len(buf) {
			return nil, nil, &headError{status: http.StatusRequestHeaderFieldsTooLarge, text: "request head is too large"}
		}
	}
}

// answer asks the caller and writes what it decided.
func (o *opener) answer(h *head) bool {
	h.Remote = o.c.remote
	var state tls.ConnectionState
	if o.tls != nil {
		state = o.tls.ConnectionState()
		h.TLS = &state
	}
	ctx, cancel := context.WithTimeout(o.ctx, o.s.cfg.UpgradeTime)
	r, ok := o.upgrade(ctx, &h.Request)
	cancel()
	forgetCertificates(state)
	if !ok || r.Status == http.StatusSwitchingProtocols && r.Session == nil {
		r = Response{Status: http.StatusInternalServerError}
	}
	// Upgrade took its own time.
	_ = o.c.sock.hs.conn.SetDeadline(time.Now().Add(o.s.cfg.HandshakeTime))
	if o.ctx.Err() != nil {
		return false
	}
	if r.Status != http.StatusSwitchingProtocols {
		o.reply(r.Status, r.Header, r.Body)
		return false
	}
	var extension string
	if r.Deflate {
		o.c.agreed, extension = agree(h.offers)
	}
	buf := frames.get()
	defer frames.put(buf)
	buf.b = appendSwitching(buf.b[:0], h, &r, extension)
	if o.write(buf.b) != nil {
		return false
	}
	o.response = r
	return true
}

// upgrade calls Endpoint.Upgrade; a panic is an internal error.
func (o *opener) upgrade(ctx context.Context, r *Request) (resp Response, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			o.s.metrics.panics.Inc()
			o.s.cfg.Logger.Error("upgrade panicked", "err", v)
		}
	}()
	return o.ep.Upgrade(ctx, r), true
}

// reply answers and ends the stream in order.
func (o *opener) reply(status int, header http.Header, body string) {
	buf := frames.get()
	defer frames.put(buf)
	buf.b = appendAnswer(buf.b[:0], status, header, body)
	if o.write(buf.b) != nil {
		return
	}
	if o.tls != nil {
		_ = o.tls.CloseWrite() // the connection is closed next, whatever this says
	}
	if o.more {
		o.linger()
	}
}

// lingerTime bounds how long an answer may take to arrive.
const lingerTime = 500 * time.Millisecond

// linger reads what the peer goes on sending, for a short time: closing a
// socket that has unread bytes resets it, and the answer would be lost.
func (o *opener) linger() {
	conn := o.c.sock.hs.conn
	if w, ok := conn.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		return
	}
	if conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, conn, 64<<10)
	}
}

func (o *opener) write(b []byte) error {
	var err error
	if o.tls != nil {
		_, err = o.tls.Write(b)
	} else {
		_, err = o.c.sock.Write(b)
	}
	return err
}

// forgetCertificates clears the certificates that a tls.Conn keeps: the state
// shares its slices. They are more than half of what it keeps.
func forgetCertificates(state tls.ConnectionState) {
	clear(state.PeerCertificates)
	for _, chain := range state.VerifiedChains {
		clear(chain)
	}
	clear(state.VerifiedChains)
}

// park makes the connection an idle one and gives it its first turn.
func (o *opener) park() {
	c, s, r := o.c, o.s, &o.response
	conn := c.sock.hs.conn
	c.session = r.Session
	c.subprotocol = unique.Make(r.Subprotocol)
	c.cohort = s.cohorts.of(Cohort{Label: c.ep.label, TLSVersion: c.tlsVersion, Subprotocol: r.Subprotocol})
	c.pingRequire = r.Ping.Require
	if !r.Ping.Off {
		if c.pingEvery = r.Ping.Interval; c.pingEvery <= 0 {
			c.pingEvery = s.cfg.PingInterval
		}
	}
	if o.tls != nil {
		o.carryOn()
	}
	if len(o.rest) > 0 {
		c.inbound().buf = o.rest
	}
	c.state.Store(scheduled)
	c.phase.Store(phaseOpen)
	s.open.Add(1)
	s.changes.Add(1)
	err := c.sock.park()
	if err == nil {
		err = s.registry.add(c)
	}
	if err != nil {
		s.cfg.Logger.Error("connection cannot be kept", "err", err)
		_ = conn.Close()
		c.Abort(ReasonOverload)
	} else {
		if c.pingEvery > 0 {
			s.wheel.set(c, duePing, jitter(c.pingEvery, 0.5, 1))
		}
		c.sock.start()
	}
	c.state.Or(evRead) // what came with the head, or since
	c.opened()
	if r.CloseCode != 0 {
		c.Close(r.CloseCode, r.CloseText, ReasonRefused)
	}
	s.queue.push(c)
}

// opened tells the session.
func (c *Conn) opened() {
	defer func() {
		if v := recover(); v != nil {
			c.s.metrics.panics.Inc()
			c.s.cfg.Logger.Error("session panicked", "err", v)
			c.Abort(ReasonPanic)
		}
	}()
	c.session.Opened(c)
}
