package ws

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of TLS handshakes that this package names; an error with a method
// HandshakeFailure() string names its own.
const (
	handshakeFull    = "full"
	handshakeResumed = "resumed"
)

// metrics holds the counters of a Server. Counting costs one atomic addition:
// what a connection touches is resolved once per endpoint.
type metrics struct {
	handshakes       *prometheus.CounterVec   // profile, result
	handshakeSeconds *prometheus.HistogramVec // profile
	badRequests      *prometheus.CounterVec   // profile, status
	carried          *prometheus.CounterVec   // by
	sheds            *prometheus.CounterVec   // reason
	acceptPauses     *prometheus.CounterVec   // reason

	framesIn, framesOut, bytesIn, bytesOut      prometheus.Counter
	pingsIn, pingsOut, pongsIn, pongsOut        prometheus.Counter
	inflated, deflated, panics                  prometheus.Counter
	open, opening, waiting, unsent, partialSize prometheus.GaugeFunc
	running, buffersReleased                    prometheus.GaugeFunc

	kinds sync.Map // names from HandshakeFailure, at most maxKinds
	known atomic.Int32
}

// What carries a TLS connection on after its handshake.
const (
	carriedByTLS    = "crypto_tls"
	carriedByRecord = "record" // build tag ws_records
)

// maxKinds bounds the names of failures that callers bring.
const maxKinds = 32

// Reasons for a reset before TLS, and for a pause of accepting.
const (
	shedConnections = "connections"     // MaxConnections
	shedSource      = "source_rate"     // PerSourceRate
	shedExpired     = "waited_too_long" // WaitTime
	shedGone        = "peer_gone"       // the peer left while it waited
	shedSilent      = "peer_silent"     // the peer said nothing for HandshakeTime
	shedProxy       = "proxy_header"    // no valid PROXY header from a proxy
	shedShutdown    = "shutdown"

	pauseWaiting = "waiting_full" // MaxWaiting
	pauseFiles   = "files"        // out of files or memory
	pauseOther   = "other"
)

func newMetrics(s *Server) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	return &metrics{
		handshakes: vec("holdfast_tls_handshakes_total", "TLS handshakes by result: full, resumed, or the kind of failure.", "profile", "result"),
		handshakeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_tls_handshake_seconds", Help: "Duration of completed TLS handshakes, network included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"profile"}),
		carried:      vec("holdfast_ws_tls_carried_total", "TLS connections that were opened, by what carries them on after the handshake: crypto_tls or record.", "by"),
		badRequests:  vec("holdfast_ws_bad_requests_total", "HTTP requests that could not become a WebSocket, by status.", "profile", "status"),
		sheds:        vec("holdfast_ws_sheds_total", "Connections reset before TLS, by reason.", "reason"),
		acceptPauses: vec("holdfast_ws_accept_pauses_total", "Pauses of accept loops, by reason.", "reason"),

		framesIn:  counter("holdfast_ws_frames_in_total", "WebSocket frames received."),
		framesOut: counter("holdfast_ws_frames_out_total", "WebSocket frames sent."),
		bytesIn:   counter("holdfast_ws_bytes_in_total", "Bytes of WebSocket frames received, headers included."),
		bytesOut:  counter("holdfast_ws_bytes_out_total", "Bytes of WebSocket frames sent, headers included."),
		pingsIn:   counter("holdfast_ws_pings_in_total", "Pings received."),
		pingsOut:  counter("holdfast_ws_pings_out_total", "Pings sent."),
		pongsIn:   counter("holdfast_ws_pongs_in_total", "Pongs received."),
		pongsOut:  counter("holdfast_ws_pongs_out_total", "Pongs sent."),
		inflated:  counter("holdfast_ws_messages_inflated_total", "Compressed messages received."),
		deflated:  counter("holdfast_ws_messages_deflated_total", "Compressed messages sent."),
		panics:    counter("holdfast_ws_session_panics_total", "Panics of session code; each ended its connection."),

		open:            gauge("holdfast_ws_connections", "Open WebSocket connections, closing ones included.", func() float64 { return float64(s.open.Load()) }),
		opening:         gauge("holdfast_ws_openings", "Connections between accept and upgrade that have a goroutine.", func() float64 { return float64(s.gate.opening()) }),
		waiting:         gauge("holdfast_ws_handshakes_waiting", "Accepted connections that wait for an opening.", func() float64 { return float64(s.gate.waiting()) }),
		running:         gauge("holdfast_ws_handshakes_running", "Openings that compute.", func() float64 { return float64(s.gate.running()) }),
		unsent:          gauge("holdfast_ws_unsent_bytes", "Bytes that wait for peers to read.", func() float64 { return float64(s.unsent.Load()) }),
		partialSize:     gauge("holdfast_ws_partial_bytes", "Bytes of unfinished and held-back messages.", func() float64 { return float64(s.partial.Load()) }),
		buffersReleased: gauge("holdfast_ws_tls_buffers_released", "1 if idle TLS connections give their buffers back, 0 if this toolchain's crypto/tls is not known.", func() float64 { return boolFloat(releasesBuffers()) }),
	}
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collectors returns the server's metrics.
func (s *Server) Collectors() []prometheus.Collector {
	m := s.metrics
	return []prometheus.Collector{
		m.handshakes, m.handshakeSeconds, m.badRequests, m.carried, m.sheds, m.acceptPauses,
		m.framesIn, m.framesOut, m.bytesIn, m.bytesOut, m.pingsIn, m.pingsOut, m.pongsIn, m.pongsOut,
		m.inflated, m.deflated, m.panics,
		m.open, m.opening, m.waiting, m.running, m.unsent, m.partialSize, m.buffersReleased,
	}
}

// kind bounds the label values that callers bring.
func (m *metrics) kind(name string) string {
	if _, ok := m.kinds.Load(name); ok {
		return name
	}
	if len(name) == 0 || len(name) > 32 {
		return failOther
	}
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') && !isDigit(c) {
			return failOther
		}
	}
	if m.known.Add(1) > maxKinds {
		m.known.Add(-1)
		return failOther
	}
	if _, loaded := m.kinds.LoadOrStore(name, true); loaded {
		m.known.Add(-1)
	}
	return name
}

// badRequest counts an HTTP answer that this package gave by itself.
func (m *metrics) badRequest(label string, status int) {
	m.badRequests.WithLabelValues(label, strconv.Itoa(status)).Inc()
}
