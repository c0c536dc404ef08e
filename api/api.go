package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/csms"
)

// Config is what an API is made of.
type Config struct {
	// CSMS is the management core; its record is read, and API tokens are kept in it. Required.
	CSMS       *csms.CSMS
	Authority  Authority  // required
	Messages   Messages   // required
	Events     Events     // required
	Disconnect Disconnect // required

	// Invalid recognizes errors of the authority that say that the caller asked
	// for something that cannot be, and tells the field and what to do about it.
	// Nil: there are none.
	Invalid func(error) (field, detail string, ok bool)
	// Upstream recognizes errors of a system outside of Holdfast, such as an external
	// CA, and tells what to do about it and when to try again; zero: not before that.
	// Nil: there are none.
	Upstream func(error) (detail string, after time.Duration, ok bool)

	// AdminToken, if not empty, is always good, with role admin and name "admin".
	AdminToken string
	// OIDC lets people in, too. Its zero value: nobody.
	OIDC OIDC
	// Version of Holdfast, for the OpenAPI document.
	Version string
	// MaxRequests is how many requests are served at a time, streams not
	// counted; more get 503. Zero means 512.
	MaxRequests int
	// MaxStreams is how many event streams are open at a time; more get 503.
	// Zero means 256.
	MaxStreams int
	// BodyTime is how long a client may take to send a request's body. Zero means
	// 10 seconds.
	BodyTime time.Duration
	// WriteTime is how long the client of a stream may take to accept an event.
	// Zero means 10 seconds.
	WriteTime time.Duration
	// TokenRefresh is how often the live tokens are read again: how long a token
	// works on after another process revoked it. Zero means 5 seconds.
	TokenRefresh time.Duration
	// Heartbeat is the time between comments on an event stream that keep
	// proxies from closing it. Zero means 15 seconds.
	Heartbeat time.Duration

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// API serves operators. All methods may be called concurrently.
type API struct {
	// Set by New, then read-only.
	cfg      Config
	log      *slog.Logger
	mux      *http.ServeMux
	huma     huma.API
	metrics  *metrics
	running  chan struct{} // a place for each request being served
	streams  chan struct{} // a place for each open stream
	document document
	people   *people // nil: no OIDC provider

	// Each with a lock of its own.
	tokens   *tokens
	failures *failures
	events   *hub
}

// New builds the API and starts nothing.
func New(cfg Config) (*API, error) {
	if cfg.CSMS == nil || cfg.Authority == nil || cfg.Messages == nil || cfg.Events == nil || cfg.Disconnect == nil {
		return nil, errors.New("api: CSMS, Authority, Messages, Events and Disconnect are required")
	}
	if cfg.Invalid == nil {
		cfg.Invalid = func(error) (string, string, bool) { return "", "", false }
	}
	if cfg.Upstream == nil {
		cfg.Upstream = func(error) (string, time.Duration, bool) { return "", 0, false }
	}
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 512
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 256
	}
	for _, d := range []struct {
		field    *time.Duration
		fallback time.Duration
	}{
		{&cfg.BodyTime, 10 * time.Second}, {&cfg.WriteTime, 10 * time.Second},
		{&cfg.TokenRefresh, 5 * time.Second}, {&cfg.Heartbeat, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.fallback
		}
	}
	if cfg.Version == "" {
		cfg.Version = "unreleased"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{
		cfg: cfg, log: cfg.Logger, mux: http.NewServeMux(), metrics: newMetrics(),
		running: make(chan struct{}, cfg.MaxRequests), streams: make(chan struct{}, cfg.MaxStreams),
		tokens:   &tokens{store: cfg.CSMS.Record(), now: cfg.Now, log: cfg.Logger},
		failures: newFailures(), events: newHub(),
	}
	var err error
	if a.people, err = newPeople(cfg.OIDC, cfg.Now); err != nil {
		return nil, err
	}
	if cfg.AdminToken != "" {
		a.tokens.admin = hashToken(cfg.AdminToken)
	}
	a.huma = humago.New(a.mux, humaConfig(cfg.Version))
	a.registerAll()
	if err := a.finishDocument(); err != nil {
		return nil, err
	}
	a.serveLogin()
	a.mux.HandleFunc("/api/", a.unknownPath)
	return a, nil
}

func (a *API) registerAll() {
	a.registerStations()
	a.registerStationAdmin()
	a.registerStationData()
	a.registerMessages()
	a.registerCalls()
	a.registerOperations()
	a.registerCampaigns()
	a.registerTransactions()
	a.registerIDTokens()
	a.registerCertificates()
	a.registerCAs()
	a.registerAudit()
	a.registerTokens()
	a.registerEvents()
	a.registerVerdicts()
}

// ServeHTTP serves everything below /api/.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // answers may hold credentials
	h.Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// Run hands events out and keeps the list of tokens fresh until ctx ends.
func (a *API) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.tokens.refresh(ctx, a.cfg.TokenRefresh) })
	a.subscribe(ctx)
	return nil
}
