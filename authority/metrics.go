package authority

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/est"
	"holdfast/ocpp"
	"holdfast/store"
)

type metrics struct {
	a            *Authority
	decisions    *prometheus.CounterVec
	seconds      prometheus.Histogram
	certificates *prometheus.GaugeVec
	expiry       *prometheus.GaugeVec
	nextCRL      prometheus.Gauge
	external     *prometheus.CounterVec
	externalTime prometheus.Histogram
	derived      []prometheus.Collector
}

func newMetrics(a *Authority) *metrics {
	m := &metrics{
		a: a,
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_authority_decisions_total",
			Help: "Decisions on stations that want to connect, by reason."}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_authority_decision_seconds",
			Help: "Time to decide on a station that wants to connect.", Buckets: prometheus.ExponentialBuckets(0.00005, 2, 16)}),
		certificates: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_authority_certificates",
			Help: "Stations' certificates by status, counted once a minute."}, []string{"status"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_authority_next_expiry_timestamp_seconds",
			Help: "When the next certificate expires: the first active one of the stations, the first of our CAs that issue, the first imported CA, and our client certificate for the external CA. Zero: there is none."}, []string{"kind"}),
	}
	m.nextCRL = prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_authority_crl_next_update_timestamp_seconds",
		Help: "When the first of the imported revocation lists is to be replaced by the next one. Zero: there is none."})
	m.external = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_authority_external_ca_total",
		Help: "Requests for stations' certificates to the external CA, by what became of them."}, []string{"result"})
	m.externalTime = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_authority_external_ca_seconds",
		Help: "Time of a request to the external CA, its turn and repetitions included.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 13)})
	for _, result := range []string{externalIssued, externalUnused, string(externalWrong), string(est.Unavailable), string(est.Unauthorized),
		string(est.Pending), string(est.Refused), string(est.BadAnswer), externalFailed} {
		m.external.WithLabelValues(result)
	}
	m.derived = []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_authority_attempts_dropped_total",
			Help: "Attempts to connect that were not recorded: too many of unregistered stations, or a database that is away."},
			func() float64 { return float64(a.attempts.dropped.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_authority_attempts_unwritten",
			Help: "Attempts to connect that wait to be written to the database."}, func() float64 { return float64(a.attempts.unwritten()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_authority_failing_sources",
			Help: "Pairs of station and source address with wrong passwords that are remembered."}, func() float64 { return float64(a.lockouts.len()) }),
	}
	for reason := range reasons { // so that a rate exists before the first of its kind
		m.decisions.WithLabelValues(string(reason))
	}
	return m
}

func (m *metrics) decided(reason ocpp.Reason, d time.Duration) {
	m.decisions.WithLabelValues(string(reason)).Inc()
	m.seconds.Observe(d.Seconds())
}

// enrolled counts a request to the external CA.
func (m *metrics) enrolled(err error, d time.Duration) {
	result := externalIssued
	if e, ok := errors.AsType[*ExternalCAError](err); ok {
		result = string(e.Kind)
	} else if err != nil {
		result = externalFailed
	}
	m.external.WithLabelValues(result).Inc()
	m.externalTime.Observe(d.Seconds())
}

// count brings the gauges about certificates up to date.
func (m *metrics) count(ctx context.Context) error {
	now := m.a.cfg.Now()
	c, err := m.a.store.CountCertificates(ctx, now)
	if err != nil {
		return err
	}
	for status, n := range map[string]int64{"active": c.Active, "superseded": c.Superseded, "revoked": c.Revoked, "expired": c.Expired} {
		m.certificates.WithLabelValues(status).Set(float64(n))
	}
	next := 0.0
	if !c.NextExpiry.IsZero() {
		next = float64(c.NextExpiry.Unix())
	}
	m.expiry.WithLabelValues("station").Set(next)
	h, err := m.a.hierarchy(ctx)
	if err != nil {
		return err
	}
	_, first := h.expires()
	m.expiry.WithLabelValues("ca").Set(float64(first.Unix()))
	cas, _, err := m.a.store.CAs(ctx)
	if err != nil {
		return err
	}
	imported := 0.0
	for _, c := range cas { // one that has expired is not trusted any more, and says nothing of the next
		if at := float64(c.NotAfter.Unix()); c.Kind == store.KindImported && c.NotAfter.After(now) && (imported == 0 || at < imported) {
			imported = at
		}
	}
	m.expiry.WithLabelValues("imported_ca").Set(imported)
	if m.a.cfg.EST != nil {
		c, err := m.a.cfg.EST.ClientCertificate()
		if err != nil {
			return err
		}
		if c != nil {
			m.expiry.WithLabelValues("external_ca_client").Set(float64(c.NotAfter.Unix()))
		}
	}
	lists, err := m.a.store.CRLs(ctx, now)
	if err != nil {
		return err
	}
	next = 0
	for _, l := range lists {
		if at := float64(l.NextUpdate.Unix()); !l.NextUpdate.IsZero() && (next == 0 || at < next) {
			next = at
		}
	}
	m.nextCRL.Set(next)
	return nil
}

// Collectors are the authority's metrics, for the caller's registry.
func (a *Authority) Collectors() []prometheus.Collector {
	return append([]prometheus.Collector{a.metrics.decisions, a.metrics.seconds, a.metrics.certificates, a.metrics.expiry, a.metrics.nextCRL,
		a.metrics.external, a.metrics.externalTime}, a.metrics.derived...)
}
