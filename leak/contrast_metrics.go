package leak

import "github.com/prometheus/client_golang/prometheus"

var fleetDesc = prometheus.NewDesc("holdfast_leak_fleet",
	"1 while the comparison of all gateways says that a class of memory leaks, by the kind of connections.", []string{"class", "cohort"}, nil)

var fleetMembersDesc = prometheus.NewDesc("holdfast_leak_fleet_processes",
	"Processes whose memory is compared.", nil, nil)

var fleetDroppedDesc = prometheus.NewDesc("holdfast_leak_fleet_dropped_total",
	"Reports of processes beyond the 1,000 that are compared.", nil, nil)

// Collectors are the metrics of the comparison. Their labels are the closed
// lists of this package.
func (c *Contrast) Collectors() []prometheus.Collector {
	return []prometheus.Collector{fleetMetrics{c}}
}

type fleetMetrics struct{ contrast *Contrast }

func (m fleetMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{fleetDesc, fleetMembersDesc, fleetDroppedDesc} {
		ch <- d
	}
}

func (m fleetMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.contrast.Standing() {
		ch <- prometheus.MustNewConstMetric(fleetDesc, prometheus.GaugeValue, 1, string(v.Class), string(v.Cohort))
	}
	m.contrast.mu.Lock()
	members, dropped := len(m.contrast.members), m.contrast.dropped
	m.contrast.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(fleetMembersDesc, prometheus.GaugeValue, float64(members))
	ch <- prometheus.MustNewConstMetric(fleetDroppedDesc, prometheus.CounterValue, float64(dropped))
}
