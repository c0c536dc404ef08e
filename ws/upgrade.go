package ws

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Endpoint is what one listener serves.
type Endpoint struct {
	// Label names the endpoint in metrics, such as "3" for security profile 3.
	Label string
	// TLS is the configuration of TLS, or nil for plain TCP. A configuration
	// that GetConfigForClient returns is kept by the connection for its life,
	// so it must be shared by connections, not cloned for each. After Upgrade
	// the elements of PeerCertificates and VerifiedChains are cleared: nobody
	// may keep these slices (the certificates that they held may be kept).
	// Its callbacks compute only: they hold one of Config.MaxHandshakes.
	TLS *tls.Config
	// Upgrade decides about a request, on the goroutine of the opening. It may
	// block until ctx ends (Config.UpgradeTime, the listener's end).
	Upgrade func(ctx context.Context, r *Request) Response
	// Failed is told of each failed TLS handshake. Optional.
	Failed func(remote netip.AddrPort, err error)
	// TrustProxy lists the peers that must send a PROXY protocol v2 header;
	// nobody else may.
	TrustProxy []netip.Prefix
}

// Request is a valid WebSocket upgrade request. Its strings share memory with
// the whole head: a part that outlives Upgrade, such as an identity cut from
// Path, must be cloned, or it holds half a kilobyte.
type Request struct {
	Path         string      // the escaped path as it was sent, without query
	Query        string      // without "?"
	Host         string      // may be empty
	Header       http.Header // canonical names, at most 64 fields
	Remote       netip.AddrPort
	TLS          *tls.ConnectionState // nil: plain. Valid only during Upgrade
	Subprotocols []string             // offered, in the client's order
}

// Response is the answer to a Request.
type Response struct {
	// Status 101 upgrades; any other is an HTTP answer, after which the
	// connection is closed. 3xx becomes 500: stations do not follow.
	Status int
	// Header holds additional header fields.
	Header http.Header
	// Body is sent as text/plain, unless Status is 101.
	Body string
	// Subprotocol is echoed; "" sends no Sec-WebSocket-Protocol.
	Subprotocol string
	// Deflate permits permessage-deflate if the client offers it. It is agreed
	// on without context takeover in either direction.
	Deflate bool
	// Ping is the connection's ping policy.
	Ping Ping
	// Session receives what happens. Required with 101.
	Session Session
	// CloseCode, with 101, closes right after Opened (no common subprotocol),
	// with CloseText as the reason on the wire and ReasonRefused in Closed.
	CloseCode uint16
	CloseText string
}

// Ping says how a connection is pinged and what its pongs mean.
type Ping struct {
	// Off sends no pings.
	Off bool
	// Interval is the time between pings. 0 means Config.PingInterval.
	Interval time.Duration
	// Require ends the connection when no pong comes within Config.PongTime,
	// even if the peer never ponged. Otherwise a pong is required only after
	// the peer has ponged once, and any frame counts as one.
	Require bool
}

// Session is told what happens on one connection. Calls for one connection are
// serial. They run on workers that all connections share: they may compute and
// take locks, but must not wait for a network or for another station.
type Session interface {
	// Opened comes after the 101 was written and before anything is read.
	Opened(c *Conn)
	// Message delivers one message. data is valid only during the call and may
	// be changed.
	Message(c *Conn, data []byte)
	// Closed comes exactly once, last.
	Closed(c *Conn, reason CloseReason)
}

// BinarySession is a Session that tells binary messages from text. A Session
// without it gets both by Message.
type BinarySession interface {
	Session
	Binary(c *Conn, data []byte)
}

// appendSwitching appends the 101 answer to h.
func appendSwitching(b []byte, h *head, r *Response, extension string) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	sum := sha1.Sum([]byte(h.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	b = append(b, "\r\n"...)
	if r.Subprotocol != "" {
		b = appendField(b, "Sec-WebSocket-Protocol", r.Subprotocol)
	}
	if extension != "" {
		b = appendField(b, "Sec-WebSocket-Extensions", extension)
	}
	for name, values := range r.Header {
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	return append(b, "\r\n"...)
}

// appendAnswer appends an HTTP answer that ends the connection.
func appendAnswer(b []byte, status int, header http.Header, body string) []byte {
	text := http.StatusText(status)
	if status < 200 || status > 599 || status/100 == 3 || text == "" {
		status, text = http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(append(b, ' '), text...), "\r\n"...)
	for name, values := range header {
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	if header.Get("Connection") == "" {
		b = append(b, "Connection: close\r\n"...)
	}
	if body != "" {
		b = append(b, "Content-Type: text/plain; charset=utf-8\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// appendField appends one header field; line breaks cannot get through.
func appendField(b []byte, name, value string) []byte {
	if !isToken(name) {
		return b
	}
	b = append(append(b, name...), ": "...)
	value = strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7F {
			return ' '
		}
		return r
	}, value)
	return append(append(b, value...), "\r\n"...)
}
