package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// APIToken is a credential of the operator API, without its secret.
type APIToken struct {
	ID         string    `json:"id"`
	Name       string    `json:"name" doc:"Who uses it; the audit record cites it"`
	Role       string    `json:"role" enum:"read,operate,admin"`
	CreatedBy  string    `json:"created_by"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero" doc:"Absent: never"`
	LastUsedAt time.Time `json:"last_used_at,omitzero" doc:"To within a minute; absent: never"`
	RevokedBy  string    `json:"revoked_by,omitempty"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	// Hash is the SHA-256 of the token, hex.
	Hash string `json:"-"`
}

// Live reports whether the token is good at a time.
func (t APIToken) Live(now time.Time) bool {
	return t.RevokedAt.IsZero() && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

const (
	// maxAPITokens is how many API tokens are kept, live and ended ones together.
	maxAPITokens = 10_000
	// endedAPITokens is how long one is kept after it expired or was revoked.
	endedAPITokens = 365 * 24 * time.Hour
)

// ErrTooManyTokens: as many API tokens as are kept.
var ErrTooManyTokens = fmt.Errorf("%d API tokens exist, as many as are kept", maxAPITokens)

// AddAPIToken records a new token, under a new ID that it returns; ErrExists if
// its name is taken, in any case of letters. Tokens that ended a year ago are
// deleted. The change is in the audit record, as is that of RevokeAPIToken.
func (c *CSMS) AddAPIToken(ctx context.Context, t APIToken) (id string, err error) {
	id = newID()
	err = c.update(ctx, "api_token", func(tx *Tx) error {
		ended := micros(t.CreatedAt.Add(-endedAPITokens))
		if _, err := tx.exec(`DELETE FROM api_token WHERE (revoked_at <> 0 AND revoked_at < $1) OR (expires_at <> 0 AND expires_at < $2)`, ended, ended); err != nil {
			return err
		}
		var n int
		if err := tx.row(false, `SELECT count(*) FROM api_token`, nil, &n); err != nil {
			return err
		}
		if n >= maxAPITokens {
			return ErrTooManyTokens
		}
		added, err := tx.exec(`INSERT INTO api_token (id, name, name_key, hash, role, created_by, created_at, expires_at, last_used_at, revoked_by, revoked_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', 0) ON CONFLICT DO NOTHING`,
			id, t.Name, strings.ToLower(t.Name), t.Hash, t.Role, t.CreatedBy, micros(t.CreatedAt), micros(t.ExpiresAt))
		if err == nil && added == 0 {
			return fmt.Errorf("API token %q: %w", t.Name, ErrExists)
		}
		if err != nil {
			return err
		}
		return tx.audit(AuditEntry{At: t.CreatedAt, By: t.CreatedBy, Action: "token.add", Subject: t.Name, Detail: "role " + t.Role})
	})
	return id, err
}

// RevokeAPIToken ends a token for good; ErrNotFound without it. One that was
// revoked before stays as it is.
func (c *CSMS) RevokeAPIToken(ctx context.Context, id, by string, now time.Time) error {
	return c.update(ctx, "api_token", func(tx *Tx) error {
		var name string
		var revoked int64
		err := tx.row(true, `UPDATE api_token SET name = name WHERE id = $1 RETURNING name, revoked_at`, []any{id}, &name, &revoked)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("API token %s: %w", id, ErrNotFound)
		}
		if err != nil || revoked != 0 {
			return err
		}
		if _, err := tx.exec(`UPDATE api_token SET revoked_by = $1, revoked_at = $2 WHERE id = $3`, by, micros(now), id); err != nil {
			return err
		}
		return tx.audit(AuditEntry{At: now, By: by, Action: "token.revoke", Subject: name})
	})
}

// APITokenUsed records when a token was last used.
func (c *CSMS) APITokenUsed(ctx context.Context, id string, at time.Time) error {
	return c.update(ctx, "api_token", func(tx *Tx) error {
		_, err := tx.exec(`UPDATE api_token SET last_used_at = $1 WHERE id = $2 AND last_used_at < $3`, micros(at), id, micros(at))
		return err
	})
}

const apiTokenColumns = `id, name, hash, role, created_by, created_at, expires_at, last_used_at, revoked_by, revoked_at`

func scanAPIToken(scan func(...any) error) (t APIToken, err error) {
	var created, expires, used, revoked int64
	err = scan(&t.ID, &t.Name, &t.Hash, &t.Role, &t.CreatedBy, &created, &expires, &used, &t.RevokedBy, &revoked)
	t.CreatedAt, t.ExpiresAt, t.LastUsedAt, t.RevokedAt = fromMicros(created), fromMicros(expires), fromMicros(used), fromMicros(revoked)
	return t, err
}

// APIToken returns a token; ErrNotFound without it.
func (c *CSMS) APIToken(ctx context.Context, id string) (APIToken, error) {
	t, err := scanAPIToken(c.read.QueryRowContext(ctx, `SELECT `+apiTokenColumns+` FROM api_token WHERE id = $1`, id).Scan)
	return t, notFound(err)
}

// LiveAPITokens returns all tokens that are good at a time.
func (c *CSMS) LiveAPITokens(ctx context.Context, now time.Time) ([]APIToken, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT `+apiTokenColumns+` FROM api_token WHERE revoked_at = 0 AND (expires_at = 0 OR expires_at > $1)`, micros(now))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tokens []APIToken
	for rows.Next() {
		t, err := scanAPIToken(rows.Scan)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	return tokens, rows.Err()
}

// APITokens lists tokens, the newest first, ended ones included.
func (c *CSMS) APITokens(ctx context.Context, p Page) (List[APIToken], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[APIToken]{}, err
	}
	return list(ctx, c.db, p, `SELECT `+apiTokenColumns+` FROM api_token WHERE id < $1 ORDER BY id DESC LIMIT $2`, []any{before, p.limit() + 1},
		func(rows *sql.Rows) (APIToken, error) { return scanAPIToken(rows.Scan) },
		func(t APIToken) []any { return []any{t.ID} })
}
