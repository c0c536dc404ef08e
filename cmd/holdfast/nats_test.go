package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/authority"
)

// TestNATSCredentials runs the command as an operator would.
func TestNATSCredentials(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	do := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"nats", "credentials", "--out", dir}, args...), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, tt := range []struct {
		args  []string
		code  int
		files int
		want  string
	}{
		{nil, 0, 3, "gateway.creds"},
		{nil, 0, 3, "gateway.creds"}, // again: nothing changes
		{[]string{"--role", "gateway", "--name", "gateway-2"}, 0, 4, "gateway-2.creds"},
		{[]string{"--name", "x"}, 2, 4, "--role"},
		{[]string{"--role", "root"}, 2, 4, "must be one of"},
		{[]string{"--role", "csms", "--name", "gateway"}, 1, 4, "choose another name"},
	} {
		code, stdout, stderr := do(tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("%q: exit status %d, %s%s", tt.args, code, stdout, stderr)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "*.creds")); len(files) != tt.files {
			t.Errorf("%q: %d files, want %d", tt.args, len(files), tt.files)
		}
	}
	_, stdout, _ := do("--json")
	var out struct {
		Authorization string
		Users         []struct{ Name, Role, Key, File string }
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || len(out.Users) != 4 {
		t.Fatalf("%v: %s", err, stdout)
	}
	conf, err := os.ReadFile(out.Authorization)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Users {
		if !strings.Contains(string(conf), u.Key) {
			t.Errorf("%s is not in %s", u.Name, out.Authorization)
		}
	}
}

// TestGatewayMayAsk holds what gateways may ask of the authority against what
// the authority offers: a new method is closed to them until somebody says why not.
func TestGatewayMayAsk(t *testing.T) {
	dir := t.TempDir()
	if code := run(t.Context(), []string{"nats", "credentials", "--out", dir, "--role", "gateway"}, new(bytes.Buffer), os.Stderr); code != 0 {
		t.Fatal(code)
	}
	conf, err := os.ReadFile(filepath.Join(dir, "authorization.conf"))
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{"admit": true, "note": true, "trust": true, "tickets": true, "certificate.server": true}
	if strings.Contains(string(conf), `"authority.>"`) {
		t.Error("gateways may ask everything")
	}
	methods := slices.Sorted(maps.Keys(new(authority.Authority).Handlers()))
	for _, m := range methods {
		if allowed := strings.Contains(string(conf), `"authority.`+m+`"`); allowed != open[m] {
			t.Errorf("a gateway may ask authority.%s: %v, want %v", m, allowed, open[m])
		}
	}
	for m := range open {
		if !slices.Contains(methods, m) {
			t.Errorf("the authority has no method %s", m)
		}
	}
}
