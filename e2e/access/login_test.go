package access_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
)

var install = sync.OnceValue(func() error {
	if _, err := os.Stat(filepath.Join("node_modules", "oidc-provider")); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Stderr = os.Stderr
	return cmd.Run()
})

// startProvider runs the OpenID Connect provider and returns its issuer.
func startProvider(t *testing.T, env ...string) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm is missing")
		}
		t.Skip("npm is missing")
	}
	if err := install(); err != nil {
		t.Fatalf("npm ci: %v", err)
	}
	cmd := exec.Command("node", "provider.mjs")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if issuer := lines.Text(); strings.HasPrefix(issuer, "http://") {
			go io.Copy(io.Discard, out)
			return issuer
		}
	}
	t.Fatal("the OIDC provider did not start")
	return ""
}

// person is somebody at a computer of their own.
type person struct {
	t    *testing.T
	name string
	home string
	api  string
}

// holdfast runs a command as that person.
func (p person) holdfast(args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	cmd := p.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func (p person) command(args ...string) *exec.Cmd {
	cmd := exec.Command(e2e.Build(p.t, "holdfast/cmd/holdfast"), args...)
	cmd.Dir = p.home
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+p.home)
	return cmd
}

var openURL = regexp.MustCompile(`open (http\S+) in a browser`)

// login runs holdfast login and does in a browser what it says.
func (p person) login() (code int, stdout, stderr string) {
	p.t.Helper()
	cmd := p.command("login", "--url", p.api)
	var out bytes.Buffer
	cmd.Stdout = &out
	pipe, err := cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if m := openURL.FindStringSubmatch(lines.Text()); m != nil {
			p.browse(m[1])
		}
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), said.String()
}

var (
	formTag  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	inputTag = regexp.MustCompile(`<input[^>]*>`)
	named    = regexp.MustCompile(`name="([^"]*)"`)
	valued   = regexp.MustCompile(`value="([^"]*)"`)
)

// browse opens a page and sends each form that it finds, with the person's name
// where a login is asked for, until there is none.
func (p person) browse(page string) {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	browser := http.Client{Jar: jar, Timeout: 20 * time.Second}
	r, err := browser.Get(page)
	for range 10 {
		if err != nil {
			p.t.Fatal(err)
		}
		body, err2 := io.ReadAll(r.Body)
		r.Body.Close()
		if err2 != nil {
			p.t.Fatal(err2)
		}
		form := formTag.FindSubmatch(body)
		if form == nil {
			return
		}
		action, err3 := r.Request.URL.Parse(html.UnescapeString(string(form[1])))
		if err3 != nil {
			p.t.Fatal(err3)
		}
		values := url.Values{}
		for _, input := range inputTag.FindAll(form[2], -1) {
			name := named.FindSubmatch(input)
			if name == nil {
				continue
			}
			value := ""
			if v := valued.FindSubmatch(input); v != nil {
				value = html.UnescapeString(string(v[1]))
			}
			if n := string(name[1]); n == "login" || n == "password" {
				value = p.name
			}
			values.Set(string(name[1]), value)
		}
		r, err = browser.PostForm(action.String(), values)
	}
	p.t.Fatal("the provider asks without end")
}

// TestLogin: people log in at the provider, have the role that their groups give
// them, stay logged in over the life of one token, and log out.
func TestLogin(t *testing.T) {
	const idTokenSeconds = "14" // a command renews one that has less than ten left
	issuer := startProvider(t, "ID_TOKEN_SECONDS="+idTokenSeconds)
	n := e2e.All(t, "--oidc-issuer", issuer, "--oidc-client-id", "holdfast", "--oidc-role-claim", "groups",
		"--oidc-roles", "admin=platform;operate=noc|support;read=everybody", "--oidc-scopes", "openid,offline_access")
	t.Run("people", func(t *testing.T) {
		for _, tt := range []struct {
			name     string
			role     string // of the login; empty: refused
			adds     int    // exit status of adding a station
			operates int    // of blocking one
		}{
			{"olga", "admin", 0, 0},
			{"nils", "operate", 1, 0},
			{"gast", "read", 1, 1},
			{"niemand", "", 1, 1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				p := person{t, tt.name, t.TempDir(), n.API}
				if code, _, stderr := p.holdfast("station", "list", "--url", n.API); code != 2 || !strings.Contains(stderr, "holdfast login") {
					t.Errorf("without a login: %d %s", code, stderr)
				}
				code, stdout, stderr := p.login()
				if tt.role == "" {
					if code != 1 || !strings.Contains(stderr, "has no role here") {
						t.Errorf("login: %d %s%s", code, stdout, stderr)
					}
					return
				}
				if want := "logged in as oidc:" + tt.name + ", role " + tt.role; code != 0 || !strings.Contains(stdout, want) {
					t.Fatalf("login: %d %s%s, want %q", code, stdout, stderr, want)
				}
				id := "S-" + tt.name
				if code, _, stderr := p.holdfast("station", "add", id, "--url", n.API); code != tt.adds {
					t.Errorf("add a station: %d %s", code, stderr)
				}
				n.Do("POST", "/api/v1/stations", map[string]any{"id": id}, nil)
				if code, _, stderr := p.holdfast("station", "block", id, "--url", n.API); code != tt.operates {
					t.Errorf("block a station: %d %s", code, stderr)
				}
				if tt.operates == 0 {
					var audit struct {
						Items []struct{ By, Action string }
					}
					n.Do("GET", "/api/v1/audit?action=station.block&station="+id, nil, &audit)
					if len(audit.Items) != 1 || audit.Items[0].By != "oidc:"+tt.name {
						t.Errorf("audit record: %+v", audit.Items)
					}
				}
				file := filepath.Join(p.home, "holdfast", "logins.json")
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", file, info, err)
				}
				first := p.saved(file)
				e2e.Await(t, "a fresh token", 30*time.Second, func() bool {
					if code, _, stderr := p.holdfast("station", "list", "--url", n.API); code != 0 {
						t.Fatalf("list stations: %d %s", code, stderr)
					}
					return p.saved(file) != first
				})
				if code, _, stderr := p.holdfast("logout", "--url", n.API); code != 0 {
					t.Errorf("logout: %d %s", code, stderr)
				}
				if code, _, _ := p.holdfast("station", "list", "--url", n.API); code != 2 {
					t.Errorf("after the logout: %d", code)
				}
			})
		}
	})
}

func (p person) saved(file string) string {
	p.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	var all map[string]struct{ Token string }
	if err := json.Unmarshal(data, &all); err != nil {
		p.t.Fatal(err)
	}
	return all[p.api].Token
}

// Without a provider, login says what to use instead.
func TestNoProvider(t *testing.T) {
	n := e2e.All(t)
	p := person{t, "olga", t.TempDir(), n.API}
	if code, _, stderr := p.holdfast("login", "--url", n.API); code != 1 || !strings.Contains(stderr, "holdfast token add") {
		t.Errorf("%d %s", code, stderr)
	}
	if code, _, stderr := p.holdfast("logout", "--url", n.API); code != 1 || !strings.Contains(stderr, "not logged in") {
		t.Errorf("%d %s", code, stderr)
	}
}
