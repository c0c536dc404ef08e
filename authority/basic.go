package authority

import (
	"net/url"
	"strings"

	"holdfast/ocpp"
)

// maxBasic is the longest Basic credentials that are looked at, in bytes:
// MaxStationID percent-encoded, a colon and 64 characters in hex fit.
const maxBasic = 1024

// basicPassword takes the password from Basic credentials ("user:password",
// decoded) by stripping the user name, which is known: user if it is set, else
// the identity, as registered or as presented, decoded or percent-encoded,
// without regard to case. It never looks for a colon: both an identity of 1.6
// and a password may hold some, and a password may be any bytes.
func basicPassword(basic []byte, user string, registered, presented ocpp.StationID) (password []byte, ok bool) {
	if user != "" {
		return stripName(basic, user)
	}
	for _, id := range []ocpp.StationID{presented, registered} {
		for _, name := range []string{string(id), url.PathEscape(string(id))} {
			if password, ok := stripName(basic, name); ok {
				return password, true
			}
		}
	}
	return nil, false
}

func stripName(basic []byte, name string) ([]byte, bool) {
	n := len(name)
	if n == 0 || len(basic) <= n || basic[n] != ':' || !strings.EqualFold(string(basic[:n]), name) {
		return nil, false
	}
	return basic[n+1:], true
}
