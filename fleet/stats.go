package fleet

import (
	"context"
	"math/bits"
	"sync/atomic"
	"time"

	"holdfast/ocpp"
)

// errorKind is a closed list of what can go wrong for a station.
type errorKind uint8

const (
	errorDial         errorKind = iota // TCP, or the upgrade request could not be sent
	errorTLS                           // handshake, either side
	errorUpgrade                       // no HTTP answer, or not a WebSocket upgrade
	errorUnauthorized                  // HTTP 401
	errorNotFound                      // HTTP 404
	errorRefused                       // any other HTTP status
	errorSubprotocol                   // upgraded without our subprotocol
	errorClosed                        // close frame of the server
	errorLost                          // connection ended without a close frame
	errorProtocol                      // the server broke WebSocket or OCPP-J
	errorTimeout                       // handshake or CALL not answered in time
	errorCall                          // CALLERROR
	errorStray                         // answer to nothing: unknown id, or too late
	errorDiscarded                     // transaction message given up after its last attempt
	errorQueueFull                     // message dropped for want of room
	errorKinds
)

var errorNames = [errorKinds]string{"dial", "tls", "upgrade", "unauthorized", "not_found", "refused", "subprotocol",
	"closed", "lost", "protocol", "timeout", "callerror", "stray_answer", "discarded", "queue_full"}

// Stats is what a fleet is doing and has done.
type Stats struct {
	Stations  int
	Connected map[ocpp.SecurityProfile]int
	// Connects are the connections that were made so far.
	Connects uint64
	// Sent and Received count OCPP messages; the rates are those of the last full second.
	Sent, Received         uint64
	SentRate, ReceivedRate float64 // per second
	// Commands are the server's CALLs so far.
	Commands uint64
	// Transactions are those that run now; Queued the transaction messages that
	// wait for their acknowledgement; Outstanding the CALLs without an answer.
	Transactions, Queued, Outstanding int
	// Errors by kind: dial, tls, upgrade, unauthorized, not_found, refused,
	// subprotocol, closed, lost, protocol, timeout, callerror, stray_answer,
	// discarded, queue_full. Kinds that did not happen are left out.
	Errors map[string]uint64
	// CallTime is from sending a CALL to its answer, ConnectTime from dialing to
	// the end of the upgrade.
	CallTime, ConnectTime Percentiles
}

// Percentiles of a distribution, each within 4 % of the true value.
type Percentiles struct {
	Count                    uint64
	P50, P90, P99, P999, Max time.Duration
}

// stats counts what happens; every field may be touched by any station.
type stats struct {
	connected                     [4]atomic.Int64 // by profile
	connects                      atomic.Uint64
	sent, received, commands      atomic.Uint64
	transactions, queued          atomic.Int64
	outstanding                   atomic.Int64
	errors                        [errorKinds]atomic.Uint64
	callTime, connectTime         histogram
	sentPerSecond, receivedPerSec atomic.Uint64
}

func (s *stats) fail(kind errorKind) { s.errors[kind].Add(1) }

// measure keeps the rates until ctx ends.
func (s *stats) measure(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var sent, received uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		nowSent, nowReceived := s.sent.Load(), s.received.Load()
		s.sentPerSecond.Store(nowSent - sent)
		s.receivedPerSec.Store(nowReceived - received)
		sent, received = nowSent, nowReceived
	}
}

// Stats takes a snapshot. It does not stop the stations, so its numbers may be
// some messages apart.
func (f *Fleet) Stats() Stats {
	s := &f.stats
	snapshot := Stats{
		Stations:     len(f.stations),
		Connected:    make(map[ocpp.SecurityProfile]int),
		Connects:     s.connects.Load(),
		Sent:         s.sent.Load(),
		Received:     s.received.Load(),
		SentRate:     float64(s.sentPerSecond.Load()),
		ReceivedRate: float64(s.receivedPerSec.Load()),
		Commands:     s.commands.Load(),
		Transactions: int(s.transactions.Load()),
		Queued:       int(s.queued.Load()),
		Outstanding:  int(s.outstanding.Load()),
		Errors:       make(map[string]uint64),
		CallTime:     s.callTime.percentiles(),
		ConnectTime:  s.connectTime.percentiles(),
	}
	for profile := range f.targets {
		snapshot.Connected[profile] = int(s.connected[profile].Load())
	}
	for kind, name := range errorNames {
		if n := s.errors[kind].Load(); n > 0 {
			snapshot.Errors[name] = n
		}
	}
	return snapshot
}

// histogram counts durations in buckets that are 1/32 of a power of two wide,
// microseconds up.
type histogram struct {
	buckets [40 * 32]atomic.Uint64
	most    atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	h.buckets[min(bucketOf(us), len(h.buckets)-1)].Add(1)
	for old := h.most.Load(); int64(d) > old && !h.most.CompareAndSwap(old, int64(d)); old = h.most.Load() {
	}
}

// bucketOf is exact below 32, then logarithmic with 32 steps per doubling.
func bucketOf(us uint64) int {
	if us < 32 {
		return int(us)
	}
	exponent := bits.Len64(us) - 6
	return (exponent+1)*32 + int(us>>exponent) - 32
}

// valueOf is the upper end of a bucket, in microseconds.
func valueOf(bucket int) uint64 {
	if bucket < 32 {
		return uint64(bucket)
	}
	exponent := bucket/32 - 1
	return uint64(bucket%32+32+1)<<exponent - 1
}

func (h *histogram) percentiles() Percentiles {
	var counts [len(h.buckets)]uint64
	var total uint64
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	most := time.Duration(h.most.Load())
	at := func(fraction float64) time.Duration {
		rank, seen := uint64(fraction*float64(total)), uint64(0)
		for i, n := range counts {
			if seen += n; seen > rank {
				return min(most, time.Duration(valueOf(i))*time.Microsecond)
			}
		}
		return most
	}
	return Percentiles{total, at(0.5), at(0.9), at(0.99), at(0.999), most}
}
