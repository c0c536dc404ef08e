package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/store"
)

const (
	// tokenGrace is how old the list may become while the database does not answer.
	tokenGrace = 30 * time.Second
	// tokenRetry is the least time between two readings because of an unknown token.
	tokenRetry = time.Second
	// usedEvery is how exactly the last use is recorded.
	usedEvery = time.Minute
	// tokenQueryTime bounds one reading.
	tokenQueryTime = 3 * time.Second
)

// adminName is who uses the admin token that cmd hands in. No other token may
// have it.
const adminName = "admin"

// NewToken returns a new random API token: 256 bits.
func NewToken() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return "hf_" + base64.RawURLEncoding.EncodeToString(b)
}

type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash { return sha256.Sum256([]byte(token)) }

func (h tokenHash) String() string { return hex.EncodeToString(h[:]) }

var (
	errUnknownToken = errors.New("unknown token")
	errTokensStale  = errors.New("API tokens cannot be checked: the database does not answer")
)

// tokens knows all live tokens by their hash, so that a wrong one costs no query.
type tokens struct {
	store *store.CSMS
	admin tokenHash // of the admin token
	now   func() time.Time
	log   *slog.Logger

	loading sync.Mutex // held while the list is read

	mu     sync.Mutex
	live   map[tokenHash]store.APIToken
	loaded time.Time // when live was read
	tried  time.Time // when it was tried last
}

// authenticate says who has a token. Tokens are looked up by a hash that nobody
// can steer, so the time that it takes tells nothing about other tokens.
func (t *tokens) authenticate(ctx context.Context, token string) (Caller, error) {
	hash := hashToken(token)
	if subtle.ConstantTimeCompare(hash[:], t.admin[:]) == 1 {
		return Caller{Name: adminName, Role: RoleAdmin}, nil
	}
	now := t.now()
	found, known, age, retry := t.find(hash, now)
	if !known && retry {
		if err := t.load(ctx); err != nil {
			t.log.Error("read API tokens", "err", err)
		}
		found, known, age, _ = t.find(hash, now)
	}
	switch {
	case age > tokenGrace:
		return Caller{}, errTokensStale
	case !known || !found.Live(now):
		return Caller{}, errUnknownToken
	}
	if now.Sub(found.LastUsedAt) >= usedEvery && t.used(hash, now) {
		if err := t.store.APITokenUsed(ctx, found.ID, now); err != nil {
			t.log.Warn("record the use of an API token", "token", found.Name, "err", err)
		}
	}
	return Caller{Name: found.Name, Role: Role(found.Role)}, nil
}

// find looks a token up. retry says whether an unknown one may be looked for in
// the database now.
func (t *tokens) find(hash tokenHash, now time.Time) (found store.APIToken, known bool, age time.Duration, retry bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, known = t.live[hash]
	retry = now.Sub(t.tried) >= tokenRetry
	if !known && retry {
		t.tried = now
	}
	return found, known, now.Sub(t.loaded), retry
}

// used marks a token as used now and reports whether this caller has to record it.
func (t *tokens) used(hash tokenHash, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.live[hash]
	if !ok || now.Sub(found.LastUsedAt) < usedEvery {
		return false
	}
	found.LastUsedAt = now
	t.live[hash] = found
	return true
}

// load reads the live tokens. Of several at once, all wait for their own
// reading: none may miss what its caller has just changed.
func (t *tokens) load(ctx context.Context) error {
	t.loading.Lock()
	defer t.loading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, tokenQueryTime)
	defer cancel()
	now := t.now()
	list, err := t.store.LiveAPITokens(ctx, now)
	if err != nil {
		return fmt.Errorf("API tokens: %w", err)
	}
	live := make(map[tokenHash]store.APIToken, len(list))
	for _, token := range list {
		b, err := hex.DecodeString(token.Hash)
		if err != nil || len(b) != sha256.Size {
			return fmt.Errorf("API token %q: column hash is not %d bytes in hex", token.Name, sha256.Size)
		}
		live[tokenHash(b)] = token
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, t.loaded, t.tried = live, now, now
	return nil
}

// refresh keeps the list fresh until ctx ends.
func (t *tokens) refresh(ctx context.Context, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := t.load(ctx)
		if err != nil && !failed && ctx.Err() == nil { // once per outage
			t.log.Error("read API tokens", "err", err)
		}
		failed = err != nil
	}
}
