package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics is a process read by its Prometheus endpoint, by the names of the
// client libraries for Go (client_golang, with or without its runtime metrics)
// and for Node.js (prom-client), with any prefix before them, and by those of
// Holdfast. Of another process that has process_resident_memory_bytes only the
// resident set is known.
type Metrics struct{ endpoint }

// OpenMetrics takes the endpoint's URL; without a path it is /metrics.
func OpenMetrics(address string) (*Metrics, error) {
	e, err := newEndpoint("metrics", address)
	if err != nil {
		return nil, err
	}
	if e.base.Path == "" || e.base.Path == "/" {
		e.base.Path = "/metrics"
	}
	return &Metrics{e}, nil
}

// Read costs the process one scrape.
func (m *Metrics) Read(ctx context.Context) (Sample, error) {
	text, err := m.text(ctx, m.base)
	if err != nil {
		return Sample{}, fmt.Errorf("metrics: %w", err)
	}
	s, err := parseExposition(text)
	if err != nil {
		return Sample{}, fmt.Errorf("metrics: %s: %w", m.base.Redacted(), err)
	}
	return s, nil
}

// exposition is a scrape by family name.
type exposition map[string]*dto.MetricFamily

// parseExposition reads the Prometheus text format.
func parseExposition(text string) (Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return Sample{}, err
	}
	e, s := exposition(families), newSample()
	if rss, ok := e.value("process_resident_memory_bytes"); ok {
		s.RSS = rss
	}
	if start, ok := e.value("process_start_time_seconds"); ok {
		s.Started = time.Unix(start, 0)
	}
	e.count(&s, Files, "process_open_fds")
	switch {
	case e.family("holdfast_memory_bytes") != nil:
		e.holdfast(&s)
	case e.family("nodejs_heap_size_total_bytes") != nil:
		e.node(&s)
	case e.family("go_memstats_sys_bytes") != nil:
		e.golang(&s)
	case s.RSS == 0:
		return Sample{}, errors.New("no memory metric that is known: neither process_resident_memory_bytes nor those of the Go or Node.js client")
	}
	s.divide()
	return s, nil
}

// golang reads the names of client_golang. Those of its runtime metrics
// (go_gc_heap_live_bytes, …) are not there by default.
func (e exposition) golang(s *Sample) {
	get := func(name string) int64 { v, _ := e.value(name); return v }
	h := goHeap{
		alloc: get("go_memstats_heap_alloc_bytes"), inuse: get("go_memstats_heap_inuse_bytes"),
		idle: get("go_memstats_heap_idle_bytes"), released: get("go_memstats_heap_released_bytes"),
		heap: get("go_memstats_heap_sys_bytes"), stacks: get("go_memstats_stack_sys_bytes"), sys: get("go_memstats_sys_bytes"),
	}
	if live, ok := e.value("go_gc_heap_live_bytes"); ok {
		h.live = live
	}
	h.divide(s)
	e.count(s, Goroutines, "go_goroutines")
	e.count(s, Threads, "go_threads")
}

// node reads the names of prom-client.
func (e exposition) node(s *Sample) {
	get := func(name string) int64 { v, _ := e.value(name); return v }
	v8Heap(s, get("nodejs_heap_size_total_bytes"), get("nodejs_heap_size_used_bytes"), get("nodejs_external_memory_bytes"))
	e.count(s, Handles, "nodejs_active_handles_total")
}

// v8Heap divides what V8 counts as its own.
func v8Heap(s *Sample, total, used, external int64) {
	s.Classes[HeapUsed], s.Classes[HeapUnused], s.Classes[External] = used, total-used, external
	s.managed = total + external
}

func (e exposition) holdfast(s *Sample) {
	for _, m := range e.family("holdfast_memory_bytes").GetMetric() {
		s.Classes[Class(label(m, "class"))] = number(m)
	}
	s.RSS = sum(s.Classes)
	for _, m := range e.family("holdfast_memory_kernel_bytes").GetMetric() {
		s.Kernel[Class(label(m, "kind"))] = number(m)
	}
	if n, ok := e.value("holdfast_connections"); ok {
		s.Counts[Connections] = n
	}
	cohort := func(m *dto.Metric) Cohort {
		return Cohort{Profile: label(m, "profile"), TLS: label(m, "tls"), Version: label(m, "version")}
	}
	for _, m := range e.family("holdfast_memory_cohort_connections").GetMetric() {
		s.cohort(cohort(m), int(number(m)), 0)
	}
	for _, m := range e.family("holdfast_memory_cohort_socket_buffer_bytes").GetMetric() {
		s.cohort(cohort(m), 0, number(m))
	}
	for _, m := range e.family("holdfast_census_zombies").GetMetric() {
		s.zombies(label(m, "object"), cohort(m), number(m))
	}
	e.count(s, Goroutines, "go_goroutines")
	e.count(s, Threads, "go_threads")
	if v, ok := e.value("holdfast_memory_working_set_bytes"); ok {
		s.WorkingSet = v
		s.Limit, _ = e.value("holdfast_memory_limit_bytes")
	}
}

// family finds a family by its name, or the only one that ends in it after a
// prefix.
func (e exposition) family(name string) *dto.MetricFamily {
	if f := e[name]; f != nil {
		return f
	}
	var found *dto.MetricFamily
	for n, f := range e {
		if strings.HasSuffix(n, "_"+name) {
			if found != nil {
				return nil
			}
			found = f
		}
	}
	return found
}

// value adds up the metrics of a family: prom-client's cluster mode has one
// for each worker only if it is told to, otherwise there is one.
func (e exposition) value(name string) (int64, bool) {
	f := e.family(name)
	if f == nil || len(f.GetMetric()) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, m := range f.GetMetric() {
		n += number(m)
	}
	return n, true
}

func (e exposition) count(s *Sample, c Count, name string) {
	if n, ok := e.value(name); ok {
		s.Counts[c] = n
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// number is the value of a gauge, counter or untyped metric, clamped to what
// can be a number of bytes or things.
func number(m *dto.Metric) int64 {
	v := 0.0
	switch {
	case m.Gauge != nil:
		v = m.GetGauge().GetValue()
	case m.Counter != nil:
		v = m.GetCounter().GetValue()
	case m.Untyped != nil:
		v = m.GetUntyped().GetValue()
	}
	if math.IsNaN(v) {
		return 0
	}
	return int64(min(max(v, -maxCount), maxCount))
}
