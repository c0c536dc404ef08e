package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast/leak"
	"holdfast/memory"
)

// admin is the port for operators' machines: health, metrics, profiles. On
// loopback, where it listens by default, it asks for no token; elsewhere for one
// unless an operator says that the network is closed (guarded).
type admin struct {
	registry *prometheus.Registry
	account  *memory.Account
	mu       sync.Mutex
	started  bool
	leak     *leak.Monitor                        // nil until it starts
	evidence *leak.Evidence                       // with leak
	ready    []func(ctx context.Context) []string // why this process is not ready
	check    []func() error                       // counts that must agree
	more     *http.ServeMux                       // what parts serve beside
}

func newAdmin() *admin {
	a := &admin{registry: prometheus.NewRegistry(), account: memory.NewAccount(), more: http.NewServeMux()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.registry.MustRegister(a.account.Collectors()...)
	return a
}

// askReady adds a part that may not be ready.
func (a *admin) askReady(f func(ctx context.Context) []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = append(a.ready, f)
}

// askCheck adds a part that can check its counts.
func (a *admin) askCheck(f func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.check = append(a.check, f)
}

// serve adds what a part serves under a path. ServeMux has a lock of its own.
func (a *admin) serve(path string, h http.Handler) { a.more.Handle(path, h) }

// watch shows what a leak detector says.
func (a *admin) watch(m *leak.Monitor, e *leak.Evidence) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leak, a.evidence = m, e
}

// start says that all parts are there.
func (a *admin) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = true
}

func (a *admin) register(list []prometheus.Collector) { a.registry.MustRegister(list...) }

// whyNot returns why this process is not ready; nothing if it is.
func (a *admin) whyNot(ctx context.Context) []string {
	a.mu.Lock()
	ready := slices.Clone(a.ready)
	why := []string{}
	if !a.started {
		why = append(why, "starting")
	}
	a.mu.Unlock()
	for _, f := range ready {
		why = append(why, f(ctx)...)
	}
	return why
}

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 4*time.Second)
		defer cancel()
		if why := a.whyNot(ctx); len(why) > 0 {
			writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": why})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"status": "ready", "reasons": []string{}})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /debug/memory", func(w http.ResponseWriter, r *http.Request) {
		report, err := a.account.Read()
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, report)
	})
	mux.HandleFunc("GET /debug/memory.svg", func(w http.ResponseWriter, r *http.Request) {
		report, err := a.account.Read()
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Header().Set("Cache-Control", "no-store")
		memory.Picture(w, fmt.Sprintf("holdfast, process %d", os.Getpid()), report.Sample()) // an error is the reader's leaving
	})
	mux.HandleFunc("GET /debug/leak", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		m := a.leak
		a.mu.Unlock()
		if m == nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": "starting"})
			return
		}
		writeJSON(w, http.StatusOK, m.Status())
	})
	a.serveEvidence(mux)
	mux.HandleFunc("GET /debug/check", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		checks := slices.Clone(a.check)
		a.mu.Unlock()
		problems := []string{}
		for _, check := range checks {
			if err := check(); err != nil {
				problems = append(problems, err.Error())
			}
		}
		status := http.StatusOK
		if len(problems) > 0 {
			status = http.StatusInternalServerError
		}
		writeJSON(w, status, map[string]any{"ok": len(problems) == 0, "problems": problems})
	})
	mux.Handle("/", a.more)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// guarded asks for a bearer token, but for what a supervisor looks at: whether
// the process lives and is ready. Without a token, nothing else is served.
func guarded(h http.Handler, token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(given)))
		good := token != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
		switch {
		case good || r.URL.Path == "/healthz" || r.URL.Path == "/readyz":
			h.ServeHTTP(w, r)
		case token == "":
			writeJSON(w, http.StatusForbidden, map[string]any{"error": "not served on an address that is not loopback: give --admin-token-file, or --admin-open if the network is closed"})
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast admin"`)
			writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "send the token of --admin-token-file as Authorization: Bearer TOKEN"})
		}
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v)
}

// listen opens an address, with an error that says how to mend it.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w (choose another address with --%s, or stop what uses this one)", address, err, flag)
	}
	return l, nil
}

// serveHTTP serves h on l until ctx ends, then lets running requests finish.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	// No WriteTimeout: profiles and event streams take long.
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := srv.Shutdown(stop)
		if err != nil {
			err = srv.Close()
		}
		stopped <- err
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
