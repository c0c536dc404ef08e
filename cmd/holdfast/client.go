package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// clientFlags say how a client command finds the server.
type clientFlags struct {
	URL   string `name:"url" help:"Address of the operator API." default:"http://127.0.0.1:8800" placeholder:"URL"`
	Token string `help:"API token." placeholder:"TOKEN"`
	Data  string `help:"The server's data directory: the token is read from DIR/token. Default: ./data, for a server on this machine." type:"path" placeholder:"DIR"`
}

// client calls the operator API.
type client struct {
	http  http.Client
	base  string
	token string
}

// maxAnswer is the largest answer that a client reads, in bytes.
const maxAnswer = 64 << 20

func (f *clientFlags) client() (*client, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, &usageError{fmt.Sprintf("--url %q: want http://host:port or https://host:port", f.URL)}
	}
	c := &client{base: strings.TrimRight(f.URL, "/"), token: f.Token}
	switch {
	case c.token != "":
	case f.Data != "":
		if c.token, err = readToken(filepath.Join(f.Data, "token")); err != nil {
			return nil, err
		}
	case c.login(&err):
	case local(u.Hostname()): // the token of this machine is for this machine
		if c.token, err = readToken(filepath.Join("data", "token")); errors.Is(err, os.ErrNotExist) {
			return nil, &usageError{noToken}
		} else if err != nil {
			return nil, err
		}
	default:
		return nil, &usageError{noToken}
	}
	return c, err
}

const noToken = "no API token: give --token, HOLDFAST_TOKEN, --data with the server's data directory, or holdfast login"

// login takes the token of a person who is logged in and reports whether
// somebody is, also if that login has ended: then err says so.
func (c *client) login(err *error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), loginTokenTime)
	defer cancel()
	c.token, *err = loginToken(ctx, c.base)
	return c.token != "" || *err != nil
}

// loginTokenTime bounds the way to a fresh token.
const loginTokenTime = 30 * time.Second

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// apiError is a problem document of the API.
type apiError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

func (e *apiError) Error() string {
	s := e.Detail
	if s == "" {
		s = e.Title
	}
	for _, d := range e.Errors {
		if d.Message != e.Detail {
			s += "; " + strings.TrimPrefix(d.Location, "body.") + ": " + d.Message
		}
	}
	return plain(s)
}

// send makes a request. The caller closes the answer's body.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(data)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fmt.Errorf("no answer from %s: %w (is holdfast running there? --url gives another address)", c.base, err)
	}
	return answer, nil
}

// do makes a request and decodes the answer into out, if that is not nil.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body, out any) error {
	answer, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("answer of %s: %w", c.base, err)
	}
	// A call to a station can fail with an answer that is no problem document.
	if answer.StatusCode >= 400 && (out == nil || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json")) {
		return problemIn(answer, data)
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("answer of %s: %w", c.base, err)
	}
	return nil
}

func problemIn(answer *http.Response, data []byte) error {
	e := &apiError{Status: answer.StatusCode}
	if json.Unmarshal(data, e) != nil || e.Detail == "" && e.Title == "" {
		return fmt.Errorf("%s answers %s: is the operator API there?", answer.Request.URL.Host, answer.Status)
	}
	return e
}

// list reads all pages of a list, at most max items (0: all).
func list[T any](ctx context.Context, c *client, path string, query url.Values, max int) ([]T, error) {
	items := []T{}
	if query == nil {
		query = url.Values{}
	}
	for {
		limit := 1000
		if max > 0 {
			limit = min(limit, max-len(items))
		}
		query.Set("limit", strconv.Itoa(limit))
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next_cursor"`
		}
		if err := c.do(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" || max > 0 && len(items) >= max {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
}

// follow calls do with the data of each server-sent event until ctx ends, which
// is no error.
func (c *client) follow(ctx context.Context, path string, query url.Values, do func(name string, data []byte) error) error {
	answer, err := c.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return quietEnd(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if err != nil {
			return quietEnd(ctx, err)
		}
		return problemIn(answer, data)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 4<<20)
	name := ""
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "event":
			name = value
		case "data":
			if name == "end" {
				return fmt.Errorf("the server ended the stream: %s", plain(value))
			}
			if err := do(name, []byte(value)); err != nil {
				return err
			}
		}
	}
	if err := quietEnd(ctx, lines.Err()); err != nil {
		return fmt.Errorf("stream of %s: %w", c.base, err)
	}
	if ctx.Err() == nil {
		return fmt.Errorf("stream of %s: ended by the server", c.base)
	}
	return nil
}

func quietEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stationURL is the path of a station, or of something below it.
func stationURL(id string, below ...string) string {
	return "/api/v1/stations/" + url.PathEscape(id) + strings.Join(below, "")
}

// plain makes text that a station or a stranger wrote fit for a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// since tells how long ago a time was.
func since(t time.Time) string {
	switch d := time.Since(t); {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return fmt.Sprintf("%.0f s ago", max(d.Seconds(), 0))
	case d < time.Hour:
		return fmt.Sprintf("%.0f min ago", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h ago", d.Hours())
	}
	return t.Local().Format(time.DateOnly)
}

// span is a duration that can also be given in days: 30d.
type span time.Duration

// UnmarshalText reads 30d or what time.ParseDuration reads.
func (s *span) UnmarshalText(text []byte) error {
	if n, ok := strings.CutSuffix(string(text), "d"); ok {
		days, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return fmt.Errorf("%q: want a number of days such as 30d", text)
		}
		*s = span(time.Duration(days) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q: want a duration such as 30d or 12h", text)
	}
	*s = span(d)
	return nil
}
