package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/ocpp"
)

func TestBodies(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	const path = "/api/v1/stations"
	f.refused(413, "POST", path, strings.NewReader(`{"id":"`+strings.Repeat("a", 1<<20)+`"}`))
	f.refused(413, "POST", path, io.MultiReader(strings.NewReader(strings.Repeat(" ", 2<<20)))) // chunked
	f.refused(400, "POST", path, strings.NewReader(`{"id":`))
	f.refused(400, "POST", path, strings.NewReader(""))
	f.refused(400, "POST", path, strings.NewReader(`{"id":"a"} x`))
	f.refused(422, "POST", path, strings.NewReader(`null`))
	f.refused(422, "POST", path, strings.NewReader(`"id"`))
	f.refused(400, "POST", path, strings.NewReader(strings.Repeat("[", 100_000)))
	f.refused(422, "GET", path+"?limit="+url.QueryEscape("1e3"), nil)
	r, err := http.NewRequest("POST", f.url+path, strings.NewReader("<id>a</id>"))
	check(t, err)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/xml")
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	answer.Body.Close()
	if answer.StatusCode != 415 {
		t.Errorf("XML: %d, want 415", answer.StatusCode)
	}
}

// A body that does not come is not waited for for ever, and the deadline for it
// does not end the request that it belongs to.
func TestSlowBody(t *testing.T) {
	f := open(t, t.TempDir(), func(c *api.Config) { c.BodyTime = 100 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /api/v1/stations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+adminToken+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	check(t, err)
	check(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	head := make([]byte, 12)
	_, err = io.ReadFull(conn, head)
	check(t, err)
	if string(head) != "HTTP/1.1 408" {
		t.Errorf("answer %q, want 408", head)
	}

	want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "A"})
	f.connected("A")
	f.answer(func(ctx context.Context, _ ocpp.StationID, _ ocpp.Call) (json.RawMessage, error) {
		select {
		case <-time.After(500 * time.Millisecond): // longer than a body may take
			return json.RawMessage(`{"status":"Accepted"}`), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	want[api.CommandView](f, 200, "POST", "/api/v1/stations/A/calls", map[string]any{"action": "ClearCache"})
}

// More requests at a time than there are places are refused, not queued.
func TestRequestLimit(t *testing.T) {
	f := open(t, t.TempDir(), func(c *api.Config) { c.MaxRequests = 2 })
	want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "A"})
	f.connected("A")
	entered, release := make(chan struct{}, 2), make(chan struct{})
	f.answer(func(context.Context, ocpp.StationID, ocpp.Call) (json.RawMessage, error) {
		entered <- struct{}{}
		<-release
		return json.RawMessage(`{"status":"Accepted"}`), nil
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			want[api.CommandView](f, 200, "POST", "/api/v1/stations/A/calls", map[string]any{"action": "ClearCache"})
		})
		<-entered
	}
	f.refused(503, "GET", "/api/v1/me", nil)
	close(release)
	wg.Wait()
	want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
}

// FuzzBodies sends anything to every operation that takes a body: the answer is
// never a server's fault.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{`{}`, `{"id":"A","profile":2}`, `{"action":"Reset","payload":{"type":"Soft"},"async":true}`, `{"name":"a","role":"read"}`,
		`{"id":"\ud800"}`, `{"labels":{"":null}}`, `{"quirks":{"ping":7}}`, `[]`, `null`, `{"csr":"-----BEGIN"}`, "\xff", `{"id":"a","id":"b"}`, `{"timeout":1e300}`, `{"ID":"x","Profile":3}`,
		`{"password":"1234567890123456"}`, `{"reason":"unspecified"}`, `{"registration":"Accepted"}`, `{"expires_at":"9999-12-31T23:59:59Z","status":"Blocked"}`, `{"pem":"x"}`} {
		f.Add(seed)
	}
	fixture := open(f, f.TempDir(), nil)
	want[api.AddedStation](fixture, 201, "POST", "/api/v1/stations", map[string]any{"id": "A"})
	fixture.connected("A")
	type target struct{ method, path string }
	var targets []target
	for path, item := range fixture.api.Huma().OpenAPI().Paths {
		for method, op := range operations(item) {
			if op.RequestBody != nil {
				targets = append(targets, target{method, strings.NewReplacer("{id}", "A", "{serial}", "ab", "{token}", "T").Replace(path)})
			}
		}
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, target := range targets {
			r := httptest.NewRequest(target.method, target.path, bytes.NewReader([]byte(body)))
			r.Header.Set("Authorization", "Bearer "+adminToken)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			fixture.api.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %s with %q: %d %s", target.method, target.path, body, w.Code, w.Body)
			}
		}
	})
}
