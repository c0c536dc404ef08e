package gateway

import (
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/ocpp"
	"holdfast/ws"
)

// Cohort is what stations have in common that may make a difference to the
// memory of their connections, in the words of labels.
type Cohort struct {
	Profile string // "1", "2", "3"
	TLS     string // "1.2", "1.3"; "none": plain, or the handshake failed
	Version string // "1.6", "2.0.1", "2.1"; "none": no subprotocol, or never opened
}

// none stands for a word that a cohort does not have.
const none = "none"

// cohortOf translates what ws knows. Whatever a station offered, the words come
// from short lists.
func cohortOf(c ws.Cohort) Cohort {
	k := Cohort{Profile: c.Label, TLS: none, Version: none}
	switch c.TLSVersion {
	case tls.VersionTLS12:
		k.TLS = "1.2"
	case tls.VersionTLS13:
		k.TLS = "1.3"
	}
	if k.Profile == "" {
		k.Profile = none
	}
	if v, ok := ocpp.VersionOf(c.Subprotocol); ok {
		k.Version = string(v)
	}
	return k
}

// Sockets says whose each socket of this process is: of[fd] is 0 if the
// descriptor is no station's, otherwise the place of the station's cohort in
// names plus one. It costs about 1 ns for every descriptor.
func (g *Gateway) Sockets() (of []uint16, names []Cohort) {
	of = g.ws.Sockets()
	for _, c := range g.ws.Cohorts() { // after of: what of names is in it
		names = append(names, cohortOf(c))
	}
	return of, names
}

// objectStation is the gateway's own state of a connection, type conn.
const objectStation = "station"

// Retired is ws.Retired in the gateway's words.
type Retired struct {
	Object string // "websocket", "tls", "station"
	Cohort
	Closed, Collected, Zombies uint64
}

// Census counts the objects of connections that ended, and those that the
// garbage collector did not take: something holds them.
func (g *Gateway) Census() []Retired {
	var list []Retired
	place := make(map[Retired]int) // two spellings of a subprotocol are one cohort
	for _, r := range g.ws.Census() {
		key := Retired{Object: r.Object, Cohort: cohortOf(r.Cohort)}
		i, ok := place[key]
		if !ok {
			i = len(list)
			place[key] = i
			list = append(list, key)
		}
		list[i].Closed += r.Closed
		list[i].Collected += r.Collected
		list[i].Zombies += r.Zombies
	}
	return list
}

var (
	closedDesc = prometheus.NewDesc("holdfast_census_closed_total",
		"Objects of connections that ended and were given up.", []string{"object", "profile", "tls", "version"}, nil)
	collectedDesc = prometheus.NewDesc("holdfast_census_collected_total",
		"Of these, how many the garbage collector has taken.", []string{"object", "profile", "tls", "version"}, nil)
	zombiesDesc = prometheus.NewDesc("holdfast_census_zombies",
		"Objects that were given up more than two collections ago and are still there: something holds them.", []string{"object", "profile", "tls", "version"}, nil)
)

// censusCollector gives the census as metrics.
type censusCollector struct{ g *Gateway }

func (c censusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- closedDesc
	ch <- collectedDesc
	ch <- zombiesDesc
}

func (c censusCollector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.g.Census() {
		labels := []string{r.Object, r.Profile, r.TLS, r.Version}
		ch <- prometheus.MustNewConstMetric(closedDesc, prometheus.CounterValue, float64(r.Closed), labels...)
		ch <- prometheus.MustNewConstMetric(collectedDesc, prometheus.CounterValue, float64(r.Collected), labels...)
		ch <- prometheus.MustNewConstMetric(zombiesDesc, prometheus.GaugeValue, float64(r.Zombies), labels...)
	}
}
