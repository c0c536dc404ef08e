package memory

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// MaxProfile bounds a profile that is read from a foreign process, in bytes.
	MaxProfile = 256 << 20
	// maxAnswer bounds every other answer.
	maxAnswer = 32 << 20
	// readTime bounds one request; profiles and collections of a large heap
	// take seconds.
	readTime = 60 * time.Second
)

// endpoint is an HTTP server that is asked for numbers.
type endpoint struct {
	base   *url.URL
	token  string // sent as a bearer token unless empty
	client *http.Client
}

// newEndpoint accepts an http or https URL, and host:port for http.
func newEndpoint(kind, address string) (endpoint, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("%s: %w", kind, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return endpoint{}, fmt.Errorf("%s: %q is not an http or https URL", kind, u.Redacted())
	}
	return endpoint{base: u, client: &http.Client{Timeout: readTime, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: readTime,
	}}}, nil
}

func (e endpoint) Close() error {
	e.client.CloseIdleConnections()
	return nil
}

// get copies the answer to w, at most limit bytes; more are an error.
func (e endpoint) get(ctx context.Context, u *url.URL, w io.Writer, limit int64) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, err
	}
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
	}
	// The error of Do names method and URL.
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return 0, fmt.Errorf("GET %s: %s: it asks for a token", u.Redacted(), resp.Status)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", u.Redacted(), resp.Status)
	}
	n, err := io.Copy(w, io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return n, fmt.Errorf("GET %s: %w", u.Redacted(), err)
	}
	if n > limit {
		return n, fmt.Errorf("GET %s: the answer is larger than %d MB", u.Redacted(), limit>>20)
	}
	return n, nil
}

// text is get for a short answer.
func (e endpoint) text(ctx context.Context, u *url.URL) (string, error) {
	var b strings.Builder
	_, err := e.get(ctx, u, &b, maxAnswer)
	return b.String(), err
}
