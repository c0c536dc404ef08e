package leak

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SampleInterval is the usual time between samples.
const SampleInterval = 30 * time.Second

// MonitorConfig says what a Monitor watches and whom it tells.
type MonitorConfig struct {
	Detector DetectorConfig
	// Read takes a sample now. Required.
	Read func() (Sample, error)
	// Interval between samples. Zero means SampleInterval. What a sample costs is
	// the account of the process that Read takes: memory.Account.Read has figures.
	Interval time.Duration
	// Verdict is told of verdicts that are new or changed, Blocks of every block
	// with what one connection adds to each class. Neither may block for long.
	Verdict func(Verdict)
	Blocks  func(Report)
	// Evidence takes profiles at verdicts. Nil: none are taken.
	Evidence *Evidence
	Logger   *slog.Logger // required
}

// Report is a block of a process as it is told to others.
type Report struct {
	Process string    `json:"process"`
	Started time.Time `json:"started"`
	Block
	// Known are the values of the block; Beta what one connection adds.
	Known map[Class]float64 `json:"values"`
	Beta  map[Class]float64 `json:"beta"`
}

// Monitor feeds a Detector with samples of this process. Its methods may be
// called concurrently with Run.
type Monitor struct {
	cfg     MonitorConfig
	metrics *monitorMetrics

	mu       sync.Mutex
	detector *Detector
}

// NewMonitor starts nothing.
func NewMonitor(cfg MonitorConfig) *Monitor {
	if cfg.Interval == 0 {
		cfg.Interval = SampleInterval
	}
	m := &Monitor{cfg: cfg, detector: NewDetector(cfg.Detector)}
	m.metrics = &monitorMetrics{monitor: m, verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_leak_verdicts_total", Help: "Verdicts that a class of memory of this process leaks."}, []string{"class"})}
	for _, c := range classes {
		m.metrics.verdicts.WithLabelValues(string(c))
	}
	return m
}

// Run takes a sample every interval until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for {
		m.Sample(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Sample takes one now and returns the block that it ended, if it did. Run does
// it; whoever has another clock calls it instead, one call after the other.
func (m *Monitor) Sample(ctx context.Context) *Report {
	s, err := m.cfg.Read()
	if err != nil {
		m.cfg.Logger.Warn("leak detector: read this process's memory", "err", err)
		return nil
	}
	m.mu.Lock()
	verdicts, block := m.detector.Add(s)
	var report *Report
	if block != nil {
		report = new(m.detector.Report(*block))
	}
	standing := m.detector.Standing()
	m.mu.Unlock()
	if report != nil && m.cfg.Blocks != nil {
		m.cfg.Blocks(*report)
	}
	for _, v := range verdicts {
		m.tell(v)
	}
	if m.cfg.Evidence != nil {
		m.look(ctx, s, standing)
	}
	return report
}

// look takes evidence if it is due, and tells what it shows.
func (m *Monitor) look(ctx context.Context, s Sample, standing []Verdict) {
	f, err := m.cfg.Evidence.Look(ctx, s, standing)
	switch {
	case err != nil:
		m.cfg.Logger.Warn("memory leak: evidence", "err", err)
	case f != nil:
		for _, d := range []Difference{f.Heap, f.Goroutines} {
			if len(d.Rows) > 0 {
				r := d.Rows[0]
				m.cfg.Logger.Warn("memory leak: what grew twice", "verdict", f.Verdict, "profile", d.Kind, "stack", r.Name,
					"growth", r.Growth, "unit", d.Unit, "per_reconnect", r.PerReconnect)
			}
		}
	}
}

// Report is a block with what one connection adds, as others are told it.
func (d *Detector) Report(b Block) Report {
	r := Report{Process: d.cfg.Process, Started: d.cfg.Start, Block: b, Known: make(map[Class]float64, numClasses), Beta: make(map[Class]float64, numClasses)}
	r.Connections, r.RSS = finite(b.Connections), finite(b.RSS)
	beta := d.Beta()
	for i, c := range classes {
		if !math.IsNaN(b.Values[i]) {
			r.Known[c], r.Beta[c] = b.Values[i], finite(beta[i])
		}
	}
	return r
}

func (m *Monitor) tell(v Verdict) {
	Log(m.cfg.Logger, v)
	if v.State.Leak() && v.Changed.Equal(v.Time) {
		m.metrics.verdicts.WithLabelValues(string(v.Class)).Inc()
	}
	if m.cfg.Verdict != nil {
		m.cfg.Verdict(v)
	}
}

// Log writes a verdict as a line of the log.
func Log(l *slog.Logger, v Verdict) {
	level := slog.LevelWarn
	switch v.State {
	case Urgent:
		level = slog.LevelError
	case OK:
		level = slog.LevelInfo
	}
	l.Log(context.Background(), level, "memory leak", "state", string(v.State), "process", v.Process, "class", string(v.Class), "cohort", string(v.Cohort),
		"verdict", v.ID, "summary", v.String())
}

// Status is what the detector says now.
func (m *Monitor) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.detector.Status()
}

// Collectors are the metrics of the detector. Their labels are the closed lists
// of this package.
func (m *Monitor) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.metrics, m.metrics.verdicts}
}

type monitorMetrics struct {
	monitor  *Monitor
	verdicts *prometheus.CounterVec
}

var (
	stateDesc = prometheus.NewDesc("holdfast_leak_state",
		"What the leak detector says of a class of memory: 0 ok, 1 warming, 2 growth explained by connections, 3 step, 4 leak, 5 urgent leak.", []string{"class"}, nil)
	bytesPerDayDesc = prometheus.NewDesc("holdfast_leak_growth_bytes_per_day",
		"Growth of a class that leaks, in bytes a day. Absent without a leak.", []string{"class"}, nil)
	countPerDayDesc = prometheus.NewDesc("holdfast_leak_growth_count_per_day",
		"Growth of a counted class that leaks (goroutines, threads, files, retained), in things a day. Absent without a leak.", []string{"class"}, nil)
	perReconnectDesc = prometheus.NewDesc("holdfast_leak_bytes_per_reconnect",
		"What a leaking class grows by for each new connection, in bytes. Absent without a leak.", []string{"class"}, nil)
	toLimitDesc = prometheus.NewDesc("holdfast_leak_seconds_to_limit",
		"Time until a leak fills the memory limit. Absent without a leak or a limit.", []string{"class"}, nil)
	podsDesc = prometheus.NewDesc("holdfast_leak_extra_pods_per_week",
		"Pods that an autoscaler on memory would add in a week because of a leak. Absent without a leak or a limit.", []string{"class"}, nil)
	connectionDesc = prometheus.NewDesc("holdfast_leak_estimated_bytes_per_connection",
		"What one connection adds to a class of memory, as the leak detector estimates it from how both change.", []string{"class"}, nil)
)

func (m *monitorMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, bytesPerDayDesc, countPerDayDesc, perReconnectDesc, toLimitDesc, podsDesc, connectionDesc} {
		ch <- d
	}
}

func (m *monitorMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, c Class) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, string(c))
	}
	for _, cs := range m.monitor.Status().Classes {
		gauge(stateDesc, float64(cs.State.Severity()), cs.Class)
		if !cs.Class.Count() {
			gauge(connectionDesc, cs.PerConnection, cs.Class)
		}
		if cs.Verdict == nil {
			continue
		}
		f := cs.Verdict.Forecast
		if cs.Class.Count() {
			gauge(countPerDayDesc, f.PerDay.Value, cs.Class)
			continue
		}
		gauge(bytesPerDayDesc, f.PerDay.Value, cs.Class)
		if f.PerReconnect.Value != 0 {
			gauge(perReconnectDesc, f.PerReconnect.Value, cs.Class)
		}
		if f.HoursToLimit.Value > 0 {
			gauge(toLimitDesc, f.HoursToLimit.Value*3600, cs.Class)
		}
		if f.PodsPerWeek.Value > 0 {
			gauge(podsDesc, f.PodsPerWeek.Value, cs.Class)
		}
	}
}
