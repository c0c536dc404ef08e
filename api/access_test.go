package api_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/store"
	"holdfast/store/storetest"
)

// The life of API tokens, on both databases, seen by two processes.
func TestTokens(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		fast := func(c *api.Config) { c.TokenRefresh = 50 * time.Millisecond }
		f, other := open(t, where, fast), open(t, where, fast)
		now := time.Now().UTC().Truncate(time.Millisecond)
		added := want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "ci", "role": "read", "expires_at": now.Add(time.Hour)})
		if !strings.HasPrefix(added.Token, "hf_") || len(added.Token) < 40 || added.CreatedBy != "admin" {
			t.Errorf("made %+v", added)
		}
		f.refused(409, "POST", "/api/v1/tokens", map[string]any{"name": "CI", "role": "admin"})
		f.refused(409, "POST", "/api/v1/tokens", map[string]any{"name": "Admin", "role": "admin"})
		f.refused(422, "POST", "/api/v1/tokens", map[string]any{"name": "a b", "role": "read"})
		f.refused(422, "POST", "/api/v1/tokens", map[string]any{"name": "ab", "role": "root"})
		f.refused(422, "POST", "/api/v1/tokens", map[string]any{"name": "ab", "role": "read", "expires_at": now.Add(-time.Hour)})

		for _, p := range []*fixture{f, other} { // the other one has not heard of it yet
			p.token = added.Token
			eventually(t, "the new token works", func() bool { return p.send("GET", "/api/v1/me", nil).status == 200 })
			if me := want[api.Caller](p, 200, "GET", "/api/v1/me", nil); me != (api.Caller{Name: "ci", Role: "read"}) {
				t.Errorf("I am %+v", me)
			}
			p.refused(403, "GET", "/api/v1/tokens", nil)
		}
		f.token = adminToken
		if got := want[store.APIToken](f, 200, "GET", "/api/v1/tokens/"+added.ID, nil); got.LastUsedAt.Before(now.Add(-time.Second)) || got.Name != "ci" {
			t.Errorf("token %+v", got)
		}
		if r := f.send("GET", "/api/v1/tokens", nil); strings.Contains(string(r.body), added.Token) || strings.Contains(string(r.body), "hash") {
			t.Errorf("the list tells secrets: %s", r.body)
		}
		revoked := want[store.APIToken](f, 200, "DELETE", "/api/v1/tokens/"+added.ID, nil)
		if revoked.RevokedBy != "admin" || revoked.RevokedAt.IsZero() {
			t.Errorf("revoked %+v", revoked)
		}
		f.refused(404, "DELETE", "/api/v1/tokens/nothing", nil)
		f.refused(404, "GET", "/api/v1/tokens/nothing", nil)
		f.token = added.Token
		f.refused(401, "GET", "/api/v1/me", nil)
		eventually(t, "the other process refuses the token", func() bool { return other.send("GET", "/api/v1/me", nil).status == 401 })

		f.token = adminToken
		short := want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "short", "role": "operate", "expires_at": now.Add(time.Hour)})
		f.token = short.Token
		want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
		f.mu.Lock()
		f.now = now.Add(time.Hour)
		f.mu.Unlock()
		if r := f.send("GET", "/api/v1/me", nil); r.status == 200 {
			t.Error("an expired token works")
		}
	})
}

// Without the database the admin token still works, and others only as long as
// nothing can have changed.
func TestTokensWithoutDatabase(t *testing.T) {
	database := storetest.NewServer(t)
	f := open(t, database.Database(t), nil)
	added := want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "ci", "role": "read"})
	f.token = added.Token
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
	database.Kill()
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
	f.mu.Lock()
	f.now = time.Now().Add(time.Minute)
	f.mu.Unlock()
	f.refused(503, "GET", "/api/v1/me", nil)
	f.token = adminToken
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
	f.refused(500, "GET", "/api/v1/tokens", nil)
	check(t, database.Start())
	f.token = added.Token
	eventually(t, "the token works again", func() bool { return f.send("GET", "/api/v1/me", nil).status == 200 })
}
