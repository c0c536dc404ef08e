package iso15118

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/csms"
	"holdfast/ocpp"
)

// TestProvider: what is posted, and what comes back.
func TestProvider(t *testing.T) {
	release, slow := make(chan struct{}), make(chan struct{}, 2*maxAsking)
	answers := map[string]http.HandlerFunc{
		"good": func(w http.ResponseWriter, r *http.Request) {
			var got providerRequest
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got.Station != "CS 1" || got.Version != ocpp.V201 || string(got.Request) != `{"exiRequest":"AA=="}` {
				t.Errorf("%+v, %v", got, err)
			}
			if r.Method != "POST" || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %v", r.Method, r.Header)
			}
			w.Write([]byte(`{"status":"Accepted","exiResponse":"BB=="}`))
		},
		"error": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/good", http.StatusTemporaryRedirect)
		},
		"html": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>")) },
		"long": func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxProviderAnswer+1)) },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			slow <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers[strings.TrimPrefix(r.URL.Path, "/")](w, r)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	metrics := NewMetrics()
	open := func(path string, timeout time.Duration) *Provider {
		p, err := NewProvider(ProviderConfig{URL: server.URL + path, Token: "secret", Roots: roots, Timeout: timeout}, metrics)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	ask := func(p *Provider) (string, error) {
		answer, err := p.Ask(t.Context(), "CS 1", ocpp.V201, json.RawMessage(`{"exiRequest":"AA=="}`))
		return string(answer), err
	}
	if got, err := ask(open("/good", time.Minute)); err != nil || got != `{"status":"Accepted","exiResponse":"BB=="}` {
		t.Errorf("%s, %v", got, err)
	}
	for path, result := range map[string]string{"/error": "invalid", "/redirect": "invalid", "/html": "invalid", "/long": "invalid", "/slow": "timeout"} {
		counter := metrics.requests.WithLabelValues(kindProvider, result)
		before := testutil.ToFloat64(counter)
		timeout := time.Minute
		if result == "timeout" {
			timeout = 100 * time.Millisecond
		}
		_, err := ask(open(path, timeout))
		if f, _ := errors.AsType[*csms.ForwardError](err); f == nil || f.Code != csms.CodeInternalError || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", path, err)
		}
		if testutil.ToFloat64(counter) != before+1 {
			t.Errorf("%s: not counted as %s", path, result)
		}
	}
	if stranger, err := NewProvider(ProviderConfig{URL: server.URL + "/good"}, metrics); err != nil {
		t.Error(err)
	} else if _, err := ask(stranger); err == nil || testutil.ToFloat64(metrics.requests.WithLabelValues(kindProvider, "unreachable")) != 1 {
		t.Errorf("a certificate of nobody known: %v", err)
	}

	p := open("/slow", time.Minute)
	var asking sync.WaitGroup
	for range maxAsking {
		asking.Go(func() { ask(p) })
	}
	for range 1 + maxAsking { // the one above, and these
		<-slow
	}
	if _, err := ask(p); !errors.Is(err, errBusy) {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	asking.Wait()

	for _, u := range []string{"", "http://provider.example.com/", "ftp://localhost", "https://", "https://user:pw@provider.example.com", "provider.example.com"} {
		if _, err := NewProvider(ProviderConfig{URL: u}, metrics); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
}
