package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/api"
	"holdfast/store"
)

// readToken reads a token file.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 20 || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("token: %s does not hold one of 20 characters or more (DATA/token: delete it and start the server, which makes a new one)", path)
	}
	return token, nil
}

// ensureToken returns the admin token in a file that only its owner can read,
// and makes one at the first start. Deleting the file and starting again
// replaces the token.
func ensureToken(path string) (string, error) {
	switch info, err := os.Stat(path); {
	case err == nil && info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("API token: others can read %s: chmod 600 it, or delete it to have a new one", path)
	case err == nil:
		return readToken(path)
	case !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("API token: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("API token: %w", err)
	}
	// Written aside and linked, so that nobody ever reads half a token, and of two
	// processes that start at once one wins.
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // with mode 0600
	if err != nil {
		return "", fmt.Errorf("API token: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(api.NewToken() + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("API token: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("API token: %w", err)
	}
	return readToken(path)
}

type tokenCommands struct {
	clientFlags
	Add    tokenAdd    `cmd:"" help:"Make an API token and print it, once."`
	List   tokenList   `cmd:"" help:"List API tokens."`
	Revoke tokenRevoke `cmd:"" help:"Revoke an API token."`
}

type tokenAdd struct {
	Name    string `arg:"" help:"Who will use it; the audit record cites it."`
	Role    string `help:"What it may do: read, operate or admin." enum:"read,operate,admin" default:"read"`
	Expires span   `help:"When it ends: 30d, 12h. Default: never." placeholder:"TIME"`
}

func (c *tokenAdd) Run(e *env, parent *tokenCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	body := map[string]any{"name": c.Name, "role": c.Role}
	if c.Expires > 0 {
		body["expires_at"] = time.Now().Add(time.Duration(c.Expires))
	}
	var added api.NewAPIToken
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/tokens", nil, body, &added); err != nil {
		return err
	}
	return e.print(added, func(w io.Writer) { fmt.Fprintln(w, added.Token) })
}

type tokenList struct{}

func (c *tokenList) Run(e *env, parent *tokenCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	tokens, err := list[store.APIToken](e.ctx, cl, "/api/v1/tokens", nil, 0)
	if err != nil {
		return err
	}
	return e.print(tokens, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "ID\tNAME\tROLE\tLAST USED\tSTATUS")
		for _, t := range tokens {
			status := "good"
			switch {
			case !t.RevokedAt.IsZero():
				status = "revoked by " + t.RevokedBy
			case !t.Live(time.Now()):
				status = "expired"
			case !t.ExpiresAt.IsZero():
				status = "until " + t.ExpiresAt.Local().Format(time.DateTime)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, t.Role, since(t.LastUsedAt), status)
		}
	})
}

type tokenRevoke struct {
	Token string `arg:"" help:"Id or name of the token." name:"id"`
}

func (c *tokenRevoke) Run(e *env, parent *tokenCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	tokens, err := list[store.APIToken](e.ctx, cl, "/api/v1/tokens", nil, 0)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.ID != c.Token && !strings.EqualFold(t.Name, c.Token) {
			continue
		}
		var revoked store.APIToken
		if err := cl.do(e.ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(t.ID), nil, nil, &revoked); err != nil {
			return err
		}
		return e.print(revoked, func(w io.Writer) { fmt.Fprintf(w, "token %s revoked\n", t.Name) })
	}
	return fmt.Errorf("no API token has id or name %q (holdfast token list)", c.Token)
}
