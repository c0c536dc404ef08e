package memory

import "github.com/prometheus/client_golang/prometheus"

// AllProfiles is the value of the profile label of
// holdfast_memory_per_connection_bytes for all connections together.
const AllProfiles = "all"

var (
	bytesDesc = prometheus.NewDesc("holdfast_memory_bytes",
		"Resident memory of this process by class. The classes add up to the resident set; off_heap is signed.", []string{"class"}, nil)
	kernelDesc = prometheus.NewDesc("holdfast_memory_kernel_bytes",
		"Memory that the kernel keeps for this process outside of its resident set. kind sockets is an estimate of 3900 bytes each.", []string{"kind"}, nil)
	workingSetDesc = prometheus.NewDesc("holdfast_memory_working_set_bytes",
		"Working set of this process's cgroup, as Kubernetes computes it.", nil, nil)
	cohortDesc = prometheus.NewDesc("holdfast_memory_cohort_connections",
		"Open connections by what may make a difference to their memory.", []string{"profile", "tls", "version"}, nil)
	cohortBuffersDesc = prometheus.NewDesc("holdfast_memory_cohort_socket_buffer_bytes",
		"Kernel memory in the socket buffers of these connections: 0 while all are idle, megabytes for one that does not read.", []string{"profile", "tls", "version"}, nil)
	rolesDesc = prometheus.NewDesc("holdfast_goroutines",
		"Goroutines by what they are for, counted at most once a minute.", []string{"role"}, nil)
	backlogDesc = prometheus.NewDesc("holdfast_memory_backlog",
		"Objects that the collector found unused and whose cleanup or finalizer has not run yet. It grows without end if one of them blocks.", []string{"kind"}, nil)
	unexplainedDesc = prometheus.NewDesc("holdfast_memory_working_set_unexplained_bytes",
		"Working set of the cgroup less this process's resident set and kernel memory: other processes, file cache.", nil, nil)
	limitDesc = prometheus.NewDesc("holdfast_memory_limit_bytes",
		"Memory limit of this process's cgroup and those above it. 0 means none.", nil, nil)
	perConnectionDesc = prometheus.NewDesc("holdfast_memory_per_connection_bytes",
		"Resident set less the resident set before the first connection, per connection. A profile has a figure of its own only while all connections are of that profile.", []string{"profile"}, nil)
)

// Collectors returns the metrics of the account: memory by class, kernel
// memory, working set and limit where a memory controller is visible, and bytes
// per connection. RSS cannot be divided by security profile from outside, so
// that metric gives one figure for all, and one for a profile while it has the
// process for itself.
func (a *Account) Collectors() []prometheus.Collector { return []prometheus.Collector{collector{a}} }

// collector takes one account per scrape.
type collector struct{ account *Account }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bytesDesc, kernelDesc, workingSetDesc, limitDesc, perConnectionDesc, cohortDesc, cohortBuffersDesc, rolesDesc, backlogDesc, unexplainedDesc} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	r, err := c.account.read(false)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(bytesDesc, err)
		return
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, class := range Classes() {
		if v, ok := r.Classes[class]; ok {
			gauge(bytesDesc, v, string(class))
		}
	}
	for role, n := range r.Roles {
		gauge(rolesDesc, int64(n), role)
	}
	gauge(backlogDesc, r.Backlog.Cleanups, "cleanups")
	gauge(backlogDesc, r.Backlog.Finalizers, "finalizers")
	if r.RSS == 0 { // not Linux
		return
	}
	gauge(kernelDesc, r.Kernel.SocketBuffers, "socket_buffers")
	gauge(kernelDesc, r.Kernel.SocketEstimate, "sockets")
	gauge(kernelDesc, r.Kernel.PageTables, "page_tables")
	if r.Cgroup != nil {
		gauge(workingSetDesc, r.Cgroup.WorkingSet)
		gauge(limitDesc, r.Cgroup.Limit)
		gauge(unexplainedDesc, r.Cgroup.Unexplained)
	}
	for _, c := range r.Cohorts {
		gauge(cohortDesc, int64(c.Connections), c.Profile, c.TLS, c.Version)
		gauge(cohortBuffersDesc, c.SocketBuffers, c.Profile, c.TLS, c.Version)
	}
	if n := total(r.Connections); n > 0 {
		gauge(perConnectionDesc, r.PerConnection, AllProfiles)
		for _, profile := range []string{"1", "2", "3"} {
			if r.Connections[profile] == n {
				gauge(perConnectionDesc, r.PerConnection, profile)
			}
		}
	}
}

func total(connections map[string]int) int {
	n := 0
	for _, c := range connections {
		n += c
	}
	return n
}
