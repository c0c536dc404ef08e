package iso15118

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
)

// maxProviderAnswer is the longest answer of the provider that is read, in
// bytes; the longest EXI response of OCPP 2.1 has 17000.
const maxProviderAnswer = 64 << 10

// ProviderConfig says where contract certificates come from.
type ProviderConfig struct {
	// URL is posted to: https, or http on this machine. Required.
	URL string
	// Token is sent as a bearer token. Empty: none.
	Token string
	// Roots are the CAs of the provider's certificate. Nil: the system's.
	Roots *x509.CertPool
	// Timeout bounds one request. Default: 4 seconds; ISO 15118-2 gives an EV's
	// request 4.5 seconds from the vehicle to the vehicle.
	Timeout time.Duration
}

// Provider has the provider of contract certificates answer EVs. All methods may
// be called concurrently.
type Provider struct {
	cfg     ProviderConfig
	client  *http.Client
	metrics *Metrics
	places  chan struct{}
}

// NewProvider checks cfg and connects to nobody.
func NewProvider(cfg ProviderConfig, metrics *Metrics) (*Provider, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, errors.New("want https://host/path without a user (http is for this machine alone)")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 4 * time.Second
	}
	return &Provider{cfg: cfg, client: newClient(cfg.Roots), metrics: metrics, places: make(chan struct{}, maxAsking)}, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

// Close ends the connections that wait for the next request.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// providerRequest is what is posted; the answer is the payload of the CALLRESULT.
type providerRequest struct {
	Station ocpp.StationID  `json:"station"`
	Version ocpp.Version    `json:"version"`
	Request json.RawMessage `json:"request"` // the payload of the CALL
}

// Ask has the provider answer a Get15118EVCertificate (OCPP 2.0.1 M01, M02). It
// is a csms.EVCertificateFunc.
func (p *Provider) Ask(ctx context.Context, station ocpp.StationID, version ocpp.Version, payload json.RawMessage) (json.RawMessage, error) {
	began := time.Now()
	answer, err := p.ask(ctx, providerRequest{station, version, payload})
	p.metrics.answered(kindProvider, err, time.Since(began))
	if err != nil {
		return nil, &csms.ForwardError{Code: csms.CodeInternalError, Err: err}
	}
	return answer, nil
}

func (p *Provider) ask(ctx context.Context, r providerRequest) (json.RawMessage, error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		return nil, errBusy
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	answer, err := post(ctx, p.client, p.cfg.URL, "application/json", p.cfg.Token, body, maxProviderAnswer)
	if err != nil {
		return nil, err
	}
	if !json.Valid(answer) {
		return nil, fmt.Errorf("provider: %w: not JSON", errAnswer)
	}
	return answer, nil
}

// isTimeout reports whether nobody answered in time.
func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && n.Timeout()
}
