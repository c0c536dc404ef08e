package gateway

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/ocpp"
	"holdfast/ws"
)

// metrics of the gateway. Labels come from closed lists; none is a station's identity.
type metrics struct {
	open        atomic.Int64
	changes     atomic.Int64                       // opened and closed
	established [ocpp.ProfileMTLS + 1]atomic.Int64 // since the start, by security profile
	connections *prometheus.GaugeVec
	upgrades    *prometheus.CounterVec
	rejections  *prometheus.CounterVec
	closes      *prometheus.CounterVec
	bad         *prometheus.CounterVec
	unanswered  prometheus.Counter
	paused      prometheus.Counter
	unlogged    prometheus.Counter
	known       map[ws.CloseReason]bool
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_connections", Help: "Stations that are connected and registered."}, []string{"profile", "version"}),
		upgrades:    counter("holdfast_upgrades_total", "Upgrade requests by result.", "profile", "result"),
		rejections:  counter("holdfast_rejections_total", "Stations that were refused, in the TLS handshake or at the upgrade.", "profile", "reason"),
		closes:      counter("holdfast_closes_total", "Connections that ended.", "profile", "reason"),
		bad:         counter("holdfast_bad_messages_total", "Messages of stations that are not OCPP-J, by what is wrong.", "kind"),
		unanswered:  one("holdfast_calls_unanswered_total", "CALLs of stations that nobody answered in time; the stations repeat them."),
		paused:      one("holdfast_stations_paused_total", "Times that a station had to wait because too many of its CALLs were queued."),
		unlogged:    one("holdfast_log_dropped_total", "Log lines about refused stations that were left out because there were too many."),
		known:       make(map[ws.CloseReason]bool),
	}
	for _, r := range reasons {
		m.known[r] = true
	}
	for _, p := range []ocpp.SecurityProfile{ocpp.ProfilePlain, ocpp.ProfileTLS, ocpp.ProfileMTLS} {
		for _, v := range ocpp.Versions {
			m.connections.WithLabelValues(p.Label(), string(v))
		}
	}
	return m
}

// opened and closed are called under the gateway's mu, with the registry.
func (m *metrics) opened(c *conn) {
	m.open.Add(1)
	m.changes.Add(1)
	m.established[c.profile].Add(1)
	m.connections.WithLabelValues(c.profile.Label(), string(c.version.version())).Inc()
}

func (m *metrics) closed(c *conn) {
	m.open.Add(-1)
	m.changes.Add(1)
	m.connections.WithLabelValues(c.profile.Label(), string(c.version.version())).Dec()
}

func (m *metrics) close(profile ocpp.SecurityProfile, reason ws.CloseReason) {
	if !m.known[reason] {
		reason = "other"
	}
	m.closes.WithLabelValues(profile.Label(), string(reason)).Inc()
}

// Collectors are the metrics of the gateway and of its connections.
func (g *Gateway) Collectors() []prometheus.Collector {
	m := g.metrics
	return append([]prometheus.Collector{m.connections, m.upgrades, m.rejections, m.closes, m.bad, m.unanswered, m.paused, m.unlogged, censusCollector{g},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_stations_penalized", Help: "Stations that are refused for a while because they connected too often."},
			func() float64 { return float64(g.often.penalized(time.Now())) }),
	}, g.ws.Collectors()...)
}
