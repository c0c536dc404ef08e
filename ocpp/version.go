package ocpp

import "strings"

// Version is an OCPP version, spelled as in documents: "1.6", "2.0.1", "2.1".
type Version string

const (
	V16  Version = "1.6"
	V201 Version = "2.0.1"
	V21  Version = "2.1"
)

// Versions are the supported versions, oldest first.
var Versions = []Version{V16, V201, V21}

// Subprotocol returns the WebSocket subprotocol name of v, such as "ocpp1.6".
func (v Version) Subprotocol() string { return "ocpp" + string(v) }

// Valid reports whether v is a supported version.
func (v Version) Valid() bool { return v == V16 || v == V201 || v == V21 }

// Is2x reports whether v is 2.0.1 or 2.1, which share their envelope rules.
func (v Version) Is2x() bool { return v == V201 || v == V21 }

// VersionOf returns the version that a subprotocol name stands for. Names are
// compared without regard to case; ocpp2.0 was withdrawn and is not 2.0.1.
func VersionOf(subprotocol string) (Version, bool) {
	for _, v := range Versions {
		if strings.EqualFold(subprotocol, v.Subprotocol()) {
			return v, true
		}
	}
	return "", false
}

// SecurityProfile is a security profile of the security white paper and of
// OCPP 2.x part 2, A00: how a station and its CSMS prove themselves.
type SecurityProfile uint8

const (
	ProfilePlain SecurityProfile = 1 // plain WebSocket, HTTP Basic
	ProfileTLS   SecurityProfile = 2 // TLS, HTTP Basic
	ProfileMTLS  SecurityProfile = 3 // TLS with client certificates
)

// Valid reports whether p is 1, 2 or 3.
func (p SecurityProfile) Valid() bool { return p >= ProfilePlain && p <= ProfileMTLS }

// Label returns the profile as metrics and logs show it: "1", "2" or "3".
func (p SecurityProfile) Label() string {
	switch p {
	case ProfilePlain:
		return "1"
	case ProfileTLS:
		return "2"
	case ProfileMTLS:
		return "3"
	}
	return "none"
}
