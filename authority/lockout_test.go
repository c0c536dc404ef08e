package authority

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/store/storetest"
)

// Two replicas on one record that tell each other of wrong passwords.
func TestLockoutOverReplicas(t *testing.T) {
	where, dir := storetest.SQLite(t), caDir(t)
	var replicas [2]*fixture
	for i := range replicas {
		replicas[i] = start(t, where, dir)
	}
	for _, f := range replicas {
		f.lockouts.tell = func(c LockoutChange) {
			data, err := json.Marshal(c) // as it travels
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range replicas { // the teller hears itself, too
				var got LockoutChange
				if err := json.Unmarshal(data, &got); err != nil {
					t.Fatal(err)
				}
				r.HearLockout(got)
			}
		}
	}
	password := replicas[0].add(t, NewStation{ID: "A"}).Password
	guess := func(r int) ocpp.Reason { return replicas[r].admit(t, withBasic("A", "wrong-password-wrong")).Reason }
	good := func(r int) ocpp.Reason { return replicas[r].admit(t, withBasic("A", password)).Reason }
	for i := range replicas[0].cfg.FreeFailures {
		if got := guess(i % 2); got != ocpp.ReasonWrongPassword {
			t.Fatalf("guess %d: %s", i, got)
		}
	}
	for r := range replicas {
		if got := good(r); got != ocpp.ReasonLockedOut {
			t.Errorf("replica %d after five wrong passwords at both: %s", r, got)
		}
	}
	// An operator's change at one ends it at the other.
	if _, err := replicas[0].RotatePassword(t.Context(), "test", "A", ""); err != nil {
		t.Fatal(err)
	}
	if got := good(1); got != ocpp.ReasonAdmitted {
		t.Errorf("after the operator's change: %s", got)
	}
	// A success at one forgives at the other.
	for range replicas[0].cfg.FreeFailures - 1 {
		guess(0)
	}
	if got := good(1); got != ocpp.ReasonAdmitted {
		t.Errorf("below the limit: %s", got)
	}
	if got := guess(0); got != ocpp.ReasonWrongPassword {
		t.Errorf("after a success elsewhere: %s", got)
	}
}

// A source that tries many stations is slowed down as a whole, and nobody else is.
func TestLockoutOfSource(t *testing.T) {
	l := newLockouts(5, time.Minute, func(LockoutChange) {})
	now := time.Now()
	source := func(s string) netip.Prefix { return sourceOf(netip.MustParseAddr(s)) }
	evil, other := source("192.0.2.1"), source("2001:db8::1")
	tried := 0
	for i := range 10 * sourceBurst {
		if wait, whole := l.begin(lockoutKey{fmt.Sprint("s", i), evil}, now); wait == 0 {
			tried++
		} else if !whole {
			t.Fatal("a pair is locked out")
		}
	}
	if tried != sourceBurst {
		t.Errorf("%d passwords tried at once, want %d", tried, sourceBurst)
	}
	if wait, _ := l.begin(lockoutKey{"s1", other}, now); wait != 0 {
		t.Error("another source is slowed down")
	}
	tried = 0
	for i := range 100 {
		if wait, _ := l.begin(lockoutKey{fmt.Sprint("t", i), evil}, now.Add(3*time.Second)); wait == 0 {
			tried++
		}
	}
	if tried != 3*sourceRate {
		t.Errorf("%d passwords tried three seconds later, want %d", tried, 3*sourceRate)
	}
	// Good passwords cost nothing, however many stations are behind an address.
	for i := range 10 * sourceBurst {
		k := lockoutKey{fmt.Sprint("s", i), other}
		if wait, _ := l.begin(k, now); wait != 0 {
			t.Fatalf("good password %d has to wait", i)
		}
		l.succeeded(k)
	}
	for i := range 3 * maxSources {
		l.begin(lockoutKey{"s", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}, now)
	}
	if n := l.sources.len(); n > 2*maxSources {
		t.Errorf("%d sources are remembered", n)
	}
}

// What was not found out counts for nothing.
func TestLockoutUndecided(t *testing.T) {
	l := newLockouts(1, time.Minute, func(LockoutChange) {})
	k := lockoutKey{"s", sourceOf(netip.MustParseAddr("192.0.2.1"))}
	for range 3 * sourceBurst {
		if wait, _ := l.begin(k, time.Now()); wait != 0 {
			t.Fatal("locked out")
		}
		l.undecided(k)
	}
	if l.len() != 0 {
		t.Errorf("%d pairs are remembered", l.len())
	}
}
