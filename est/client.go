// Package est is a client of certificate authorities that speak EST, Enrollment
// over Secure Transport (RFC 7030, with the encoding of RFC 8951): it has signing
// requests certified and asks for the CA's own certificates. It checks that an
// answer is one, not whether its certificate may be used; it keeps nothing and
// starts nothing.
package est

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says where the CA is and who asks. Zero fields mean their documented defaults.
type Config struct {
	// URL is where its operations are: https://HOST/.well-known/est, or with the
	// label of one of several CAs behind it, https://HOST/.well-known/est/stations.
	// Of a URL without a path the former is meant. Required.
	URL string
	// Roots vouch for the server's TLS certificate. Nil: the system's.
	Roots *x509.CertPool
	// Credentials returns user name and password for HTTP Basic. It is asked for
	// every request, so that a password can change. Nil: none are sent.
	Credentials func() (user, password string, err error)
	// Certificate returns the TLS client certificate. It is asked for every
	// handshake, so that it can be renewed. Nil: there is none.
	Certificate func() (*tls.Certificate, error)
	// Proxy chooses an HTTP proxy. Nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// Timeout bounds one request, its handshake included. Default: 15 seconds.
	Timeout time.Duration
}

// These bound what is read of an answer and how often a request is made.
const (
	maxAnswer  = 64 << 10 // bytes; reading BER can take time in the square of it
	maxHeader  = 32 << 10 // bytes
	maxText    = 300      // bytes of what the server says about an error
	maxTries   = 3
	firstPause = 500 * time.Millisecond // before a request is made again; it doubles
)

// Client asks one CA. Its methods may be called concurrently.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
}

// New checks a configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("EST: the URL cannot be read") // the parser's text may hold a password
	case u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("EST: %q: want https://HOST/.well-known/est or https://HOST/.well-known/est/LABEL", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("EST: %q: want neither user, query nor fragment in the URL", u.Redacted())
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/.well-known/est"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	c := &Client{cfg: cfg, base: u}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots}
	if cfg.Certificate != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Certificate() }
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: cfg.Proxy, TLSClientConfig: t, TLSHandshakeTimeout: cfg.Timeout, DialContext: (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
			MaxResponseHeaderBytes: maxHeader,
			// A request that is lost on a connection that the server just closed may not be
			// repeated: each has a connection of its own.
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // see answer
	}
	return c, nil
}

// Name is the CA's address, for people.
func (c *Client) Name() string { return c.base.String() }

// ClientCertificate returns the TLS client certificate, nil if there is none.
func (c *Client) ClientCertificate() (*x509.Certificate, error) {
	if c.cfg.Certificate == nil {
		return nil, nil
	}
	pair, err := c.cfg.Certificate()
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// Enroll has a signing request (PKCS#10, DER) certified (RFC 7030 §4.2.1). The
// certificates that come back are in no particular order. Errors are of type
// *Error; one of Kind Pending means that the same request may be made later.
//
// A request that may have reached the CA is not repeated here: each could make a
// certificate more.
func (c *Client) Enroll(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	return c.ask(ctx, "simpleenroll", []byte(base64.StdEncoding.EncodeToString(csr)))
}

// CACerts returns the CA's own certificates, in no particular order (RFC 7030
// §4.1.2). Errors are of type *Error.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	return c.ask(ctx, "cacerts", nil)
}

// ask makes a request, and again if the CA did not take it.
func (c *Client) ask(ctx context.Context, operation string, body []byte) ([]*x509.Certificate, error) {
	pause := firstPause
	for try := 1; ; try++ {
		certs, err := c.once(ctx, operation, body)
		e, failed := errors.AsType[*Error](err)
		if !failed || !e.notTaken || try == maxTries {
			return certs, err
		}
		wait := max(pause, e.RetryAfter)
		pause *= 2
		if end, ok := ctx.Deadline(); ok && time.Until(end) < wait || wait > c.cfg.Timeout {
			return certs, err
		}
		select {
		case <-ctx.Done():
			return certs, err
		case <-time.After(wait):
		}
	}
}

func (c *Client) once(ctx context.Context, operation string, body []byte) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(operation).String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Kind: Unavailable, Problem: err.Error()}
	}
	r.Header.Set("Accept", "application/pkcs7-mime")
	if body != nil {
		r.Header.Set("Content-Type", "application/pkcs10")
		r.Header.Set("Content-Transfer-Encoding", "base64")
		r.GetBody = nil // so that net/http does not repeat it either
	}
	if c.cfg.Credentials != nil {
		user, password, err := c.cfg.Credentials()
		if err != nil {
			return nil, &Error{Kind: Unauthorized, Problem: err.Error()}
		}
		r.SetBasicAuth(user, password)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, unreached(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, unreached(err)
	}
	return answer(resp, data)
}
