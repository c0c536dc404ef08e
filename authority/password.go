package authority

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"holdfast/store"
)

// A password is kept as one salted hash of its canonical bytes, whichever form
// a station sends it in: 1.6 stations send the key's raw bytes, or its hex text
// in either case; 2.x stations send the string. A key has at most 20 bytes, a
// text of 32 or more hex digits is therefore always the hex form of something.

const (
	minHex = 32  // digits: 16 bytes
	maxHex = 128 // digits: 64 bytes
)

// canonical returns the bytes that a presented password stands for.
func canonical(password []byte) []byte {
	for {
		if len(password)%2 != 0 || len(password) < minHex || len(password) > maxHex {
			return password
		}
		decoded := make([]byte, len(password)/2)
		if _, err := hex.Decode(decoded, password); err != nil {
			return password
		}
		password = decoded // which may be the text of a hex password
	}
}

// Passwords have 16 to 40 characters in 2.0.1, 16 to 20 bytes in 1.6: 20 printable
// ones suit all versions, and their raw and hex readings cannot be confused.
const (
	passwordLength = 20
	minPassword    = 16
	maxPassword    = 64
)

// alphabet has 64 characters, all allowed in OCPP 2.0.1's passwordString, none
// special to a shell.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."

// newPassword returns a password of 120 random bits.
func newPassword() string {
	b := make([]byte, passwordLength)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[b[i]%64]
	}
	return string(b)
}

// Iterations of PBKDF2. A generated password has 120 random bits, nobody guesses
// it from its hash at any speed; one that an operator brings along may be weak.
const (
	generatedIterations = 1_000
	givenIterations     = 20_000
)

const hashScheme = "pbkdf2-sha256"

// digest is a password's hash, or what it takes to compute one.
type digest struct {
	iterations int
	salt       []byte
	sum        []byte
}

func (d digest) derive(password []byte) []byte {
	sum, err := pbkdf2.Key(sha256.New, string(password), d.salt, d.iterations, sha256.Size)
	if err != nil {
		panic(err) // only for key lengths that are not ours
	}
	return sum
}

// hashPassword returns what is stored of a password.
func hashPassword(password string, iterations int) string {
	d := digest{iterations: iterations, salt: make([]byte, 16)}
	rand.Read(d.salt)
	d.sum = d.derive(canonical([]byte(password)))
	encode := base64.RawStdEncoding.EncodeToString
	return strings.Join([]string{hashScheme, strconv.Itoa(d.iterations), encode(d.salt), encode(d.sum)}, "$")
}

func parseDigest(stored string) (digest, error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 4 || parts[0] != hashScheme {
		return digest{}, errors.New("stored password hash is not one of ours")
	}
	iterations, err1 := strconv.Atoi(parts[1])
	salt, err2 := base64.RawStdEncoding.DecodeString(parts[2])
	sum, err3 := base64.RawStdEncoding.DecodeString(parts[3])
	if err := errors.Join(err1, err2, err3); err != nil || iterations < 1 {
		return digest{}, errors.New("stored password hash is damaged")
	}
	return digest{iterations, salt, sum}, nil
}

// checkPasswordText reports why a password that an operator brings along is not fit.
func checkPasswordText(password string) error {
	if n := len(canonical([]byte(password))); n < minPassword || n > maxPassword || len(password) > maxHex {
		return invalid("password", "leave it out to have one generated", "has %d bytes, between %d and %d are allowed", n, minPassword, maxPassword)
	}
	return nil
}

// maxVerified is how many stations' last good passwords are remembered, at least.
const maxVerified = 64 << 10

// passwords checks passwords. A station that comes back with the password that
// was good a moment ago costs one HMAC instead of a key derivation: a reconnect
// storm does not queue up here.
type passwords struct {
	key  [32]byte      // of the HMACs, lives as long as the process
	gate chan struct{} // one token per key derivation at work

	mu       sync.Mutex
	verified recent[string, verified] // by folded identity
}

type verified struct {
	hash string // stored hash that it was good for
	mac  [32]byte
}

func newPasswords() *passwords {
	p := &passwords{gate: make(chan struct{}, runtime.GOMAXPROCS(0)), verified: newRecent[string, verified](maxVerified)}
	rand.Read(p.key[:])
	return p
}

// outcome of a password check.
type outcome int

const (
	wrongPassword outcome = iota
	currentPassword
	pendingPassword
)

// check compares a presented password with a station's current and pending one.
// It fails only if ctx ends before its turn, or for a damaged hash.
func (p *passwords) check(ctx context.Context, r store.StationRecord, password []byte) (outcome, error) {
	password = canonical(password)
	fold := r.ID.Fold()
	h := hmac.New(sha256.New, p.key[:])
	fmt.Fprintf(h, "%d:%s", len(fold), fold)
	h.Write(password)
	mac := [32]byte(h.Sum(nil))

	p.mu.Lock()
	v, ok := p.verified.get(fold)
	p.mu.Unlock()
	if ok && subtle.ConstantTimeCompare(v.mac[:], mac[:]) == 1 {
		switch v.hash {
		case r.Password:
			return currentPassword, nil
		case r.Pending:
			return pendingPassword, nil
		}
	}
	select {
	case p.gate <- struct{}{}:
	case <-ctx.Done():
		return wrongPassword, errBusy
	}
	defer func() { <-p.gate }()
	result, hash := wrongPassword, ""
	for _, c := range []struct {
		hash string
		is   outcome
	}{{r.Password, currentPassword}, {r.Pending, pendingPassword}} {
		if c.hash == "" {
			continue
		}
		d, err := parseDigest(c.hash)
		if err != nil {
			return wrongPassword, fmt.Errorf("station %s: %w", r.ID, err)
		}
		if subtle.ConstantTimeCompare(d.derive(password), d.sum) == 1 {
			result, hash = c.is, c.hash
		}
	}
	if result != wrongPassword {
		p.mu.Lock()
		p.verified.put(fold, verified{hash: hash, mac: mac})
		p.mu.Unlock()
	}
	return result, nil
}
