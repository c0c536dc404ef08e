package est

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind is what became of a request that brought no certificate.
type Kind string

// Closed list.
const (
	Unavailable  Kind = "unavailable"  // the CA was not reached, or cannot now
	Unauthorized Kind = "unauthorized" // it does not know who asks
	Pending      Kind = "pending"      // it has not decided yet
	Refused      Kind = "refused"      // it does not certify this request
	BadAnswer    Kind = "bad_answer"   // what came is not an answer of EST
)

// Error is a request that brought no certificate.
type Error struct {
	Kind    Kind
	Problem string // what happened; what the server says is in it, clipped
	// RetryAfter is when the CA wants to be asked again; zero: it does not say.
	RetryAfter time.Duration

	notTaken bool // the CA did nothing with the request
}

func (e *Error) Error() string { return e.Problem }

// unreached is an error of the way to the CA.
func unreached(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the rest is method and URL
	}
	e := &Error{Kind: Unavailable, Problem: err.Error()}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		e.notTaken = true
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.notTaken, e.Kind = false, BadAnswer
		e.Problem = "its TLS certificate cannot be verified: " + v.Err.Error()
		if _, ok := errors.AsType[x509.UnknownAuthorityError](v.Err); ok {
			e.Problem = "its TLS certificate is of a CA that is not trusted for this"
		}
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		e.Kind, e.Problem = Unauthorized, "it ended the TLS handshake: "+alert.Error()
	}
	// crypto/tls gives an alert of the peer as a net.OpError around an unexported type.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		e.Kind, e.Problem = Unauthorized, "it ended the TLS handshake: "+op.Err.Error()
	}
	return e
}

// refusal is an answer that is not 200.
func refusal(resp *http.Response, text []byte) error {
	e := &Error{Problem: "it answered " + resp.Status, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	if said := plain(text); said != "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		e.Problem += ": " + said
	}
	switch s := resp.StatusCode; {
	case s == http.StatusAccepted:
		e.Kind, e.Problem = Pending, "it has not decided yet"
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		e.Kind = Unauthorized
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable:
		e.Kind, e.notTaken = Unavailable, true
	case s >= 500:
		e.Kind = Unavailable
	case 300 <= s && s < 400:
		// RFC 7030 §3.2.1 lets a client follow within one origin. A CA that moved is
		// for the operator to know of; credentials go nowhere else.
		e.Kind = BadAnswer
		e.Problem += " to " + fmt.Sprintf("%.100q", resp.Header.Get("Location")) + ", which is not followed"
	case s == http.StatusNotFound:
		e.Kind = BadAnswer
	case s >= 400:
		e.Kind = Refused
	default:
		e.Kind = BadAnswer
	}
	return e
}

// maxWait is the longest Retry-After that is believed.
const maxWait = 7 * 24 * time.Hour

// retryAfter reads a Retry-After header (RFC 9110 §10.2.3): seconds or a date.
func retryAfter(text string) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxWait)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), maxWait)
	}
	return 0
}

// plain makes one printable line of what a server says.
func plain(text []byte) string {
	line := strings.Join(strings.Fields(string(text[:min(len(text), maxText)])), " ")
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '.'
	}, strings.ToValidUTF8(line, "."))
}
