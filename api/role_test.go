package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"holdfast/api"
)

// roles says what each operation needs. One that is not here fails the test:
// decide first who may do it.
var roles = map[string]api.Role{
	"list-stations": "read", "get-station": "read", "add-station": "admin", "update-station": "admin", "remove-station": "admin",
	"block-station": "operate", "unblock-station": "operate", "disconnect-station": "operate", "set-registration": "operate",
	"rotate-password": "admin", "cancel-password": "admin", "issue-certificate": "admin", "sign-csr": "admin",
	"list-connectors": "read", "list-variables": "read", "list-progress": "read", "list-attempts": "read", "list-unregistered-attempts": "read",
	"list-security-events": "read", "list-records": "read", "list-meter-values": "read",
	"list-messages": "read", "follow-messages": "read",
	"call-station": "operate", "list-commands": "read", "get-command": "read",
	"list-transactions": "read", "list-station-transactions": "read", "get-transaction": "read", "get-station-transaction": "read",
	"list-transaction-meter-values": "read", "list-transaction-events": "read",
	"list-id-tokens": "read", "get-id-token": "read", "put-id-token": "operate", "remove-id-token": "operate",
	"list-certificates": "read", "get-certificate": "read", "revoke-certificate": "admin", "list-cas": "read", "import-ca": "admin", "remove-ca": "admin",
	"prepare-root": "admin", "request-ca": "admin", "import-signed-ca": "admin", "activate-cas": "admin", "retire-ca": "admin",
	"start-operation": "admin", "list-station-operations": "read", "list-operations": "read", "get-operation": "read",
	"cancel-operation": "admin", "retry-operation": "admin",
	"get-external-ca": "read", "list-crls": "read", "import-crl": "admin", "remove-crl": "admin",
	"start-campaign": "admin", "list-campaigns": "read", "get-campaign": "read", "cancel-campaign": "admin", "resume-campaign": "admin",
	"list-audit": "read", "get-caller": "read", "list-tokens": "admin", "add-token": "admin", "get-token": "admin", "revoke-token": "admin",
	"follow-events": "read", "list-verdicts": "read",
}

// Every operation of the OpenAPI document, with no token, a wrong one, and one of each role.
func TestRoles(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	tokens := make(map[api.Role]string)
	for _, role := range api.Roles {
		tokens[role] = want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "t-" + string(role), "role": role}).Token
	}
	seen := make(map[string]bool)
	for path, item := range f.api.Huma().OpenAPI().Paths {
		for method, op := range operations(item) {
			seen[op.OperationID] = true
			needed, ok := roles[op.OperationID]
			if !ok {
				t.Errorf("%s: decide in the table of this test which role it needs", op.OperationID)
				continue
			}
			if len(op.Security) != 1 || !slices.Equal(op.Security[0]["token"], []string{string(needed)}) {
				t.Errorf("%s: security %v in the document, want role %s", op.OperationID, op.Security, needed)
			}
			try := func(token string) int {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				target := strings.NewReplacer("{id}", "x", "{serial}", "x", "{token}", "x", "{fingerprint}", "x", "{transaction}", "x").Replace(path)
				body := ""
				if op.RequestBody != nil {
					body = `{"no such field": 1}` // never valid: nothing is done
				}
				r, err := http.NewRequestWithContext(ctx, method, f.url+target, strings.NewReader(body))
				check(t, err)
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				answer, err := http.DefaultClient.Do(r)
				check(t, err)
				defer answer.Body.Close()
				if answer.StatusCode == 401 && answer.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: 401 without a challenge", op.OperationID)
				}
				return answer.StatusCode
			}
			t.Run(op.OperationID, func(t *testing.T) {
				if got := try(""); got != 401 {
					t.Errorf("without a token: %d, want 401", got)
				}
				for _, role := range api.Roles {
					got := try(tokens[role])
					allowed := slices.Index(api.Roles, role) >= slices.Index(api.Roles, needed)
					switch {
					case allowed && (got == 401 || got == 403 || got >= 500):
						t.Errorf("role %s: %d, should be allowed", role, got)
					case !allowed && got != 403:
						t.Errorf("role %s: %d, want 403", role, got)
					}
				}
			})
		}
	}
	for id := range roles {
		if !seen[id] {
			t.Errorf("operation %s is gone", id)
		}
	}
	f.token = "hf_wrong"
	if p := f.refused(401, "GET", "/api/v1/stations", nil); !strings.Contains(p.Detail, "unknown, expired or revoked") {
		t.Errorf("wrong token: %s", p.Detail)
	}
	for _, header := range []string{"Basic YTpi", "Bearer", "Bearer ", "hf_x", strings.Repeat("x", 4000)} {
		r, err := http.NewRequest("GET", f.url+"/api/v1/stations", nil)
		check(t, err)
		r.Header.Set("Authorization", header)
		answer, err := http.DefaultClient.Do(r)
		check(t, err)
		answer.Body.Close()
		if answer.StatusCode != 401 {
			t.Errorf("Authorization %.20q: %d, want 401", header, answer.StatusCode)
		}
	}
}

// Wrong tokens are counted by source; good ones of the same source still work.
func TestFailuresAreLimited(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	f.token = "hf_wrong"
	limited := false
	for i := range 40 {
		r := f.send("GET", "/api/v1/me", nil)
		switch {
		case r.status == 429:
			limited = true
			if r.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		case r.status != 401 || limited:
			t.Fatalf("attempt %d: %d", i, r.status)
		}
	}
	if !limited {
		t.Error("40 wrong tokens in a row are not limited")
	}
	f.token = adminToken
	if me := want[api.Caller](f, 200, "GET", "/api/v1/me", nil); me != (api.Caller{Name: "admin", Role: "admin"}) {
		t.Errorf("I am %+v", me)
	}
}

func TestUnknownPaths(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	f.refused(404, "GET", "/api/v1/chargers", nil)
	f.refused(404, "GET", "/api/", nil)
	f.refused(405, "PUT", "/api/v1/stations", map[string]any{})
	if r := f.send("DELETE", "/api/v1/stations", nil); r.header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %q", r.header.Get("Allow"))
	}
	f.refused(422, "GET", "/api/v1/stations?limt=5", nil)
	f.refused(422, "GET", "/api/v1/stations?limit=1001", nil)
	f.refused(422, "GET", "/api/v1/stations?limit=0x", nil)
	f.refused(400, "GET", "/api/v1/stations?cursor=x", nil)
	f.refused(400, "GET", "/api/v1/commands?cursor="+fmt.Sprint(strings.Repeat("W10", 50)), nil)
}
