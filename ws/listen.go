package ws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// endpoint is an Endpoint with its metrics resolved.
type endpoint struct {
	Endpoint
	label   string
	seconds prometheus.Observer
}

// Serve accepts connections on l until ctx ends, and then closes l, resets
// what is not open yet and returns nil. Open connections stay. Run must be
// running. Errors of accepting pause the loop; only the loss of l ends it.
func (s *Server) Serve(ctx context.Context, l net.Listener, e Endpoint) error {
	if e.Upgrade == nil {
		return errors.New("ws: Endpoint.Upgrade is missing")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	defer l.Close()

	s.listening(l.Addr())

	deferAccept(l)
	ep := &endpoint{Endpoint: e, label: e.Label, seconds: s.metrics.handshakeSeconds.WithLabelValues(e.Label)}
	if ep.TLS != nil {
		ep.TLS = watched(ep.TLS)
	}
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("ws: listener %s: %w", l.Addr(), err)
		case errors.Is(err, syscall.ECONNABORTED): // the peer left before accept
			continue
		default:
			pause = s.acceptPause(ctx, err, pause)
			continue
		}
		s.admit(ctx, conn, ep)
	}
}

// listening notes the port of a listener. It stays known: connections outlive
// their listener.
func (s *Server) listening(a net.Addr) {
	s.ports.Lock()
	defer s.ports.Unlock()
	if s.ports.known == nil {
		s.ports.known = make(map[uint16]bool)
	}
	s.ports.known[addrPort(a).Port()] = true
}

// acceptPause waits after an error of accept, longer each time, and returns
// how long it waited.
func (s *Server) acceptPause(ctx context.Context, err error, last time.Duration) time.Duration {
	reason := pauseOther
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			reason = pauseFiles
		}
	}
	s.metrics.acceptPauses.WithLabelValues(reason).Inc()
	if last == 0 {
		s.cfg.Logger.Error("accepting connections pauses", "err", err)
	}
	pause := min(max(2*last, 5*time.Millisecond), time.Second)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return pause
}

// admit applies the limits that come before TLS and hands conn to the gate. It
// blocks while too many connections wait.
func (s *Server) admit(ctx context.Context, conn net.Conn, ep *endpoint) {
	s.arriving.Add(1)
	defer s.arriving.Add(-1)
	remote := addrPort(conn.RemoteAddr())
	s.changes.Add(1)
	if s.accepted.Add(1) > int64(s.cfg.MaxConnections) {
		s.shed(conn, shedConnections)
		return
	}
	if !ep.proxied(remote.Addr()) && !s.limiter.allow(remote.Addr(), time.Now()) {
		s.shed(conn, shedSource)
		return
	}
	full := func() { s.metrics.acceptPauses.WithLabelValues(pauseWaiting).Inc() }
	if !s.gate.put(ctx, &arrival{ctx: ctx, conn: conn, ep: ep, since: time.Now()}, full) {
		s.shed(conn, shedShutdown)
	}
}

// proxied reports whether a peer must send a PROXY header.
func (ep *endpoint) proxied(peer netip.Addr) bool {
	return slices.ContainsFunc(ep.TrustProxy, func(p netip.Prefix) bool { return p.Contains(peer) })
}
