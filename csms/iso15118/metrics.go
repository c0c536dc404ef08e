package iso15118

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/csms"
)

// Metrics counts the questions of stations that others answer.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// Kinds of questions.
const (
	kindProvider = "ev_certificate"
	kindOCSP     = "ocsp"
)

// NewMetrics makes metrics that nobody collects yet.
func NewMetrics() *Metrics {
	return &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_iso15118_requests_total",
			Help: "Questions of stations for contract certificates (ev_certificate) and certificate status (ocsp), by what came of them: answered, cached, refused (the station's question is not one, or names a responder that is not listed), busy, timeout, invalid (an answer that is not to be used), unreachable.",
		}, []string{"kind", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_iso15118_seconds", Help: "Time until the provider or responder answered, or was given up.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2, 4, 8},
		}, []string{"kind"}),
	}
}

// Collectors returns the metrics.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.seconds}
}

func (m *Metrics) answered(kind string, err error, took time.Duration) {
	result := resultOf(err)
	m.requests.WithLabelValues(kind, result).Inc()
	if result != "refused" && result != "busy" {
		m.seconds.WithLabelValues(kind).Observe(took.Seconds())
	}
}

func resultOf(err error) string {
	f, _ := errors.AsType[*csms.ForwardError](err)
	switch {
	case err == nil:
		return "answered"
	case f != nil && f.Code != csms.CodeInternalError:
		return "refused"
	case errors.Is(err, errBusy):
		return "busy"
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, errAnswer):
		return "invalid"
	}
	return "unreachable"
}
