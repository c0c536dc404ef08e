package ws

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// headError is an HTTP answer to a head that cannot become a WebSocket.
type headError struct {
	status int
	text   string
	header http.Header
}

func (e *headError) Error() string { return "ws: " + strconv.Itoa(e.status) + " " + e.text }

func badHead(text string) *headError {
	return &headError{status: http.StatusBadRequest, text: text}
}

// head is a parsed upgrade request.
type head struct {
	Request
	key    string   // Sec-WebSocket-Key
	offers []string // values of Sec-WebSocket-Extensions
}

// headEnd returns the length of the HTTP head at the start of b, its empty
// line included, or 0 while that line is missing. Search starts at from.
func headEnd(b []byte, from int) int {
	for i := max(from-3, 0); i < len(b); {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		switch rest := b[i:]; {
		case len(rest) >= 1 && rest[0] == '\n':
			return i + 1
		case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
	return 0
}

// parseHead parses an upgrade request. It accepts what real stations send
// (raw spaces and UTF-8 in the path, doubled slashes, absolute-form targets, no
// Host, no Connection header, any case) and is strict about what decides how
// the bytes after it are read.
func parseHead(b []byte) (*head, *headError) {
	text := strings.TrimLeft(string(b), "\r\n") // RFC 9112 §2.2
	line, text, _ := strings.Cut(text, "\n")
	h := &head{}
	if err := h.requestLine(strings.TrimSuffix(line, "\r")); err != nil {
		return nil, err
	}
	if err := h.fields(text); err != nil {
		return nil, err
	}
	return h, h.check()
}

// requestLine parses "GET target HTTP/1.1"; the target may contain spaces.
func (h *head) requestLine(line string) *headError {
	method, rest, ok := strings.Cut(line, " ")
	at := strings.LastIndexByte(rest, ' ')
	if !ok || at < 0 || !isToken(method) {
		return badHead("malformed request line")
	}
	target, proto := strings.TrimSpace(rest[:at]), rest[at+1:]
	major, minor, ok := strings.Cut(strings.TrimPrefix(proto, "HTTP/"), ".")
	if !strings.HasPrefix(proto, "HTTP/") || !ok || len(major) != 1 || len(minor) != 1 || !isDigit(major[0]) || !isDigit(minor[0]) {
		return badHead("malformed request line")
	}
	if major != "1" || minor == "0" {
		return &headError{status: http.StatusHTTPVersionNotSupported, text: "HTTP/1.1 is required"}
	}
	if method != http.MethodGet {
		return &headError{status: http.StatusMethodNotAllowed, text: "only GET is allowed", header: http.Header{"Allow": {"GET"}}}
	}
	for i := range len(target) {
		if target[i] < 0x20 || target[i] == 0x7F {
			return badHead("control character in the request target")
		}
	}
	switch scheme, after, ok := strings.Cut(target, "://"); {
	case strings.HasPrefix(target, "/"): // origin-form
	case ok && isScheme(scheme): // absolute-form
		at := strings.IndexAny(after, "/?")
		if at < 0 {
			at = len(after)
		}
		h.Host, target = after[:at], after[at:]
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	default:
		return badHead("malformed request target")
	}
	target, _, _ = strings.Cut(target, "#")
	h.Path, h.Query, _ = strings.Cut(target, "?")
	return nil
}

// fields parses the header fields up to the empty line.
func (h *head) fields(text string) *headError {
	h.Header = make(http.Header, 12)
	for n := 0; ; n++ {
		line, rest, _ := strings.Cut(text, "\n")
		text, line = rest, strings.TrimSuffix(line, "\r")
		if line == "" {
			return nil
		}
		if n == maxFields {
			return &headError{status: http.StatusRequestHeaderFieldsTooLarge, text: "too many header fields"}
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) { // obsolete line folding and "Name :" end here, RFC 9112 §5
			return badHead("malformed header field")
		}
		value = strings.Trim(value, " \t")
		for i := range len(value) {
			if value[i] < 0x20 && value[i] != '\t' || value[i] == 0x7F {
				return badHead("control character in a header field")
			}
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		h.Header[name] = append(h.Header[name], value)
	}
}

// check decides whether the request may become a WebSocket, RFC 6455 §4.2.1.
func (h *head) check() *headError {
	for _, name := range []string{"Host", "Content-Length", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		if len(h.Header[name]) > 1 {
			return badHead("repeated " + name)
		}
	}
	if h.Host == "" {
		h.Host = h.Header.Get("Host")
	}
	if h.Header["Transfer-Encoding"] != nil || strings.Trim(h.Header.Get("Content-Length"), "0") != "" {
		return badHead("a body is not allowed")
	}
	if !hasToken(h.Header["Upgrade"], "websocket") {
		return upgradeRequired("a WebSocket upgrade is required")
	}
	if v := h.Header.Get("Sec-Websocket-Version"); v != "13" {
		return upgradeRequired("Sec-WebSocket-Version 13 is required") // §4.4
	}
	h.key = h.Header.Get("Sec-Websocket-Key")
	if raw, err := base64.StdEncoding.DecodeString(h.key); err != nil || len(raw) != 16 {
		return badHead("Sec-WebSocket-Key is not 16 bytes in base64")
	}
	for _, v := range h.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.Trim(p, " \t"); isToken(p) {
				h.Subprotocols = append(h.Subprotocols, p)
			}
		}
	}
	h.offers = h.Header["Sec-Websocket-Extensions"]
	return nil
}

func upgradeRequired(text string) *headError {
	return &headError{status: http.StatusUpgradeRequired, text: text, header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-WebSocket-Version": {"13"},
	}}
}

// hasToken reports whether a comma-separated list holds token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isScheme(s string) bool {
	switch strings.ToLower(s) {
	case "ws", "wss", "http", "https":
		return true
	}
	return false
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
