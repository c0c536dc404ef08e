package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

// OIDC lets people in whom an OpenID Connect provider knows: a JWT that it
// signed is a token of the API, with roles from its claims.
type OIDC struct {
	// Issuer is the provider's URL; its configuration is read from
	// Issuer/.well-known/openid-configuration. Empty: there is no provider.
	Issuer string
	// ClientID is what Holdfast is called at the provider: a public client that
	// may use the device flow (RFC 8628). A token for it (claim aud) is good.
	ClientID string
	// Audiences are further values of aud that are good, such as an API's.
	Audiences []string
	// RoleClaim is where roles or groups stand: a claim, or a path of claims
	// with dots such as realm_access.roles; a text or a list. Zero: roles.
	RoleClaim string
	// Roles are the values of RoleClaim that give a role. Empty: the names of
	// the roles themselves.
	Roles map[Role][]string
	// NameClaim is what the audit record cites, behind "oidc:". Zero: the first
	// there is of a verified email, preferred_username and sub.
	NameClaim string
	// Scopes are asked for at the login. Zero: openid, profile, email.
	Scopes []string
	// Client reaches the provider. Nil: http.DefaultTransport, within 10 seconds.
	Client *http.Client
}

const (
	// providerTime bounds a request to the provider, and providerRetry is the
	// least time between two readings of its configuration that fail.
	providerTime  = 10 * time.Second
	providerRetry = 5 * time.Second
	// providerRate and providerBurst bound requests to the provider: a token that
	// names an unknown key makes us read its keys again, and anybody can send one.
	providerRate  = rate.Limit(0.5)
	providerBurst = 10
	// maxProvider is the largest answer of a provider that is read, in bytes.
	maxProvider = 1 << 20
	// maxJWT is the longest JWT that is looked at, in bytes.
	maxJWT = 16 << 10
	// maxCallerName is the longest name of a person, in bytes.
	maxCallerName = 128
)

// people checks the tokens of an OIDC provider. Its configuration is read when
// the first one comes: a provider that is away at the start holds nothing up.
type people struct {
	cfg    OIDC
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	provider *oidc.Provider
	failed   time.Time // when the configuration could not be read
	why      error
}

var errProviderAway = errors.New("the OIDC provider does not answer")

func newPeople(cfg OIDC, now func() time.Time) (*people, error) {
	if cfg.Issuer == "" {
		return nil, nil
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("OIDC issuer %q: want https://… (http only on this machine)", cfg.Issuer)
	}
	if cfg.ClientID == "" {
		return nil, errors.New("OIDC: a client ID is required: without it, any token of the provider would be good")
	}
	if cfg.RoleClaim == "" {
		cfg.RoleClaim = "roles"
	}
	if len(cfg.Roles) == 0 {
		cfg.Roles = make(map[Role][]string)
		for _, r := range Roles {
			cfg.Roles[r] = []string{string(r)}
		}
	}
	for r := range cfg.Roles {
		if !r.Valid() {
			return nil, fmt.Errorf("OIDC: %q is no role: read, operate and admin are", r)
		}
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{oidc.ScopeOpenID, "profile", "email"}
	}
	client := http.Client{}
	if cfg.Client != nil {
		client = *cfg.Client
	}
	if client.Timeout == 0 {
		client.Timeout = providerTime
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = &limitedTransport{next: client.Transport, limiter: rate.NewLimiter(providerRate, providerBurst)}
	return &people{cfg: cfg, client: &client, now: now}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// limitedTransport bounds how often and how much a provider is asked.
type limitedTransport struct {
	next    http.RoundTripper
	limiter *rate.Limiter
}

func (t *limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.limiter.Allow() {
		return nil, errors.New("asked too often; try again in a moment")
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxProvider), resp.Body}
	return resp, nil
}

// looksLikeJWT tells a JWT from an API token.
func looksLikeJWT(token string) bool {
	return strings.HasPrefix(token, "ey") && strings.Count(token, ".") == 2
}

// notGoodError is about a token that the provider did not sign for us, or that ended.
type notGoodError struct{ err error }

func (e *notGoodError) Error() string { return "token of the OIDC provider: " + e.err.Error() }

func notGood(format string, args ...any) error { return &notGoodError{fmt.Errorf(format, args...)} }

// authenticate says who the provider says that sent a token. Somebody without a
// role is a Caller without one.
func (p *people) authenticate(ctx context.Context, token string) (Caller, error) {
	if len(token) > maxJWT {
		return Caller{}, notGood("%d bytes, at most %d are looked at", len(token), maxJWT)
	}
	provider, err := p.discover(ctx)
	if err != nil {
		return Caller{}, err
	}
	verifier := provider.Verifier(&oidc.Config{SkipClientIDCheck: true, Now: p.now}) // aud is checked below, for more than one
	t, err := verifier.Verify(oidc.ClientContext(ctx, p.client), token)
	if err != nil {
		if strings.Contains(err.Error(), "fetching keys") {
			return Caller{}, fmt.Errorf("%w: %w", errProviderAway, err)
		}
		return Caller{}, &notGoodError{err}
	}
	if !slices.ContainsFunc(t.Audience, func(aud string) bool { return aud == p.cfg.ClientID || slices.Contains(p.cfg.Audiences, aud) }) {
		return Caller{}, notGood("it is for %.200q, not for %q", t.Audience, p.cfg.ClientID)
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return Caller{}, &notGoodError{err}
	}
	c := Caller{Name: p.name(t.Subject, claims)}
	values := claimValues(claims, p.cfg.RoleClaim)
	for _, r := range Roles { // the least first: the last one that fits is the greatest
		if slices.ContainsFunc(values, func(v string) bool { return slices.Contains(p.cfg.Roles[r], v) }) {
			c.Role = r
		}
	}
	return c, nil
}

// name is what the audit record cites: nobody but the provider can make it up,
// and it is never that of an API token.
func (p *people) name(subject string, claims map[string]any) string {
	text := func(claim string) string { s, _ := claims[claim].(string); return s }
	name := subject
	if p.cfg.NameClaim != "" {
		name = text(p.cfg.NameClaim)
	} else if verified, _ := claims["email_verified"].(bool); verified && text("email") != "" {
		name = text("email")
	} else if s := text("preferred_username"); s != "" {
		name = s
	}
	if name == "" {
		name = subject
	}
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	return peoplePrefix + name[:min(len(name), maxCallerName)]
}

// peoplePrefix begins the names of people; no API token may have it.
const peoplePrefix = "oidc:"

// claimValues returns the texts at a claim, or at a path of claims with dots.
func claimValues(claims map[string]any, path string) []string {
	var v any = claims
	if direct, ok := claims[path]; ok { // some providers have names with dots
		v = direct
	} else {
		for part := range strings.SplitSeq(path, ".") {
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[part]
		}
	}
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var list []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	return nil
}

// discover returns the provider, and reads its configuration the first time.
func (p *people) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.provider != nil {
		return p.provider, nil
	}
	if p.now().Sub(p.failed) < providerRetry {
		return nil, fmt.Errorf("%w: %w", errProviderAway, p.why)
	}
	// Not the caller's context: the provider keeps it for reading keys later.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.cfg.Issuer)
	if err != nil {
		p.failed, p.why = p.now(), err
		return nil, fmt.Errorf("%w: %w", errProviderAway, err)
	}
	p.provider = provider
	return provider, nil
}

// Login is what a client needs to log a person in at the provider.
type Login struct {
	Issuer   string   `json:"issuer" doc:"URL of the OpenID Connect provider"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
}

// serveLogin tells where people log in, without a token: it is what they need
// to have one.
func (a *API) serveLogin() {
	if a.people == nil {
		return
	}
	a.mux.HandleFunc("GET /api/login", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", jsonType)
		json.NewEncoder(w).Encode(Login{Issuer: a.people.cfg.Issuer, ClientID: a.people.cfg.ClientID, Scopes: a.people.cfg.Scopes})
	})
}
