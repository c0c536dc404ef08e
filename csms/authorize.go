package csms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/store"
)

// The answers to an ID token. OCPP 1.6 has no Unknown: it says Invalid there.
const (
	TokenAccepted     = "Accepted"
	TokenBlocked      = "Blocked"
	TokenExpired      = "Expired"
	TokenInvalid      = "Invalid"
	TokenUnknown      = "Unknown"
	TokenConcurrentTx = "ConcurrentTx"
)

// NoAuthorization is the type of an ID token of OCPP 2.x that stands for nobody:
// the station needs no authorization.
const NoAuthorization = "NoAuthorization"

// Authorize answers for an ID token; tokenType is empty in OCPP 1.6.
func (c *CSMS) Authorize(ctx context.Context, m Message, token, tokenType string) (store.Verdict, error) {
	if tokenType == NoAuthorization {
		return store.Verdict{Status: TokenAccepted}, nil
	}
	v, err := c.store.Authorize(ctx, clip(token, maxText), c.settings.ConcurrentTx, c.decide(m.ReceivedAt))
	if err != nil {
		return v, fmt.Errorf("authorize: %w", err)
	}
	return v, nil
}

// decide is the rule for an ID token.
func (c *CSMS) decide(now time.Time) store.Decide {
	return func(s store.TokenState) store.Verdict {
		v := store.Verdict{ExpiresAt: s.ExpiresAt, Group: s.Group}
		switch {
		case s.Token == "":
			v.Status = TokenInvalid
		case !s.Known && !c.settings.AcceptUnknownTokens:
			v.Status = TokenUnknown
		case s.Status == TokenBlocked || s.GroupBlocked:
			v.Status = TokenBlocked
		case !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now):
			v.Status = TokenExpired
		case c.settings.ConcurrentTx && s.Open > 0:
			v.Status = TokenConcurrentTx
		default:
			v.Status = TokenAccepted
		}
		return v
	}
}

// PutIDToken adds an ID token or changes it.
func (c *CSMS) PutIDToken(ctx context.Context, t store.IDToken) error {
	t.Token, t.Group = strings.TrimSpace(t.Token), strings.TrimSpace(t.Group)
	switch {
	case t.Token == "":
		return errors.New("id token is empty")
	case len(t.Token) > maxText || len(t.Group) > maxText || len(t.Note) > maxText || len(t.Type) > maxText:
		return fmt.Errorf("id token: token, group, type and note have at most %d characters each", maxText)
	case t.Status == "":
		t.Status = TokenAccepted
	case t.Status != TokenAccepted && t.Status != TokenBlocked:
		return fmt.Errorf("id token status %q: Accepted or Blocked", t.Status)
	}
	if err := c.store.PutIDToken(ctx, t, c.now()); err != nil {
		return fmt.Errorf("put id token: %w", err)
	}
	return nil
}

// RemoveIDToken removes an ID token; store.ErrNotFound if there is none.
func (c *CSMS) RemoveIDToken(ctx context.Context, token string) error {
	if err := c.store.RemoveIDToken(ctx, token); err != nil {
		return fmt.Errorf("remove id token: %w", err)
	}
	return nil
}
