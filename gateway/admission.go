package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"maps"
	"math"
	"sync"
	"time"

	"holdfast/ocpp"
)

// admission asks the authority, and remembers whom it admitted: a station that
// comes back with the same credentials within Decision.TTL costs no question,
// and while the authority is away, whoever was admitted before comes back until
// it has been away for Decision.Grace. Refusals are not remembered.
type admission struct {
	ask  ocpp.AdmitFunc
	salt [32]byte // credentials are kept only as salted hashes
	seed maphash.Seed

	mu sync.Mutex
	// By station, so that a change of one is not a search through all: the
	// authority changes stations by the ten thousand. One credential of each is
	// remembered, that of the last question.
	admitted map[stationKey]verdict
	away     int64 // Unix seconds: since when nobody could be asked; 0: somebody could
	// dropped is when connections of stations had to end, in Unix microseconds.
	dropped map[stationKey]int64
}

type (
	stationKey    uint64 // hash of the folded identity. Two stations that share it, 1 in 10⁹ fleets, ask more often
	credentialKey [16]byte
)

// verdict is a compact Decision that allowed. There is one for every station.
type verdict struct {
	credential credentialKey
	station    ocpp.StationID
	quirks     *ocpp.Quirks // nil: none
	fresh      uint32       // Unix seconds: no question until then
	grace      uint32       // seconds that the authority may be away
	pin        versionCode
}

// seconds is a time in Unix seconds or a duration, the last one that a verdict can hold if it
// lies beyond the year 2106.
func seconds(unix int64) uint32 { return uint32(min(unix, math.MaxUint32)) }

// maxVerdicts bounds the memory of admission; past it, arbitrary ones make room.
const maxVerdicts = 200_000

const (
	maxDropped = 10_000
	dropLasts  = time.Minute // is longer than an upgrade with its question
)

func newAdmission(ask ocpp.AdmitFunc) *admission {
	a := &admission{ask: ask, seed: maphash.MakeSeed(), admitted: make(map[stationKey]verdict), dropped: make(map[stationKey]int64)}
	rand.Read(a.salt[:])
	return a
}

// decide returns the authority's decision or a remembered one. An error means
// that nobody could be asked.
func (a *admission) decide(ctx context.Context, c ocpp.Credentials) (ocpp.Decision, error) {
	station, key := a.station(c.Station), a.key(c)
	asked := time.Now()
	now := asked.Unix()
	a.mu.Lock()
	v, known := a.admitted[station]
	a.mu.Unlock()
	known = known && v.credential == key
	if known && now < int64(v.fresh) {
		return v.decision(), nil
	}
	d, err := a.ask(ctx, c)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.away == 0 {
			a.away = now
		}
		if known && time.Now().Unix() < a.away+int64(v.grace) {
			return v.decision(), nil
		}
		return ocpp.Decision{}, err
	}
	a.away = 0
	if at, dropped := a.dropped[station]; dropped && asked.UnixMicro() <= at {
		return d, nil // older than what the authority said meanwhile
	}
	if !d.Allowed {
		if a.admitted[station].credential == key {
			delete(a.admitted, station)
		}
		return d, nil
	}
	pin := codeOf(d.Pin)
	if known := d.Pin == "" || pin != 0; known && (d.TTL > 0 || d.Grace > 0) {
		if _, again := a.admitted[station]; !again && len(a.admitted) >= maxVerdicts {
			for k := range a.admitted {
				delete(a.admitted, k)
				break
			}
		}
		v := verdict{credential: key, station: d.Station, pin: pin, fresh: seconds(now + int64(d.TTL/time.Second)), grace: seconds(int64(d.Grace / time.Second))}
		if d.Quirks != (ocpp.Quirks{}) {
			v.quirks = &d.Quirks
		}
		a.admitted[station] = v
	}
	return d, nil
}

// forget drops what is remembered of a station that the authority changed.
func (a *admission) forget(station ocpp.StationID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.admitted, a.station(station))
}

// drop drops what is remembered of a station whose connection must end, and every
// admission of it that is older, on its way still.
func (a *admission) drop(station ocpp.StationID) {
	key, now := a.station(station), time.Now().UnixMicro()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.admitted, key)
	if len(a.dropped) >= maxDropped {
		maps.DeleteFunc(a.dropped, func(_ stationKey, at int64) bool { return now > at+dropLasts.Microseconds() })
	}
	if len(a.dropped) < maxDropped { // past it, the next look at the trust closes what is on its way
		a.dropped[key] = now
	}
}

// isDropped reports whether the station was dropped after it asked to be admitted
// (Unix microseconds).
func (a *admission) isDropped(station ocpp.StationID, asked int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.dropped[a.station(station)]
	return ok && asked <= at
}

// doubt has everybody asked about again, as far as there is somebody to ask.
func (a *admission) doubt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, v := range a.admitted {
		v.fresh = 0
		a.admitted[k] = v
	}
}

func (a *admission) station(id ocpp.StationID) stationKey {
	return stationKey(maphash.String(a.seed, id.Fold()))
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
	d := ocpp.Decision{Allowed: true, Reason: ocpp.ReasonAdmitted, Station: v.station, Pin: v.pin.version()}
	if v.quirks != nil {
		d.Quirks = *v.quirks
	}
	return d
}

// Forget drops the remembered decisions about a station after the authority
// changed it.
func (g *Gateway) Forget(station ocpp.StationID) {
	g.admit.forget(station)
	g.often.forget(station.Fold())
}

// Doubt has the authority asked about everybody again, because a change may have
// been missed. While it is away, what was remembered still counts.
func (g *Gateway) Doubt() { g.admit.doubt() }
