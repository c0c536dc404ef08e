// Package ws is the server side of RFC 6455 over TCP and TLS, made for very
// many connections that are idle nearly all the time.
//
// A connection goes through four places:
//
//	listener → gate (bounded, may wait) → opening (a goroutine: PROXY header,
//	TLS, HTTP head, the caller's decision) → parked (no goroutine)
//
// On Linux a parked connection is a bare file descriptor in the package's own
// epoll set, a Conn and, with TLS, a stock tls.Conn without certificates and
// read buffers. It has neither a goroutine nor a buffer. When something
// arrives, one of a bounded number of workers reads until the socket has no
// more, so that no decrypted message ever waits for the next packet; a peer
// that sends half a record or half a frame holds no worker, and what it sent
// is bounded in bytes and time. On other systems, or with the build tag
// ws_goroutine, a connection is a goroutine blocked in Read behind the same
// interface. With ws_records, on Linux, package record carries a connection on
// after the handshake, which leaves a quarter of the TLS state.
//
// The package does not know what is spoken over it, who may connect (the
// caller's Upgrade decides) or why a caller closes. It keeps no identities.
//
// Goroutines: Run owns the event loop, the timers, the workers, the openings
// and, where connections have goroutines, those; it returns when all of them
// have ended. Serve is the accept loop of one listener. Constructors start
// nothing. Locks are taken in the order Conn.mu, crypto/tls's own, sock.mu,
// and then one of the leaves (wheel, queue, registry, gate).
package ws
