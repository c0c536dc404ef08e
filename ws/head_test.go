package ws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const headTail = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func TestParseHeadAccepts(t *testing.T) {
	for _, tt := range []struct{ name, head, path, query, host string }{
		{"usual", "GET /ocpp/CS1 HTTP/1.1\r\nHost: h\r\n" + headTail, "/ocpp/CS1", "", "h"},
		{"query", "GET /ocpp/CS1?a=b?c HTTP/1.1\r\nHost: h\r\n" + headTail, "/ocpp/CS1", "a=b?c", "h"},
		{"no host", "GET /CS1 HTTP/1.1\r\n" + headTail, "/CS1", "", ""},
		{"doubled slashes", "GET //ocpp///CS1/ HTTP/1.1\r\n" + headTail, "//ocpp///CS1/", "", ""},
		{"absolute form", "GET ws://host:80/ocpp/CS1?x HTTP/1.1\r\nHost: other\r\n" + headTail, "/ocpp/CS1", "x", "host:80"},
		{"absolute form without path", "GET WSS://host HTTP/1.1\r\n" + headTail, "/", "", "host"},
		{"escapes are kept", "GET /RDAM%20123%7C%2f HTTP/1.1\r\n" + headTail, "/RDAM%20123%7C%2f", "", ""},
		{"broken escape", "GET /a%zz HTTP/1.1\r\n" + headTail, "/a%zz", "", ""},
		{"raw space", "GET /ocpp/RDAM 123 HTTP/1.1\r\n" + headTail, "/ocpp/RDAM 123", "", ""},
		{"raw UTF-8", "GET /ocpp/Säule HTTP/1.1\r\n" + headTail, "/ocpp/Säule", "", ""},
		{"root", "GET / HTTP/1.1\r\n" + headTail, "/", "", ""},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + headTail, "/a", "", ""},
		{"line feeds only", strings.ReplaceAll("GET /a HTTP/1.1\r\n"+headTail, "\r\n", "\n"), "/a", "", ""},
		{"empty line first", "\r\nGET /a HTTP/1.1\r\n" + headTail, "/a", "", ""},
		{"no connection header", "GET /a HTTP/1.1\r\n" + strings.Replace(headTail, "Connection: Upgrade\r\n", "", 1), "/a", "", ""},
		{"mixed case", "GET /a HTTP/1.1\r\n" + strings.Replace(headTail, "Upgrade: websocket", "uPGRADE: WebSocket", 1), "/a", "", ""},
		{"keep-alive, Upgrade", "GET /a HTTP/1.1\r\n" + strings.Replace(headTail, "Connection: Upgrade", "connection: keep-alive, Upgrade", 1), "/a", "", ""},
		{"length zero", "GET /a HTTP/1.1\r\nContent-Length: 0\r\n" + headTail, "/a", "", ""},
	} {
		h, err := parseHead([]byte(tt.head))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if h.Path != tt.path || h.Query != tt.query || h.Host != tt.host {
			t.Errorf("%s: path %q query %q host %q", tt.name, h.Path, h.Query, h.Host)
		}
	}
}

func TestParseHeadRefuses(t *testing.T) {
	usual := "GET /a HTTP/1.1\r\n" + headTail
	for _, tt := range []struct {
		name, head string
		status     int
	}{
		{"no upgrade", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 426},
		{"old version", strings.Replace(usual, "Version: 13", "Version: 8", 1), 426},
		{"no version", strings.Replace(usual, "Sec-WebSocket-Version: 13\r\n", "", 1), 426},
		{"no key", strings.Replace(usual, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1), 400},
		{"short key", strings.Replace(usual, "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 1), 400},
		{"two keys", strings.Replace(usual, "Upgrade: web", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: web", 1), 400},
		{"two hosts", strings.Replace(usual, "Upgrade: web", "Host: a\r\nHost: b\r\nUpgrade: web", 1), 400},
		{"body", strings.Replace(usual, "Upgrade: web", "Content-Length: 5\r\nUpgrade: web", 1), 400},
		{"chunked", strings.Replace(usual, "Upgrade: web", "Transfer-Encoding: chunked\r\nUpgrade: web", 1), 400},
		{"POST", strings.Replace(usual, "GET", "POST", 1), 405},
		{"HTTP/1.0", strings.Replace(usual, "HTTP/1.1", "HTTP/1.0", 1), 505},
		{"HTTP/2.0", strings.Replace(usual, "HTTP/1.1", "HTTP/2.0", 1), 505},
		{"not HTTP", "hello\r\n\r\n", 400},
		{"not HTTP version", strings.Replace(usual, "HTTP/1.1", "HTTP/one", 1), 400},
		{"no target", "GET HTTP/1.1\r\n" + headTail, 400},
		{"relative target", "GET a HTTP/1.1\r\n" + headTail, 400},
		{"asterisk", "GET * HTTP/1.1\r\n" + headTail, 400},
		{"control character in target", "GET /a\x01b HTTP/1.1\r\n" + headTail, 400},
		{"NUL in a field", strings.Replace(usual, "Upgrade: web", "X: a\x00b\r\nUpgrade: web", 1), 400},
		{"folded field", strings.Replace(usual, "Upgrade: web", "X: a\r\n b\r\nUpgrade: web", 1), 400},
		{"space before colon", strings.Replace(usual, "Upgrade: web", "X : a\r\nUpgrade: web", 1), 400},
		{"field without colon", strings.Replace(usual, "Upgrade: web", "X\r\nUpgrade: web", 1), 400},
		{"too many fields", "GET /a HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 70) + headTail, 431},
	} {
		_, err := parseHead([]byte(tt.head))
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
		} else if err.status != tt.status {
			t.Errorf("%s: status %d (%v), want %d", tt.name, err.status, err, tt.status)
		}
	}
}

func TestParseHeadLists(t *testing.T) {
	h, err := parseHead([]byte("GET /a HTTP/1.1\r\nSec-WebSocket-Protocol: ocpp2.0.1, ocpp1.6\r\nsec-websocket-protocol: x;y, ,ocpp2.1\r\nAuthorization: basic \xff\xfe\r\n" + headTail))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ocpp2.0.1", "ocpp1.6", "ocpp2.1"}; !slices.Equal(h.Subprotocols, want) {
		t.Errorf("subprotocols %q", h.Subprotocols)
	}
	if got := h.Header.Get("Authorization"); got != "basic \xff\xfe" {
		t.Errorf("raw bytes of a field changed: %q", got)
	}
}

func TestHeadEndSplit(t *testing.T) {
	for _, head := range []string{"GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1\r\nA: b\n\r\n"} {
		b := []byte(head + "rest")
		for from := range len(head) {
			if got := headEnd(b, from); got != len(head) {
				t.Errorf("%q from %d: end %d, want %d", head, from, got, len(head))
			}
		}
		for n := range len(head) {
			if got := headEnd(b[:n], 0); got != 0 {
				t.Errorf("%q cut at %d: end %d", head, n, got)
			}
		}
	}
}

func TestAppendAnswer(t *testing.T) {
	b := string(appendAnswer(nil, 401, http.Header{"WWW-Authenticate": {"Basic realm=\"x\"\r\nEvil: y"}, "Bad name": {"z"}}, "no\n"))
	if !strings.HasPrefix(b, "HTTP/1.1 401 Unauthorized\r\n") || strings.Contains(b, "\nEvil") || strings.Contains(b, "Bad name") || !strings.HasSuffix(b, "Content-Length: 3\r\n\r\nno\n") {
		t.Errorf("%q", b)
	}
	for _, status := range []int{0, 101, 301, 999} {
		if b := string(appendAnswer(nil, status, nil, "")); !strings.HasPrefix(b, "HTTP/1.1 500 ") {
			t.Errorf("status %d: %q", status, b)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte("GET /ocpp/CS1 HTTP/1.1\r\nHost: h\r\n" + headTail))
	f.Add([]byte("GET ws://h/RDAM 123?q HTTP/1.1\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=\"10\"\n" + headTail))
	f.Add([]byte("POST / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if end := headEnd(b, 0); end > len(b) {
			t.Fatalf("head ends at %d of %d", end, len(b))
		}
		h, err := parseHead(b)
		if err != nil {
			if err.status < 400 || http.StatusText(err.status) == "" {
				t.Fatalf("status %d", err.status)
			}
			return
		}
		if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, "?#\r\n\x00") || len(h.key) != 24 {
			t.Fatalf("path %q, key %q", h.Path, h.key)
		}
		for _, p := range h.Subprotocols {
			if !isToken(p) {
				t.Fatalf("subprotocol %q", p)
			}
		}
		if a, answer := agree(h.offers); a.on != (answer != "") || a.on && (a.bits < 8 || a.bits > 15) {
			t.Fatalf("agreement %+v, answer %q", a, answer)
		}
		if out := appendSwitching(nil, h, &Response{Subprotocol: fmt.Sprint(h.Subprotocols)}, ""); strings.Count(string(out), "\r\n\r\n") != 1 {
			t.Fatalf("answer %q", out)
		}
	})
}
