package api_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"holdfast/api"
)

// provider is an OIDC provider whose tokens the test signs.
type provider struct {
	url  string
	key  *ecdsa.PrivateKey
	keys atomic.Int64 // times that its keys were read
	away atomic.Bool
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	p := &provider{key: key}
	s := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k1", Algorithm: "ES256"}}, Algorithms: []string{"ES256"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.away.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		if r.URL.Path == "/keys" {
			p.keys.Add(1)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.SetIssuer(srv.URL)
	p.url = srv.URL
	return p
}

// sign makes a token of somebody with the role operate, changed.
func (p *provider) sign(t *testing.T, change map[string]any) string {
	return signWith(t, p.key, "k1", "ES256", p.claims(change))
}

func (p *provider) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": p.url, "sub": "u-1", "aud": "holdfast", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"preferred_username": "alice", "roles": []string{"operate"},
	}
	maps.Copy(c, change)
	for k, v := range c {
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func signWith(t *testing.T, key crypto.PrivateKey, kid, alg string, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	check(t, err)
	return oidctest.SignIDToken(key, kid, alg, string(text))
}

func TestOIDC(t *testing.T) {
	p := startProvider(t)
	f := open(t, t.TempDir(), func(c *api.Config) {
		c.OIDC = api.OIDC{Issuer: p.url, ClientID: "holdfast", Audiences: []string{"api://holdfast"}, RoleClaim: "roles",
			Roles: map[api.Role][]string{api.RoleRead: {"read"}, api.RoleOperate: {"operate", "noc"}, api.RoleAdmin: {"admin"}}}
	})
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	unsigned := func(header string) string {
		text, err := json.Marshal(p.claims(nil))
		check(t, err)
		enc := base64.RawURLEncoding.EncodeToString
		return enc([]byte(header)) + "." + enc(text) + "."
	}
	for _, tt := range []struct {
		name   string
		token  string
		status int
		want   api.Caller
	}{
		{"operate", p.sign(t, nil), 200, api.Caller{Name: "oidc:alice", Role: "operate"}},
		{"other audience", p.sign(t, map[string]any{"aud": []string{"x", "api://holdfast"}}), 200, api.Caller{Name: "oidc:alice", Role: "operate"}},
		{"the greatest role counts", p.sign(t, map[string]any{"roles": []string{"read", "admin", "other"}}), 200, api.Caller{Name: "oidc:alice", Role: "admin"}},
		{"roles as text", p.sign(t, map[string]any{"roles": "x noc"}), 200, api.Caller{Name: "oidc:alice", Role: "operate"}},
		{"verified email", p.sign(t, map[string]any{"email": "a@example.com", "email_verified": true}), 200, api.Caller{Name: "oidc:a@example.com", Role: "operate"}},
		{"unverified email", p.sign(t, map[string]any{"email": "root@example.com"}), 200, api.Caller{Name: "oidc:alice", Role: "operate"}},
		{"no name", p.sign(t, map[string]any{"preferred_username": nil}), 200, api.Caller{Name: "oidc:u-1", Role: "operate"}},
		{"control characters", p.sign(t, map[string]any{"preferred_username": "a\nb\u202e"}), 200, api.Caller{Name: "oidc:ab", Role: "operate"}},
		{"no role", p.sign(t, map[string]any{"roles": []string{"janitor"}}), 403, api.Caller{}},
		{"no claim", p.sign(t, map[string]any{"roles": nil}), 403, api.Caller{}},
		{"claim of another kind", p.sign(t, map[string]any{"roles": map[string]any{"admin": true}}), 403, api.Caller{}},
		{"expired", p.sign(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), 401, api.Caller{}},
		{"no end", p.sign(t, map[string]any{"exp": nil}), 401, api.Caller{}},
		{"not yet", p.sign(t, map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), 401, api.Caller{}},
		{"for somebody else", p.sign(t, map[string]any{"aud": "wiki"}), 401, api.Caller{}},
		{"for nobody", p.sign(t, map[string]any{"aud": nil}), 401, api.Caller{}},
		{"another issuer", p.sign(t, map[string]any{"iss": "https://evil.example"}), 401, api.Caller{}},
		{"another key", signWith(t, stranger, "k1", "ES256", p.claims(nil)), 401, api.Caller{}},
		{"another algorithm", signWith(t, weak, "k1", "RS256", p.claims(nil)), 401, api.Caller{}},
		{"HMAC with what is public", signWith(t, []byte(strings.Repeat("k", 32)), "k1", "HS256", p.claims(nil)), 401, api.Caller{}},
		{"unsigned", unsigned(`{"alg":"none"}`), 401, api.Caller{}},
		{"signature taken off", unsigned(`{"alg":"ES256","kid":"k1"}`), 401, api.Caller{}},
		{"too long", p.sign(t, map[string]any{"x": strings.Repeat("x", 20<<10)}), 401, api.Caller{}},
		{"broken", "ey.ey.ey", 401, api.Caller{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.token = tt.token
			r := f.send("GET", "/api/v1/me", nil)
			var got api.Caller
			if r.status != tt.status {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if tt.status == 200 {
				check(t, json.Unmarshal(r.body, &got))
			}
			if got != tt.want {
				t.Errorf("I am %+v, want %+v", got, tt.want)
			}
			if strings.Contains(string(r.body), tt.token) {
				t.Error("the answer holds the token")
			}
		})
	}

	// Roles hold for people as for tokens, and the audit record names them.
	f.token = p.sign(t, nil)
	f.refused(403, "POST", "/api/v1/tokens", map[string]any{"name": "x", "role": "read"})
	f.token = p.sign(t, map[string]any{"roles": []string{"admin"}})
	added := want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "ci", "role": "read"})
	if added.CreatedBy != "oidc:alice" {
		t.Errorf("made by %q", added.CreatedBy)
	}
	f.refused(409, "POST", "/api/v1/tokens", map[string]any{"name": "OIDC:alice", "role": "read"})

	// The keys were read once, and unknown ones do not make us ask without bound.
	if n := p.keys.Load(); n > 10 {
		t.Errorf("the provider's keys were read %d times", n)
	}
	for i := range 50 {
		f.token = signWith(t, stranger, fmt.Sprint("unknown-", i), "ES256", p.claims(nil))
		if r := f.send("GET", "/api/v1/me", nil); r.status == 200 {
			t.Fatal("a stranger's token is good")
		}
	}
	if n := p.keys.Load(); n > 15 {
		t.Errorf("the provider's keys were read %d times", n)
	}

	f.token = ""
	if got := want[api.Login](f, 200, "GET", "/api/login", nil); got.Issuer != p.url || got.ClientID != "holdfast" || len(got.Scopes) == 0 {
		t.Errorf("login %+v", got)
	}
	// A provider that is away: who has a good token still works, keys are known.
	p.away.Store(true)
	f.token = p.sign(t, nil)
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
}

// A provider that is away at the start holds up nobody but its own people.
func TestOIDCProviderAway(t *testing.T) {
	p := startProvider(t)
	p.away.Store(true)
	f := open(t, t.TempDir(), func(c *api.Config) { c.OIDC = api.OIDC{Issuer: p.url, ClientID: "holdfast"} })
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
	f.token = p.sign(t, nil)
	if r := f.send("GET", "/api/v1/me", nil); r.status != 503 {
		t.Errorf("%d %s", r.status, r.body)
	}
	p.away.Store(false)
	f.mu.Lock()
	f.now = time.Now().Add(10 * time.Second) // it is asked again a while later
	f.mu.Unlock()
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
}

func TestOIDCConfig(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	f.token = ""
	f.refused(404, "GET", "/api/login", nil)
	for _, tt := range []struct {
		cfg  api.OIDC
		want string // in the error
	}{
		{api.OIDC{Issuer: "http://idp.example", ClientID: "x"}, "https"},
		{api.OIDC{Issuer: "idp", ClientID: "x"}, "https"},
		{api.OIDC{Issuer: "https://idp.example"}, "client ID"},
		{api.OIDC{Issuer: "https://idp.example", ClientID: "x", Roles: map[api.Role][]string{"root": {"x"}}}, "no role"},
	} {
		cfg := f.config
		cfg.OIDC = tt.cfg
		if _, err := api.New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.cfg, err)
		}
	}
}
