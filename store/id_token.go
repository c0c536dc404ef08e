package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
)

// IDToken is what authorizes somebody to charge: a card, an app, a contract. Its
// value is compared without regard to case, as OCPP wants.
type IDToken struct {
	Token     string    `json:"token" minLength:"1" maxLength:"255"`
	Type      string    `json:"type,omitempty" maxLength:"20" doc:"Type of OCPP 2.x, such as ISO14443; only informative"`
	Status    string    `json:"status" enum:"Accepted,Blocked"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Group     string    `json:"group,omitempty" maxLength:"255" doc:"Group token (parentIdTag of OCPP 1.6)"`
	Note      string    `json:"note,omitempty" maxLength:"255"`
	CreatedAt time.Time `json:"created_at,omitzero" readOnly:"true"`
	UpdatedAt time.Time `json:"updated_at,omitzero" readOnly:"true"`
}

// TokenState is all that the record knows when somebody wants to charge.
type TokenState struct {
	IDToken
	Known        bool
	GroupBlocked bool // the group is a token of its own and blocked
	Open         int  // transactions of this token that are open, without the one in question
}

// Verdict is the answer to an ID token.
type Verdict struct {
	Status    string // Accepted, Blocked, Expired, Invalid, Unknown, ConcurrentTx
	ExpiresAt time.Time
	Group     string
}

// Decide makes the answer to an ID token. It runs within a transaction and has
// to depend on its argument only.
type Decide func(TokenState) Verdict

func foldToken(token string) string { return strings.ToLower(token) }

const tokenColumns = `t.spelling, t.type, t.status, t.expires_at, t.group_token, t.note, t.created_at, t.updated_at`

func tokenDst(t *IDToken, expires, created, updated *int64) []any {
	return []any{&t.Token, &t.Type, &t.Status, expires, &t.Group, &t.Note, created, updated}
}

// tokenState reads an ID token with row. countOpen says whether Open matters;
// without is the id of a transaction not to count.
func tokenState(row rowFunc, token string, countOpen bool, without string) (s TokenState, err error) {
	var expires, created, updated int64
	var group sql.NullString
	err = row(`SELECT `+tokenColumns+`, g.status FROM id_token t
		LEFT JOIN id_token g ON t.group_key <> '' AND g.token = t.group_key WHERE t.token = $1`,
		[]any{foldToken(token)}, append(tokenDst(&s.IDToken, &expires, &created, &updated), &group)...)
	switch {
	case errors.Is(err, ErrNotFound):
		s.Token, err = token, nil
	case err != nil:
		return s, err
	default:
		s.Known, s.GroupBlocked = true, group.String == "Blocked"
		s.ExpiresAt, s.CreatedAt, s.UpdatedAt = fromMicros(expires), fromMicros(created), fromMicros(updated)
	}
	if countOpen {
		err = row(`SELECT count(*) FROM charging_transaction WHERE open AND token_key = $1 AND id <> $2`,
			[]any{foldToken(token), without}, &s.Open)
	}
	return s, err
}

// Authorize answers for an ID token. countOpen fills TokenState.Open.
func (c *CSMS) Authorize(ctx context.Context, token string, countOpen bool, decide Decide) (Verdict, error) {
	s, err := tokenState(c.rowFunc(ctx), token, countOpen, "")
	if err != nil {
		return Verdict{}, err
	}
	return decide(s), nil
}

// PutIDToken adds an ID token or changes it.
func (c *CSMS) PutIDToken(ctx context.Context, t IDToken, now time.Time) error {
	return c.update(ctx, foldToken(t.Token), func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO id_token (token, spelling, type, status, expires_at, group_token, group_key, note, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (token) DO UPDATE SET spelling = excluded.spelling, type = excluded.type, status = excluded.status,
				expires_at = excluded.expires_at, group_token = excluded.group_token, group_key = excluded.group_key, note = excluded.note, updated_at = excluded.updated_at`,
			foldToken(t.Token), t.Token, t.Type, t.Status, micros(t.ExpiresAt), t.Group, foldToken(t.Group), t.Note, micros(now), micros(now))
		return err
	})
}

// RemoveIDToken removes an ID token; ErrNotFound if there is none. Transactions
// keep its value.
func (c *CSMS) RemoveIDToken(ctx context.Context, token string) error {
	return c.update(ctx, foldToken(token), func(tx *Tx) error {
		n, err := tx.exec(`DELETE FROM id_token WHERE token = $1`, foldToken(token))
		if err == nil && n == 0 {
			return ErrNotFound
		}
		return err
	})
}

func scanIDToken(scan func(...any) error) (t IDToken, err error) {
	var expires, created, updated int64
	err = scan(tokenDst(&t, &expires, &created, &updated)...)
	t.ExpiresAt, t.CreatedAt, t.UpdatedAt = fromMicros(expires), fromMicros(created), fromMicros(updated)
	return t, err
}

// IDToken returns an ID token; ErrNotFound if there is none.
func (c *CSMS) IDToken(ctx context.Context, token string) (IDToken, error) {
	row := c.read.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM id_token t WHERE t.token = $1`, foldToken(token))
	t, err := scanIDToken(row.Scan)
	return t, notFound(err)
}

// IDTokens lists ID tokens by value.
func (c *CSMS) IDTokens(ctx context.Context, p Page) (List[IDToken], error) {
	after := ""
	if err := p.key(&after); err != nil {
		return List[IDToken]{}, err
	}
	return list(ctx, c.db, p, `SELECT `+tokenColumns+` FROM id_token t WHERE t.token > $1 ORDER BY t.token LIMIT $2`,
		[]any{after, p.limit() + 1},
		func(rows *sql.Rows) (IDToken, error) { return scanIDToken(rows.Scan) },
		func(t IDToken) []any { return []any{foldToken(t.Token)} })
}
