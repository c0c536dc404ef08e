package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/grafana/pyroscope-go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// pyroscopeFlags push profiles of memory to a Pyroscope. Whoever scrapes instead
// (Parca, Grafana Alloy) needs none of them: deploy/parca has an example.
type pyroscopeFlags struct {
	Pyroscope          string        `help:"Push profiles of heap and goroutines to this Pyroscope, http://host:4040." placeholder:"URL"`
	PyroscopeEvery     time.Duration `help:"Time between two of them." default:"1m"`
	PyroscopeTokenFile string        `help:"File with what it asks for: a token, or user:password." type:"path" placeholder:"FILE"`
	PyroscopeTenant    string        `help:"Its tenant, where it has several." placeholder:"NAME"`
}

const (
	pushLeastEvery = 10 * time.Second
	pushTimeout    = 30 * time.Second
	maxPushAnswer  = 4 << 10 // bytes of an answer that are read
	pushWarnEvery  = 10 * time.Minute
)

// check finds wrong usage. It returns the header that authorises, empty for none.
func (f *pyroscopeFlags) check() (authorization string, err error) {
	u, err := url.Parse(f.Pyroscope)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return "", &usageError{fmt.Sprintf("--pyroscope %q: want http://host:port or https://…; credentials go into --pyroscope-token-file", f.Pyroscope)}
	}
	if f.PyroscopeEvery < pushLeastEvery {
		return "", &usageError{fmt.Sprintf("--pyroscope-every %s: %s at least", f.PyroscopeEvery, pushLeastEvery)}
	}
	if f.PyroscopeTokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(f.PyroscopeTokenFile)
	if err != nil {
		return "", fmt.Errorf("token of Pyroscope: %w (see --pyroscope-token-file)", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case token == "" || strings.ContainsAny(token, " \t\r\n"):
		return "", fmt.Errorf("token of Pyroscope: %s holds neither a token nor user:password", f.PyroscopeTokenFile)
	case strings.Contains(token, ":"):
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(token)), nil
	}
	return "Bearer " + token, nil
}

// startProfilePush pushes profiles of this process, if that is wanted.
func (p *process) startProfilePush(f *pyroscopeFlags, role, id string) error {
	if f.Pyroscope == "" {
		return nil
	}
	authorization, err := f.check()
	if err != nil {
		return err
	}
	name, err := instance(role, id)
	if err != nil {
		return err
	}
	h := newProfilePush(authorization, p.log)
	p.admin.register([]prometheus.Collector{h.pushed})
	p.services.start("profile push", func(ctx context.Context) error {
		return h.run(ctx, pyroscope.Config{ServerAddress: f.Pyroscope, TenantID: f.PyroscopeTenant, UploadRate: f.PyroscopeEvery,
			Tags: map[string]string{"role": role, "process": name}})
	}, nil)
	return nil
}

// profilePush is the way of profiles to a Pyroscope: bounded, counted, and ended
// with the process. It is the library's HTTP client and its log.
type profilePush struct {
	ctx           context.Context // of run
	http          http.Client
	authorization string
	pushed        *prometheus.CounterVec
	log           *slog.Logger
	warn          rate.Sometimes
}

func newProfilePush(authorization string, log *slog.Logger) *profilePush {
	h := &profilePush{
		authorization: authorization, log: log, warn: rate.Sometimes{First: 1, Interval: pushWarnEvery},
		http: http.Client{Timeout: pushTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		pushed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_profiles_pushed_total",
			Help: "Profiles that were pushed to a Pyroscope, by result."}, []string{"result"}),
	}
	for _, result := range []string{"ok", "failed"} {
		h.pushed.WithLabelValues(result)
	}
	return h
}

// run pushes until ctx ends. The CPU is left out: while it is profiled all the
// time, nobody else can, /debug/pprof/profile included.
func (h *profilePush) run(ctx context.Context, cfg pyroscope.Config) error {
	h.ctx = ctx
	cfg.ApplicationName, cfg.Logger, cfg.HTTPClient = "holdfast", h, h
	cfg.ProfileTypes = []pyroscope.ProfileType{pyroscope.ProfileInuseObjects, pyroscope.ProfileInuseSpace,
		pyroscope.ProfileAllocObjects, pyroscope.ProfileAllocSpace, pyroscope.ProfileGoroutines}
	if pprof.Lookup("goroutineleak") != nil {
		cfg.ProfileTypes = append(cfg.ProfileTypes, pyroscope.ProfileGoroutineLeak)
	}
	cfg.DisableGCRuns = true // a heap without a collection since the last profile has none to show
	profiler, err := pyroscope.Start(cfg)
	if err != nil {
		return fmt.Errorf("push profiles: %w", err)
	}
	<-ctx.Done()
	return profiler.Stop()
}

// Do sends one profile.
func (h *profilePush) Do(r *http.Request) (*http.Response, error) {
	r = r.WithContext(h.ctx)
	if h.authorization != "" {
		r.Header.Set("Authorization", h.authorization)
	}
	answer, err := h.http.Do(r)
	switch {
	case err == nil && answer.StatusCode == http.StatusOK:
		h.pushed.WithLabelValues("ok").Inc()
	case h.ctx.Err() == nil: // at the end of the process it is nobody's fault
		h.pushed.WithLabelValues("failed").Inc()
	}
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxPushAnswer), answer.Body}
	}
	return answer, err
}

// Infof and Debugf are the library's talk.
func (h *profilePush) Infof(format string, args ...any)  { h.Debugf(format, args...) }
func (h *profilePush) Debugf(format string, args ...any) {}

// Errorf is what failed: one line in a while, the metric has them all.
func (h *profilePush) Errorf(format string, args ...any) {
	if h.ctx.Err() != nil {
		return
	}
	h.warn.Do(func() {
		h.log.Warn("push profiles (see --pyroscope)", "err", plain(fmt.Sprintf(format, args...)))
	})
}
