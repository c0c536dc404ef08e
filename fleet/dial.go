package fleet

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/ocpp"
)

// maxUpgradeAnswer is the longest answer to an upgrade request, in bytes.
const maxUpgradeAnswer = 16 << 10

// Refused is a server's answer to an upgrade request other than 101.
type Refused struct {
	Status int // HTTP status
}

func (e *Refused) Error() string { return fmt.Sprintf("upgrade refused with HTTP %d", e.Status) }

// errNoSubprotocol: 101 without a subprotocol, or with one that was not offered.
var errNoSubprotocol = errors.New("upgraded without the offered subprotocol")

// handshake is what one attempt to connect presents. The zero values of a
// station's own attempt come from its identity; faults change them.
type handshake struct {
	station     ocpp.StationID
	profile     ocpp.SecurityProfile
	target      target
	tls         *tls.Config // nil: plain
	certificate *tls.Certificate
	user        string // of Basic; empty: no Authorization header
	password    string
	protocols   string // Sec-WebSocket-Protocol; empty: none
	want        string // the subprotocol that must come back
	path        string // instead of the target's and the station's identity
	quirks      quirks
}

// open makes one attempt. On success the returned reader may hold the first
// frames already.
func (f *Fleet) open(ctx context.Context, h handshake) (*conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HandshakeTimeout)
	defer cancel()
	tcp, err := f.cfg.Dial(ctx, h.station, h.target.address)
	if err != nil {
		return nil, nil, &connectError{errorDial, err}
	}
	stop := context.AfterFunc(ctx, func() { tcp.SetDeadline(past) })
	c, br, err := f.upgrade(ctx, tcp, h)
	if !stop() { // too late, or the end of Run
		if err == nil {
			br.Reset(nil)
			readers.Put(br)
		}
		err = &connectError{errorTimeout, ctx.Err()}
	}
	if err != nil {
		tcp.SetLinger(0)
		tcp.Close()
		return nil, nil, err
	}
	return c, br, nil
}

// upgrade makes tcp a WebSocket connection.
func (f *Fleet) upgrade(ctx context.Context, tcp *net.TCPConn, h handshake) (*conn, *bufio.Reader, error) {
	nc := net.Conn(tcp)
	if h.tls != nil {
		tc := tls.Client(tcp, h.tls)
		if err := tc.HandshakeContext(context.WithValue(ctx, presentedKey{}, &presented{h.certificate})); err != nil {
			return nil, nil, &connectError{errorTLS, err}
		}
		nc = tc
	}
	var nonce [16]byte
	for i := range nonce {
		nonce[i] = byte(rand.Uint32())
	}
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if _, err := io.WriteString(nc, h.request(key)); err != nil {
		return nil, nil, &connectError{errorDial, fmt.Errorf("upgrade request: %w", err)}
	}
	limited := &io.LimitedReader{R: nc, N: maxUpgradeAnswer}
	br := readers.Get().(*bufio.Reader)
	br.Reset(limited)
	err := checkUpgrade(br, key, h.want)
	limited.N = math.MaxInt64
	var c *conn
	if err == nil {
		if c, err = newConn(nc, tcp, h.profile, f.cfg.MaxMessage); err == nil {
			c.quirks = h.quirks
		}
	}
	if err != nil {
		br.Reset(nil)
		readers.Put(br)
		return nil, nil, err
	}
	return c, br, nil
}

// request is the upgrade request.
func (h *handshake) request(key string) string {
	request := &http.Request{Header: http.Header{}}
	if h.user != "" {
		request.SetBasicAuth(h.user, h.password)
	}
	path, identity := strings.TrimRight(h.target.url.EscapedPath(), "/"), url.PathEscape(string(h.station))
	if h.quirks.has(RawIdentity) {
		identity = string(h.station)
	}
	path += "/" + identity
	switch {
	case h.path != "":
		path = h.path
	case h.quirks.has(DoubledSlashes):
		path = strings.ReplaceAll(path, "/", "//") + "/"
	case h.quirks.has(RepeatedIdentity):
		path += "/" + identity
	case h.quirks.has(AbsoluteURI):
		path = h.target.url.Scheme + "://" + h.target.url.Host + path
	}
	upgrade := "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	switch {
	case h.quirks.has(NoConnectionHeader):
		upgrade = "Upgrade: websocket\r\n"
	case h.quirks.has(OddHeaderCase):
		upgrade = "upgrade: WebSocket\r\nconnection: upgrade\r\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n%s", path, h.target.url.Host, upgrade)
	fmt.Fprintf(&b, "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", key)
	if h.protocols != "" {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", h.protocols)
	}
	if basic := request.Header.Get("Authorization"); basic != "" {
		if h.quirks.has(OddHeaderCase) {
			basic = "basic" + strings.TrimPrefix(basic, "Basic")
		}
		fmt.Fprintf(&b, "Authorization: %s\r\n", basic)
	}
	b.WriteString("\r\n")
	return b.String()
}

// checkUpgrade reads the answer to the upgrade request (RFC 6455 §4.1).
func checkUpgrade(br *bufio.Reader, key, want string) error {
	answer, err := http.ReadResponse(br, nil)
	if err != nil {
		// In TLS 1.3 a server's refusal of our certificate arrives only here.
		if isRemoteAlert(err) {
			return &connectError{errorTLS, err}
		}
		return &connectError{errorUpgrade, fmt.Errorf("answer to the upgrade: %w", err)}
	}
	switch {
	case answer.StatusCode == http.StatusUnauthorized:
		return &connectError{errorUnauthorized, &Refused{answer.StatusCode}}
	case answer.StatusCode == http.StatusNotFound:
		return &connectError{errorNotFound, &Refused{answer.StatusCode}}
	case answer.StatusCode != http.StatusSwitchingProtocols:
		return &connectError{errorRefused, &Refused{answer.StatusCode}}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	switch {
	case !strings.EqualFold(answer.Header.Get("Upgrade"), "websocket"),
		!strings.Contains(strings.ToLower(answer.Header.Get("Connection")), "upgrade"),
		answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return &connectError{errorUpgrade, errors.New("101 without Upgrade, Connection or the right Sec-WebSocket-Accept")}
	case answer.Header.Get("Sec-WebSocket-Extensions") != "":
		return &connectError{errorUpgrade, errors.New("extension that was not offered")}
	case answer.Header.Get("Sec-WebSocket-Protocol") != want:
		return &connectError{errorSubprotocol, errNoSubprotocol}
	}
	return nil
}

// isRemoteAlert reports whether err is an alert that the peer sent.
func isRemoteAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// connectError says in which step an attempt to connect ended.
type connectError struct {
	kind errorKind
	err  error
}

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// backOff is the wait before the attempt after n failures (OCPP 2.x part 4,
// RetryBackOff variables): the random part is added, not doubled.
func (b BackOff) wait(n int, random *rand.PCG) time.Duration {
	wait := b.Minimum << min(n, b.Repeat)
	if b.Random > 0 {
		wait += time.Duration(rand.New(random).Int64N(int64(b.Random)))
	}
	return wait
}
