package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	running     prometheus.Gauge
	streams     *prometheus.GaugeVec
	streamEnds  *prometheus.CounterVec
	authFailed  *prometheus.CounterVec
	subscribing prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_api_requests_total", Help: "Requests of operators, by operation and class of status."},
			[]string{"operation", "status_class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_api_request_seconds", Help: "How long requests of operators took; event streams are not counted.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}},
			[]string{"operation"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_api_requests_running", Help: "Requests of operators that are being served, without streams."}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_api_streams", Help: "Streams that are open."}, []string{"operation"}),
		streamEnds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_api_stream_ends_total", Help: "Streams that ended, by reason."}, []string{"operation", "reason"}),
		authFailed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_api_auth_failures_total", Help: "Requests without a good token or with too little of a role."}, []string{"reason"}),
		subscribing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_api_events_subscribed", Help: "1 while this process receives live events."}),
	}
}

// Reasons of holdfast_api_auth_failures_total.
const (
	failedMissing = "missing"
	failedUnknown = "unknown"
	failedRole    = "role"
	failedLimited = "limited"
	failedStale   = "unchecked"
)

// Collectors returns the metrics of the API.
func (a *API) Collectors() []prometheus.Collector {
	m := a.metrics
	return []prometheus.Collector{m.requests, m.seconds, m.running, m.streams, m.streamEnds, m.authFailed, m.subscribing}
}

func (m *metrics) served(operation string, status int, took time.Duration, stream bool) {
	if status == 0 { // nothing was written: net/http answers 200
		status = 200
	}
	m.requests.WithLabelValues(operation, statusClass(status)).Inc()
	if !stream {
		m.seconds.WithLabelValues(operation).Observe(took.Seconds())
	}
}

func statusClass(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return strconv.Itoa(status/100) + "xx"
}
