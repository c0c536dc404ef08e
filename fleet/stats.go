package fleet

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

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

// ErrorKinds are the kinds of Stats.Errors.
func ErrorKinds() []string { return errorNames[:] }

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
	// Errors by kind, see ErrorKinds. Kinds that did not happen are left out.
	Errors map[string]uint64
	// CallTime is from the time at which a CALL was to be sent to its answer (see
	// CallRecord), ConnectTime from dialing to the end of the upgrade.
	CallTime, ConnectTime Percentiles
}

// Percentiles of a distribution, each within 0.1 % of the true value.
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

// Presence is how many stations are connected, and how often one came or went.
// Unlike Stats it costs nothing.
func (f *Fleet) Presence() (connected int, changes int64) {
	for i := range f.stats.connected {
		connected += int(f.stats.connected[i].Load())
	}
	return connected, max(0, 2*int64(f.stats.connects.Load())-int64(connected)) // who came and is not here has gone
}

// longestTime is the largest duration that a histogram tells from longer ones.
const longestTime = time.Hour

// histogram counts durations, in microseconds, to three significant digits.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // nil until there is something to count
}

func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h == nil {
		h.h = hdrhistogram.New(1, longestTime.Microseconds(), 3)
	}
	h.h.RecordValue(min(max(d, 0), longestTime).Microseconds()) // within its bounds: no error
}

func (h *histogram) percentiles() Percentiles {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h == nil {
		return Percentiles{}
	}
	at := func(q float64) time.Duration { return time.Duration(h.h.ValueAtQuantile(q)) * time.Microsecond }
	return Percentiles{uint64(h.h.TotalCount()), at(50), at(90), at(99), at(99.9), time.Duration(h.h.Max()) * time.Microsecond}
}
