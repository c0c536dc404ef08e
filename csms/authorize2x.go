package csms

import (
	"cmp"
	"context"
	"unicode/utf8"

	"holdfast/ocpp"
	"holdfast/store"
)

type idToken2x struct {
	IDToken string `json:"idToken" ocpp:"required"`
	Type    string `json:"type" ocpp:"required"`
}

type idTokenInfo2x struct {
	Status              string        `json:"status" ocpp:"required"`
	CacheExpiryDateTime ocpp.DateTime `json:"cacheExpiryDateTime,omitzero"`
	GroupIDToken        *idToken2x    `json:"groupIdToken,omitempty"`
}

// groupType is the type of a group token: it exists only here, on no card.
const groupType = "Central"

// newIDTokenInfo puts a verdict into the words of version v.
func newIDTokenInfo(v ocpp.Version, verdict store.Verdict) idTokenInfo2x {
	longest := 255 // characters of an ID token
	if v == ocpp.V201 {
		longest = 36
	}
	info := idTokenInfo2x{Status: cmp.Or(verdict.Status, TokenInvalid)} // an empty token has no verdict
	if !verdict.ExpiresAt.IsZero() {
		info.CacheExpiryDateTime = ocpp.NewDateTime(verdict.ExpiresAt)
	}
	if g := verdict.Group; g != "" && utf8.RuneCountInString(g) <= longest { // a longer one cannot be a group here
		info.GroupIDToken = &idToken2x{IDToken: g, Type: groupType}
	}
	return info
}

type authorizeRequest2x struct {
	IDToken     idToken2x `json:"idToken"`
	Certificate string    `json:"certificate"`
}

type authorizeResponse2x struct {
	IDTokenInfo       idTokenInfo2x `json:"idTokenInfo" ocpp:"required"`
	CertificateStatus string        `json:"certificateStatus,omitempty"`
}

// authorize2x answers for the ID token alone. Of certificates that the station
// has checked itself (iso15118CertificateHashData) nothing is said. One that it
// leaves to the CSMS cannot be checked here, so it opens nothing (C07).
func authorize2x(ctx context.Context, c *CSMS, m Message, request *authorizeRequest2x) (*authorizeResponse2x, error) {
	if request.Certificate != "" {
		return &authorizeResponse2x{idTokenInfo2x{Status: TokenInvalid}, "CertChainError"}, nil
	}
	v, err := c.Authorize(ctx, m, request.IDToken.IDToken, request.IDToken.Type)
	if err != nil {
		return nil, err
	}
	return &authorizeResponse2x{IDTokenInfo: newIDTokenInfo(m.Version, v)}, nil
}
