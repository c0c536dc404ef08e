package fleet

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// DefaultIDTag is what drivers show where Behaviour.IDTags is empty.
const DefaultIDTag = "FLEET"

// Behaviour is what stations and the people who charge at them do. Durations are
// in the stations' time, which runs TimeFactor times as fast as the real one;
// heartbeats, pings, timeouts, re-sending and back-off keep real time.
type Behaviour struct {
	// HeartbeatInterval is used when the server names none. Zero means 5 minutes.
	HeartbeatInterval time.Duration
	// IgnoreInterval keeps HeartbeatInterval whatever the server says.
	IgnoreInterval bool
	// BootRetry is the wait before the next BootNotification when the server
	// answers Pending or Rejected without an interval. Zero means 1 minute.
	BootRetry time.Duration
	// MeterInterval is the time between meter values of a transaction, unless the
	// server sets another one. Zero means 1 minute.
	MeterInterval time.Duration
	// SessionGap is the mean time that a connector is free between two charging
	// sessions; arrivals are Poisson. Zero means 30 minutes, negative: nobody
	// comes, transactions are only started by the server.
	SessionGap time.Duration
	// Day is how busy each part of the day is: weights whose mean is 1, so that
	// SessionGap is the mean of the whole day. Run begins at midnight. Empty means
	// that all hours are alike.
	Day []float64
	// SessionLength is the mean length of a session; lengths are spread evenly
	// over half to one and a half of it. Zero means 40 minutes.
	SessionLength time.Duration
	// UnplugDelay is how long a car stays after its session. Zero means 1 minute.
	UnplugDelay time.Duration
	// Curve is the power in W at evenly spaced points of a session, straight lines
	// between them. Empty means 11 kW that fall to 2 kW in the last fifth.
	Curve []float64
	// IDTags are presented by drivers (1.6 idTag, at most 20 characters; 2.x
	// idToken of type ISO14443). Empty means one tag, "FLEET".
	IDTags []string
	// RebootTime is how long a station is away when it is reset, in real time. Zero
	// means 2 seconds.
	RebootTime time.Duration
	// TimeFactor is how much faster than real time the stations' time runs. Zero
	// means 1.
	TimeFactor float64
	// OfflineThreshold is how long (real time) a station may have been offline
	// without reporting every connector anew (2.x OfflineThreshold). Zero means 1
	// minute.
	OfflineThreshold time.Duration
	// RenewBefore is how long before its certificate ends a station of security
	// profile 3 asks for the next one, in real time, but not before two thirds of
	// its life are over (A03). Zero means 30 days, negative: only when triggered.
	RenewBefore time.Duration
	// AdditionalRootCheck lets stations take a new CSMS root only if the one in
	// force signed it, one at a time (AdditionalRootCertificateCheck).
	AdditionalRootCheck bool
}

var defaultCurve = []float64{11000, 11000, 11000, 11000, 11000, 2000}

func (b Behaviour) withDefaults() Behaviour {
	b.HeartbeatInterval = cmp.Or(b.HeartbeatInterval, 5*time.Minute)
	b.BootRetry = cmp.Or(b.BootRetry, time.Minute)
	b.MeterInterval = cmp.Or(b.MeterInterval, time.Minute)
	b.SessionGap = cmp.Or(b.SessionGap, 30*time.Minute)
	b.SessionLength = cmp.Or(b.SessionLength, 40*time.Minute)
	b.UnplugDelay = cmp.Or(b.UnplugDelay, time.Minute)
	b.RebootTime = cmp.Or(b.RebootTime, 2*time.Second)
	b.OfflineThreshold = cmp.Or(b.OfflineThreshold, time.Minute)
	b.RenewBefore = cmp.Or(b.RenewBefore, 30*24*time.Hour)
	b.TimeFactor = cmp.Or(b.TimeFactor, 1)
	if len(b.Curve) == 0 {
		b.Curve = defaultCurve
	}
	if len(b.IDTags) == 0 {
		b.IDTags = []string{DefaultIDTag}
	}
	return b
}

// session is one visit of a car: it comes after gap, charges for length, and its
// driver shows tag.
type session struct {
	gap, length time.Duration // the stations' time
	tag         string
}

// plan draws the next session. It is the only user of a connector's random
// numbers, so that the sequence of sessions depends on the seed alone.
func (b *Behaviour) plan(random *rand.PCG) session {
	r := rand.New(random)
	return session{
		gap:    time.Duration(r.ExpFloat64() * float64(b.SessionGap)),
		length: time.Duration((0.5 + r.Float64()) * float64(b.SessionLength)),
		tag:    b.IDTags[r.IntN(len(b.IDTags))],
	}
}

// wait is how long a gap takes that begins at a time since midnight: less where
// the day is busy. Not all of Day is zero.
func (b *Behaviour) wait(from, gap time.Duration) time.Duration {
	if len(b.Day) == 0 {
		return gap
	}
	part := 24 * time.Hour / time.Duration(len(b.Day))
	for at, left := from, float64(gap); ; {
		end := at.Truncate(part) + part
		weight := b.Day[int(at/part)%len(b.Day)]
		if whole := weight * float64(end-at); left > whole || weight == 0 {
			at, left = end, left-whole
			continue
		}
		return at + time.Duration(left/weight) - from
	}
}

// power is the curve's value at a fraction of the session, in W.
func (b *Behaviour) power(fraction float64) float64 {
	last := len(b.Curve) - 1
	switch x := fraction * float64(last); {
	case x <= 0:
		return b.Curve[0]
	case x >= float64(last):
		return b.Curve[last]
	default:
		i := int(x)
		return b.Curve[i] + (b.Curve[i+1]-b.Curve[i])*(x-float64(i))
	}
}
