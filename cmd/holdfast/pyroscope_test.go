package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/pprof/profile"
	"github.com/grafana/pyroscope-go"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// received is one profile as a server got it.
type received struct {
	name, authorization, tenant string
	profile                     *profile.Profile
	err                         error
}

// receive reads a push as Pyroscope does.
func receive(r *http.Request) received {
	got := received{name: r.URL.Query().Get("name"), authorization: r.Header.Get("Authorization"), tenant: r.Header.Get("X-Scope-OrgID")}
	file, _, err := r.FormFile("profile")
	if err != nil {
		got.err = err
		return got
	}
	defer file.Close()
	got.profile, got.err = profile.Parse(file)
	if got.err == nil {
		got.err = got.profile.CheckValid()
	}
	return got
}

func TestProfilePush(t *testing.T) {
	list := make(chan received, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/base/ingest" {
			http.Error(w, r.Method+" "+r.URL.Path, http.StatusNotFound)
			return
		}
		list <- receive(r)
	}))
	defer server.Close()
	h := newProfilePush("Bearer 0123456789", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- h.run(ctx, pyroscope.Config{ServerAddress: server.URL + "/base", TenantID: "operator", UploadRate: 20 * time.Millisecond,
			Tags: map[string]string{"role": "gateway", "process": "gateway/gw-1"}})
	}()
	types := make(map[string]bool)
	limit := time.After(30 * time.Second)
	for !types["inuse_space"] || !types["alloc_space"] || !types["goroutine"] && !types["goroutines"] {
		select {
		case got := <-list:
			if got.err != nil || !strings.HasPrefix(got.name, "holdfast") || !strings.Contains(got.name, "process=gateway/gw-1") || !strings.Contains(got.name, "role=gateway") ||
				got.authorization != "Bearer 0123456789" || got.tenant != "operator" {
				t.Fatalf("received %+v", got)
			}
			for _, s := range got.profile.SampleType {
				types[s.Type] = true
			}
		case <-limit:
			t.Fatalf("sample types so far: %v", types)
		}
	}
	for testutil.ToFloat64(h.pushed.WithLabelValues("ok")) < 2 { // the answer comes after the profile
		select {
		case <-list:
		case <-limit:
			t.Fatal("not two counted")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if failed := testutil.ToFloat64(h.pushed.WithLabelValues("failed")); failed != 0 {
		t.Errorf("%v failed", failed)
	}
}

// A Pyroscope that refuses, or answers without end, is counted and logged once.
func TestProfilePushFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		for range 100 {
			w.Write(bytes.Repeat([]byte("no\n\x1b["), 10_000))
		}
	}))
	defer server.Close()
	var log bytes.Buffer
	h := newProfilePush("", slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- h.run(ctx, pyroscope.Config{ServerAddress: server.URL, UploadRate: 20 * time.Millisecond})
	}()
	for deadline := time.Now().Add(30 * time.Second); testutil.ToFloat64(h.pushed.WithLabelValues("failed")) < 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not 5 failures")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "401") || len(log.String()) > 3*maxPushAnswer {
		t.Errorf("%d log lines: %.300s", lines, log.String())
	}
}

func TestPyroscopeFlags(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct {
		flags pyroscopeFlags
		want  string
		err   string
	}{
		{pyroscopeFlags{Pyroscope: "http://p:4040", PyroscopeEvery: time.Minute}, "", ""},
		{pyroscopeFlags{Pyroscope: "https://p", PyroscopeEvery: time.Minute, PyroscopeTokenFile: file("secret\n")}, "Bearer secret", ""},
		{pyroscopeFlags{Pyroscope: "https://p", PyroscopeEvery: time.Minute, PyroscopeTokenFile: file("me:secret")}, "Basic bWU6c2VjcmV0", ""},
		{pyroscopeFlags{Pyroscope: "https://p", PyroscopeEvery: time.Minute, PyroscopeTokenFile: file(" ")}, "", "neither a token"},
		{pyroscopeFlags{Pyroscope: "https://p", PyroscopeEvery: time.Minute, PyroscopeTokenFile: "/nowhere/token"}, "", "--pyroscope-token-file"},
		{pyroscopeFlags{Pyroscope: "https://me:secret@p", PyroscopeEvery: time.Minute}, "", "credentials go into"},
		{pyroscopeFlags{Pyroscope: "p:4040", PyroscopeEvery: time.Minute}, "", "want http://"},
		{pyroscopeFlags{Pyroscope: "http://p", PyroscopeEvery: time.Second}, "", "at least"},
	} {
		got, err := tt.flags.check()
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %q, %v", tt.flags, got, err)
		}
	}
}

// What Parca scrapes by deploy/parca is served, and is a profile.
func TestScrapedProfiles(t *testing.T) {
	server := httptest.NewServer(newAdmin().handler())
	defer server.Close()
	paths := parcaPaths(t)
	if !slices.Contains(paths, "/debug/pprof/allocs") || !slices.Contains(paths, "/debug/pprof/goroutine") {
		t.Fatalf("paths %q", paths)
	}
	for _, path := range paths {
		r, err := http.Get(server.URL + path + "?seconds=1")
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Parse(r.Body)
		r.Body.Close()
		if err != nil || p.CheckValid() != nil || len(p.SampleType) == 0 {
			t.Errorf("%s: %s: %v", path, r.Status, err)
		}
	}
}

// parcaPaths are the paths that deploy/parca/parca.yaml has Parca scrape.
func parcaPaths(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("../../deploy/parca/parca.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		ScrapeConfigs []struct {
			ProfilingConfig struct {
				PprofConfig map[string]struct {
					Enabled bool   `yaml:"enabled"`
					Path    string `yaml:"path"`
				} `yaml:"pprof_config"`
			} `yaml:"profiling_config"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, job := range file.ScrapeConfigs {
		for _, p := range job.ProfilingConfig.PprofConfig {
			if p.Enabled {
				paths = append(paths, p.Path)
			}
		}
	}
	return paths
}
