package ocpp

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// StationID is a charging station's identity as its operator registered it.
// Identities are compared without regard to case (OCPP 2.x identifierString);
// use Fold for a map key.
type StationID string

// MaxStationID is the longest identity that is looked at, in bytes. OCPP 2.x
// allows 48 characters, 1.6 states no limit.
const MaxStationID = 255

var errNoIdentity = errors.New("no station identity: the last path segment is empty, connect to /ocpp/{identity}")

// ParseStationID takes the identity from the escaped path of an upgrade request:
// its last segment that is not empty, percent-decoded once. What stands before
// it does not matter, doubled and trailing slashes neither.
func ParseStationID(escapedPath string) (StationID, error) {
	path, _, _ := strings.Cut(escapedPath, "?")
	path = strings.TrimRight(path, "/")
	segment := path[strings.LastIndexByte(path, '/')+1:]
	if segment == "" {
		return "", errNoIdentity
	}
	id, err := url.PathUnescape(segment)
	if err != nil {
		return "", fmt.Errorf("station identity %.64q: bad percent escape", segment)
	}
	if err := StationID(id).Check(); err != nil {
		return "", err
	}
	return StationID(id), nil
}

// Check reports why id cannot be an identity: empty, too long, not UTF-8, a
// slash, a control character, or blanks only.
func (id StationID) Check() error {
	s := string(id)
	switch {
	case strings.TrimSpace(s) == "":
		return errNoIdentity
	case len(s) > MaxStationID:
		return fmt.Errorf("station identity of %d bytes: at most %d", len(s), MaxStationID)
	case !utf8.ValidString(s):
		return fmt.Errorf("station identity %q: not UTF-8", s)
	case strings.ContainsRune(s, '/'):
		return fmt.Errorf("station identity %q: holds a slash", s)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("station identity %q: holds a control character", s)
	}
	return nil
}

// Fold returns the form under which two spellings of one identity are equal.
func (id StationID) Fold() string { return strings.ToLower(string(id)) }
