package ws

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// CloseReason says why a connection ended, for logs and metric labels. The
// list below is this package's; a caller that closes adds its own constants.
type CloseReason string

const (
	ReasonPeerClose  CloseReason = "peer_close"  // the peer sent a close frame
	ReasonPeerGone   CloseReason = "peer_gone"   // the peer's socket ended without a close frame
	ReasonNoPong     CloseReason = "no_pong"     // a ping went unanswered for PongTime
	ReasonHalfOpen   CloseReason = "half_open"   // TCP gave up: the peer acknowledges nothing
	ReasonSlowReader CloseReason = "slow_reader" // WriteTime or MaxUnsent exceeded
	ReasonSlowSender CloseReason = "slow_sender" // MessageTime exceeded
	ReasonBadFrame   CloseReason = "bad_frame"   // RFC 6455 violated, closed with 1002 (or 1007 for bad compressed data)
	ReasonBadUTF8    CloseReason = "bad_utf8"    // text that is not UTF-8, closed with 1007
	ReasonTooBig     CloseReason = "too_big"     // MaxMessage exceeded, closed with 1009
	ReasonOverload   CloseReason = "overload"    // MaxPartial exceeded, closed with 1013
	ReasonTLSError   CloseReason = "tls_error"   // a TLS record or alert ended the connection
	ReasonRefused    CloseReason = "refused"     // Response.CloseCode asked for it
	ReasonShutdown   CloseReason = "shutdown"    // the server ends
	ReasonPanic      CloseReason = "panic"       // the session's code panicked
)

// Reasons lists the reasons that this package gives by itself.
var Reasons = []CloseReason{
	ReasonPeerClose, ReasonPeerGone, ReasonNoPong, ReasonHalfOpen, ReasonSlowReader,
	ReasonSlowSender, ReasonBadFrame, ReasonBadUTF8, ReasonTooBig, ReasonOverload,
	ReasonTLSError, ReasonRefused, ReasonShutdown, ReasonPanic,
}

var (
	// ErrClosed is returned for a connection that is closing or closed.
	ErrClosed = errors.New("ws: connection is closed")
	// ErrSlowReader is returned when the peer does not read what it is sent.
	ErrSlowReader = errors.New("ws: peer does not read")
)

// ioReason translates an error of the socket or of crypto/tls.
func ioReason(err error) CloseReason {
	switch {
	case errors.Is(err, ErrSlowReader):
		return ReasonSlowReader
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ReasonHalfOpen
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonSlowReader
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return ReasonPeerGone
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return ReasonPeerGone
	}
	return ReasonTLSError
}
