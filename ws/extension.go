package ws

import "strings"

// agreement is what permessage-deflate was agreed on, RFC 7692 §7.
type agreement struct {
	on   bool
	bits uint8 // LZ77 window of what the server sends, 8 to 15
}

// agree picks the first acceptable permessage-deflate offer from the values of
// Sec-WebSocket-Extensions and returns the answer's value, "" if none.
func agree(values []string) (agreement, string) {
	for _, v := range values {
		for v != "" {
			var offer string
			offer, v = cutUnquoted(v, ',')
			if a, answer, ok := accept(offer); ok {
				return a, answer
			}
		}
	}
	return agreement{}, ""
}

// accept judges one offer. Unknown, repeated or malformed parameters decline
// it, RFC 7692 §5.1 and §7.1.
func accept(offer string) (a agreement, answer string, ok bool) {
	name, params := cutUnquoted(offer, ';')
	if !strings.EqualFold(trim(name), "permessage-deflate") {
		return a, "", false
	}
	a = agreement{on: true, bits: 15}
	seen := make(map[string]bool, 4)
	answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for params != "" {
		var param string
		param, params = cutUnquoted(params, ';')
		key, value, valued := strings.Cut(param, "=")
		key, value = strings.ToLower(trim(key)), trim(value)
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		if seen[key] {
			return a, "", false
		}
		seen[key] = true
		switch key {
		case "server_no_context_takeover", "client_no_context_takeover":
			if valued {
				return a, "", false
			}
		case "client_max_window_bits":
			// The client is free to choose: every window up to 15 bits is read.
			if valued && windowBits(value) == 0 {
				return a, "", false
			}
		case "server_max_window_bits":
			a.bits = windowBits(value)
			if !valued || a.bits == 0 {
				return a, "", false
			}
			answer += "; server_max_window_bits=" + value
		default:
			return a, "", false
		}
	}
	return a, answer, true
}

// windowBits parses 8 to 15 without leading zeros; 0 means anything else.
func windowBits(s string) uint8 {
	switch {
	case len(s) == 1 && (s == "8" || s == "9"):
		return s[0] - '0'
	case len(s) == 2 && s[0] == '1' && s[1] >= '0' && s[1] <= '5':
		return 10 + s[1] - '0'
	}
	return 0
}

func trim(s string) string { return strings.Trim(s, " \t") }

// cutUnquoted is strings.Cut at the first sep outside of a quoted string.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
