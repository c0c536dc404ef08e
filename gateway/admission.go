package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"holdfast/ocpp"
)

// admission asks the authority, and remembers for a bounded time whom it
// admitted: a station that comes back with the same credentials within
// Decision.TTL costs no question, and while the authority is away it comes back
// within Decision.Grace more. Refusals are not remembered.
type admission struct {
	ask  ocpp.AdmitFunc
	salt [32]byte // credentials are kept only as salted hashes

	mu       sync.Mutex
	admitted map[credentialKey]verdict
}

type credentialKey [16]byte

// verdict is a compact Decision that allowed.
type verdict struct {
	station    ocpp.StationID
	pin        ocpp.Version
	quirks     *ocpp.Quirks // nil: none
	fresh, end int64        // unix seconds: no question until fresh, no answer without the authority after end
}

// maxVerdicts bounds the memory of admission; past it, arbitrary ones make room.
const maxVerdicts = 200_000

func newAdmission(ask ocpp.AdmitFunc) *admission {
	a := &admission{ask: ask, admitted: make(map[credentialKey]verdict)}
	rand.Read(a.salt[:])
	return a
}

// decide returns the authority's decision or a remembered one. An error means
// that nobody could be asked.
func (a *admission) decide(ctx context.Context, c ocpp.Credentials) (ocpp.Decision, error) {
	key := a.key(c)
	now := time.Now().Unix()
	a.mu.Lock()
	v, known := a.admitted[key]
	a.mu.Unlock()
	if known && now < v.fresh {
		return v.decision(), nil
	}
	d, err := a.ask(ctx, c)
	if err != nil {
		if known && now < v.end {
			return v.decision(), nil
		}
		return ocpp.Decision{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !d.Allowed {
		delete(a.admitted, key)
		return d, nil
	}
	if d.TTL > 0 || d.Grace > 0 {
		if len(a.admitted) >= maxVerdicts {
			for k := range a.admitted {
				delete(a.admitted, k)
				break
			}
		}
		v := verdict{station: d.Station, pin: d.Pin, fresh: now + int64(d.TTL/time.Second), end: now + int64((d.TTL+d.Grace)/time.Second)}
		if d.Quirks != (ocpp.Quirks{}) {
			v.quirks = &d.Quirks
		}
		a.admitted[key] = v
	}
	return d, nil
}

// forget drops what is remembered of a station; of all with an empty identity.
func (a *admission) forget(station ocpp.StationID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if station == "" {
		clear(a.admitted)
		return
	}
	fold := station.Fold()
	for k, v := range a.admitted {
		if v.station.Fold() == fold {
			delete(a.admitted, k)
		}
	}
}

func (a *admission) key(c ocpp.Credentials) credentialKey {
	h := hmac.New(sha256.New, a.salt[:])
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte{byte(c.Profile)})
	part([]byte(c.Station.Fold()))
	part(c.Basic)
	for _, der := range c.Chain {
		part(der)
	}
	return credentialKey(h.Sum(nil))
}

func (v verdict) decision() ocpp.Decision {
	d := ocpp.Decision{Allowed: true, Reason: ocpp.ReasonAdmitted, Station: v.station, Pin: v.pin}
	if v.quirks != nil {
		d.Quirks = *v.quirks
	}
	return d
}

// Forget drops the remembered decisions about a station after the authority
// changed it; with an empty identity, all of them.
func (g *Gateway) Forget(station ocpp.StationID) { g.admit.forget(station) }
