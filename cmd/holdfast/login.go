package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/api"
)

// login is a person's login at the OIDC provider of one operator API.
type login struct {
	Issuer   string    `json:"issuer"`
	ClientID string    `json:"client_id"`
	Token    string    `json:"token"` // the ID token: the API's bearer token
	Expires  time.Time `json:"expires"`
	Refresh  string    `json:"refresh,omitempty"`
}

// logins are what a person is logged in to, by address of the operator API. They
// are kept in one file that only its owner can read.
type logins map[string]login

// loginsFile is $XDG_CONFIG_HOME/holdfast/logins.json, or what the system has for that.
func loginsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("login: %w", err)
	}
	return filepath.Join(dir, "holdfast", "logins.json"), nil
}

// readLogins returns an empty set if there are none.
func readLogins() (logins, error) {
	path, err := loginsFile()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return logins{}, nil
	}
	l := logins{}
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		return nil, fmt.Errorf("login: %s: %w (delete it and log in again)", path, err)
	}
	return l, nil
}

func (l logins) write() error {
	path, err := loginsFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".logins-*") // mode 0600
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return nil
}

// tokenLeft is how long a token must still be good to be used.
const tokenLeft = 10 * time.Second

// loginToken returns the bearer token of a person who is logged in to the API at
// base, a fresh one if the provider gives it; empty if nobody is.
func loginToken(ctx context.Context, base string) (string, error) {
	all, err := readLogins()
	if err != nil {
		return "", err
	}
	l, ok := all[base]
	switch {
	case !ok:
		return "", nil
	case time.Until(l.Expires) > tokenLeft:
		return l.Token, nil
	case l.Refresh == "":
		return "", fmt.Errorf("the login to %s has ended: holdfast login --url %s", base, base)
	}
	provider, cfg, err := providerOf(ctx, api.Login{Issuer: l.Issuer, ClientID: l.ClientID})
	if err != nil {
		return "", err
	}
	fresh, err := cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: l.Refresh}).Token()
	if err == nil {
		l, err = loginOf(ctx, provider, api.Login{Issuer: l.Issuer, ClientID: l.ClientID}, fresh)
	}
	if err != nil {
		return "", fmt.Errorf("the login to %s has ended: %w (holdfast login --url %s)", base, err, base)
	}
	all[base] = l
	return l.Token, all.write()
}

func providerOf(ctx context.Context, where api.Login) (*oidc.Provider, *oauth2.Config, error) {
	provider, err := oidc.NewProvider(ctx, where.Issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("OIDC provider %s: %w", where.Issuer, err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client has no secret
	return provider, &oauth2.Config{ClientID: where.ClientID, Endpoint: endpoint, Scopes: where.Scopes}, nil
}

// loginOf checks what the provider gave.
func loginOf(ctx context.Context, provider *oidc.Provider, where api.Login, t *oauth2.Token) (login, error) {
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return login{}, errors.New("the provider gave no ID token: the scope openid is needed")
	}
	id, err := provider.Verifier(&oidc.Config{ClientID: where.ClientID}).Verify(ctx, raw)
	if err != nil {
		return login{}, err
	}
	return login{Issuer: where.Issuer, ClientID: where.ClientID, Token: raw, Expires: id.Expiry, Refresh: t.RefreshToken}, nil
}

type loginCommand struct {
	URL string `name:"url" help:"Address of the operator API." default:"http://127.0.0.1:8800" placeholder:"URL"`
}

// loginTime is how long a person may take to log in.
const loginTime = 15 * time.Minute

// Run logs a person in with a code that is entered in any browser (RFC 8628): it
// works over SSH, too.
func (c *loginCommand) Run(e *env) error {
	ctx, cancel := context.WithTimeout(e.ctx, loginTime)
	defer cancel()
	cl, err := (&clientFlags{URL: c.URL, Token: "none"}).client()
	if err != nil {
		return err
	}
	cl.token = ""
	var where api.Login
	if err := cl.do(ctx, http.MethodGet, "/api/login", nil, nil, &where); err != nil {
		if a, ok := errors.AsType[*apiError](err); ok && a.Status == http.StatusNotFound {
			return errors.New("this server has no OIDC provider (--oidc-issuer): use a token (holdfast token add)")
		}
		return err
	}
	provider, cfg, err := providerOf(ctx, where)
	if err != nil {
		return err
	}
	if cfg.Endpoint.DeviceAuthURL == "" {
		return fmt.Errorf("OIDC provider %s: its configuration has no device_authorization_endpoint: switch on the device flow there", where.Issuer)
	}
	code, err := cfg.DeviceAuth(ctx)
	if err != nil {
		return fmt.Errorf("OIDC provider %s: %w", where.Issuer, err)
	}
	if code.VerificationURIComplete != "" {
		fmt.Fprintf(e.stderr, "open %s in a browser\nor ", plain(code.VerificationURIComplete))
	}
	fmt.Fprintf(e.stderr, "open %s and enter the code %s\n", plain(code.VerificationURI), plain(code.UserCode))
	t, err := cfg.DeviceAccessToken(ctx, code)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	l, err := loginOf(ctx, provider, where, t)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	cl.token = l.Token
	var me api.Caller
	if err := cl.do(ctx, http.MethodGet, "/api/v1/me", nil, nil, &me); err != nil {
		return fmt.Errorf("logged in at %s, but: %w", where.Issuer, err)
	}
	all, err := readLogins()
	if err != nil {
		return err
	}
	all[cl.base] = l
	if err := all.write(); err != nil {
		return err
	}
	return e.print(me, func(w io.Writer) {
		fmt.Fprintf(w, "logged in as %s, role %s\n", plain(me.Name), me.Role)
	})
}

type logoutCommand struct {
	URL string `name:"url" help:"Address of the operator API." default:"http://127.0.0.1:8800" placeholder:"URL"`
}

// Run forgets the login; the provider's own session is the browser's.
func (c *logoutCommand) Run(e *env) error {
	all, err := readLogins()
	if err != nil {
		return err
	}
	base := strings.TrimRight(c.URL, "/")
	if _, ok := all[base]; !ok {
		return fmt.Errorf("not logged in to %s", base)
	}
	delete(all, base)
	if err := all.write(); err != nil {
		return err
	}
	return e.print(map[string]string{"logged_out": base}, func(w io.Writer) { fmt.Fprintf(w, "logged out of %s\n", base) })
}
