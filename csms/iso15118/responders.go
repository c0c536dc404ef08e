package iso15118

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"holdfast/csms"
	"holdfast/pki"
)

const (
	// maxAsking is how many questions to responders, and how many to the provider,
	// are open at a time; more are refused at once.
	maxAsking = 32
	// ocspTime bounds one question, over all responders that a station names.
	ocspTime = 8 * time.Second
	// maxOCSPResponse is the longest response that is read, in bytes: what OCPP 2.1
	// can carry as base64, and OCPP 2.0.1 less.
	maxOCSPResponse = 18000 / 4 * 3
	// maxCached is how many responses are kept, at most for cachedTime.
	maxCached  = 1000
	cachedTime = time.Hour
)

// Responders ask OCSP responders. All methods may be called concurrently.
type Responders struct {
	hosts   map[string]bool
	issuers []*x509.Certificate
	client  *http.Client
	now     func() time.Time
	metrics *Metrics
	places  chan struct{}
	asking  singleflight.Group // by certificate: a site full of stations has one question

	mu     sync.Mutex
	cached map[string]cachedAnswer // by certificate; guarded by mu
}

type cachedAnswer struct {
	answer csms.OCSPAnswer
	until  time.Time
}

// NewResponders checks the hosts: HOST or HOST:PORT, without a port those of
// http and https. Only these are ever asked, because stations name the URL.
// issuers are the certificates of CAs with which responses are checked, beside
// those that responses bring along.
func NewResponders(hosts []string, issuers []*x509.Certificate, metrics *Metrics, now func() time.Time) (*Responders, error) {
	r := &Responders{
		hosts: make(map[string]bool), issuers: issuers, client: newClient(nil), now: now, metrics: metrics,
		places: make(chan struct{}, maxAsking), cached: make(map[string]cachedAnswer),
	}
	for _, h := range hosts {
		u, err := url.Parse("http://" + h)
		if err != nil || u.Hostname() == "" || u.Host != h || strings.HasSuffix(h, ":") {
			return nil, fmt.Errorf("OCSP responder %.80q: want HOST or HOST:PORT", h)
		}
		if u.Port() != "" {
			r.hosts[strings.ToLower(h)] = true
			continue
		}
		for _, port := range []string{"80", "443"} {
			r.hosts[net.JoinHostPort(strings.ToLower(u.Hostname()), port)] = true
		}
	}
	return r, nil
}

// newClient makes a client that goes where it is sent and nowhere else.
func newClient(roots *x509.CertPool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the proxies of the environment
	t.TLSClientConfig = tlsConfig(roots)
	t.TLSHandshakeTimeout, t.ResponseHeaderTimeout = ocspTime, ocspTime
	t.DisableCompression, t.MaxResponseHeaderBytes = true, 16<<10
	t.MaxConnsPerHost, t.MaxIdleConnsPerHost = maxAsking, 4
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Close ends the connections that wait for the next question.
func (r *Responders) Close() { r.client.CloseIdleConnections() }

// Ask asks for the status of a certificate, the named responders in turn until
// one answers. It is a csms.OCSPFunc: an error says why there is no answer that
// could be believed.
func (r *Responders) Ask(ctx context.Context, q csms.OCSPQuestion) (csms.OCSPAnswer, error) {
	began := r.now()
	id, urls, err := r.read(q)
	if err != nil {
		r.metrics.answered(kindOCSP, err, r.now().Sub(began))
		return csms.OCSPAnswer{}, err
	}
	key := fmt.Sprintf("%d/%x/%x/%x", id.Hash, id.IssuerName, id.IssuerKey, id.Serial)
	if a, ok := r.remembered(key); ok {
		r.metrics.requests.WithLabelValues(kindOCSP, "cached").Inc()
		return a, nil
	}
	v, err, _ := r.asking.Do(key, func() (any, error) {
		// The first asker's time, but not its end: others wait for the same answer.
		deadline := time.Now().Add(ocspTime)
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		a, err := r.ask(ctx, id, urls)
		if err == nil {
			r.remember(key, a)
		}
		r.metrics.answered(kindOCSP, err, r.now().Sub(began))
		return a, err
	})
	a, _ := v.(csms.OCSPAnswer)
	return a, err
}

// read checks a question of a station.
func (r *Responders) read(q csms.OCSPQuestion) (id pki.CertID, urls []string, err error) {
	id, err = certID(q)
	if err != nil {
		return id, nil, &csms.ForwardError{Code: csms.CodeInvalidValue, Err: err}
	}
	for _, text := range q.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Hostname() == "" {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		if r.hosts[net.JoinHostPort(strings.ToLower(u.Hostname()), port)] {
			u.Fragment, u.RawFragment = "", ""
			urls = append(urls, u.String())
		}
	}
	if len(urls) == 0 {
		return id, nil, &csms.ForwardError{Code: csms.CodeInvalidURL, Err: fmt.Errorf("the responder %.120q is not listed", q.URLs)}
	}
	return id, urls, nil
}

func (r *Responders) ask(ctx context.Context, id pki.CertID, urls []string) (csms.OCSPAnswer, error) {
	select {
	case r.places <- struct{}{}:
		defer func() { <-r.places }()
	default:
		return csms.OCSPAnswer{}, &csms.ForwardError{Code: csms.CodeInternalError, Err: errBusy}
	}
	request, err := id.Request()
	if err != nil {
		return csms.OCSPAnswer{}, &csms.ForwardError{Code: csms.CodeInvalidValue, Err: err}
	}
	var failures []error
	for _, u := range urls {
		der, err := post(ctx, r.client, u, "application/ocsp-request", "", request, maxOCSPResponse)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		a, err := pki.CheckOCSP(der, id, r.issuers, r.now())
		if err != nil {
			failures = append(failures, fmt.Errorf("%.120s: %w: %w", u, errAnswer, err))
			continue
		}
		return csms.OCSPAnswer{Status: statuses[a.Status], NextUpdate: a.NextUpdate, DER: der}, nil
	}
	return csms.OCSPAnswer{}, &csms.ForwardError{Code: csms.CodeInternalError, Err: errors.Join(failures...)}
}

var statuses = map[pki.OCSPCode]string{pki.OCSPGood: csms.StatusGood, pki.OCSPRevoked: csms.StatusRevoked, pki.OCSPUnknown: csms.StatusUnknown}

func (r *Responders) remembered(key string) (csms.OCSPAnswer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.cached[key]
	if ok && !r.now().Before(c.until) {
		delete(r.cached, key)
		ok = false
	}
	return c.answer, ok
}

// remember keeps an answer within its validity. One that may be out of date at
// any time is not kept, nor that a certificate is unknown: it may be new.
func (r *Responders) remember(key string, a csms.OCSPAnswer) {
	until := r.now().Add(cachedTime)
	if a.NextUpdate.Before(until) {
		until = a.NextUpdate
	}
	if a.NextUpdate.IsZero() || a.Status == csms.StatusUnknown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cached) >= maxCached {
		for k := range r.cached { // any one
			delete(r.cached, k)
			break
		}
	}
	r.cached[key] = cachedAnswer{a, until}
}

var (
	errBusy   = errors.New("too many questions are open")
	errAnswer = errors.New("answer is not to be used")
)

// post sends body and returns what it is answered with status 200.
func post(ctx context.Context, client *http.Client, to, kind, token string, body []byte, limit int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "holdfast")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("POST %.120s: %w: HTTP status %d", to, errAnswer, resp.StatusCode)
	case err != nil:
		return nil, fmt.Errorf("POST %.120s: %w", to, err)
	case int64(len(answer)) > limit:
		return nil, fmt.Errorf("POST %.120s: %w: longer than %d bytes", to, errAnswer, limit)
	}
	return answer, nil
}
