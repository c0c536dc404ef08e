package csms

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/ocpp"
)

type metrics struct {
	calls          *prometheus.CounterVec
	seconds        *prometheus.HistogramVec
	open           prometheus.Gauge
	panics         prometheus.Counter
	serials        prometheus.Counter
	duplicates     *prometheus.CounterVec
	notRecorded    *prometheus.CounterVec
	operations     *prometheus.CounterVec
	openOperations *prometheus.GaugeVec
	cached, jobs   prometheus.GaugeFunc
}

func newMetrics(c *CSMS) *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_calls_total", Help: "CALLs by direction (up: from stations) and result.",
		}, []string{"direction", "version", "action", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_call_seconds", Help: "Time from a CALL to its answer, in the csms.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"direction", "version", "action", "result"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_transactions_open", Help: "Transactions in the record that are open; every csms process shows the same, counted every 15 seconds.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_csms_panics_total", Help: "Panics of handlers and jobs, each logged with its stack.",
		}),
		serials: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_csms_wrong_serials_total", Help: "Boots with another serial number than the station's certificate has; the connection was closed.",
		}),
		duplicates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_csms_duplicates_total", Help: "Transaction messages that were known already.",
		}, []string{"action"}),
		notRecorded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_csms_not_recorded_total", Help: "What was left out of the record because of a limit per station.",
		}, []string{"what"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_operations_total", Help: "Operations on stations' credentials that ended, by kind and status.",
		}, []string{"kind", "status"}),
		openOperations: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_operations_open", Help: "Operations that are not over; every csms process shows the same, counted every 15 seconds.",
		}, []string{"kind", "status"}),
		cached: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_csms_registrations_cached", Help: "Stations whose registration is in memory.",
		}, func() float64 { return float64(c.registrations.len()) }),
		jobs: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_csms_jobs_waiting", Help: "Asynchronous commands that wait.",
		}, func() float64 { return float64(len(c.jobs)) }),
	}
}

// Collectors returns the metrics of the rules.
func (c *CSMS) Collectors() []prometheus.Collector {
	m := c.metrics
	return []prometheus.Collector{m.calls, m.seconds, m.open, m.panics, m.serials, m.duplicates, m.notRecorded, m.operations, m.openOperations, m.cached, m.jobs}
}

// handled counts a CALL. Labels come from closed lists: versions and actions
// that are not known are "other".
func (m *metrics) handled(d ocpp.Direction, v ocpp.Version, action string, known bool, err error, took time.Duration) {
	version := "other"
	if v.Valid() {
		version = string(v)
	}
	if !known {
		action = "other"
	}
	labels := []string{string(d), version, action, resultOf(err)}
	m.calls.WithLabelValues(labels...).Inc()
	m.seconds.WithLabelValues(labels...).Observe(took.Seconds())
}

// resultOf names the outcome of a CALL: a closed list.
func resultOf(err error) string {
	if err == nil {
		return ResultAccepted
	}
	if _, ok := errors.AsType[*ocpp.Error](err); ok {
		return ResultCallError
	}
	switch {
	case errors.Is(err, ocpp.ErrInvalidAnswer):
		return ResultInvalidAnswer
	case errors.Is(err, ocpp.ErrOffline):
		return ResultOffline
	case errors.Is(err, ocpp.ErrConnectionLost):
		return ResultConnectionLost
	case errors.Is(err, ocpp.ErrBusy):
		return ResultBusy
	case errors.Is(err, ocpp.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ResultTimeout
	}
	return ResultUnavailable
}
