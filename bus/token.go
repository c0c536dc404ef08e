package bus

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"holdfast/ocpp"
)

// token returns the folded identity as one token of a NATS subject. Different
// identities have different tokens.
func token(station ocpp.StationID) string {
	const hex = "0123456789ABCDEF"
	fold := station.Fold()
	plain := true
	for i := range len(fold) {
		plain = plain && isPlain(fold[i])
	}
	if plain {
		return fold
	}
	var b strings.Builder
	for i := range len(fold) {
		if c := fold[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// isPlain reports whether c stands for itself: not a separator, wildcard, blank or escape.
func isPlain(c byte) bool {
	return c > ' ' && c < 0x7f && c != '.' && c != '*' && c != '>' && c != '%'
}

// versionToken is a version without dots.
func versionToken(v ocpp.Version) string { return strings.ReplaceAll(string(v), ".", "") }

// actionToken is the action as a subject token. Stations send anything as an
// action; what cannot be one takes the token "unknown" and travels in a header.
func actionToken(action string) string {
	if len(action) > 64 {
		return "unknown"
	}
	for i := range len(action) {
		if c := action[i]; c|0x20 < 'a' || c|0x20 > 'z' {
			if c < '0' || c > '9' {
				return "unknown"
			}
		}
	}
	return action
}

func splitHostPort(address string) (string, int, error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number", p)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}
