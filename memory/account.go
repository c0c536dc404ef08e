package memory

import (
	"sync"
	"time"
	"unsafe"
)

// slabPerSocket is what the kernel keeps for one idle TCP connection outside of
// the buffers, in bytes: socket, inode, file, directory entry, epoll item. It
// is the sum of the sizes of these objects on Linux 6.x and varies by some
// hundred bytes between builds.
const slabPerSocket = 3900

// Account reads the memory of this process. All methods may be called
// concurrently.
type Account struct {
	mu       sync.Mutex
	stations Stations
	base     int64 // RSS at the last Read before the first connection
	based    bool  // there was a connection: base stays
	limit    int64 // the memory limit that ApplyLimit set last

	roles struct { // the last count of goroutines by role
		sync.Mutex
		at    time.Time
		count map[string]int
	}
}

// Report is an account at one moment. Sizes are bytes.
type Report struct {
	Time time.Time `json:"time"`

	// RSS is the resident set, the sum of Classes. 0 on other systems than
	// Linux.
	RSS     int64           `json:"rss_bytes"`
	RSSPeak int64           `json:"rss_peak_bytes"`
	Swap    int64           `json:"swap_bytes"`
	Classes map[Class]int64 `json:"classes"`

	// GoMapped is what Go holds and has not returned to the kernel, which is
	// what GoLimit (GOMEMLIMIT, 2^63-1 means none) applies to.
	GoMapped int64 `json:"go_mapped_bytes"`
	GoLimit  int64 `json:"go_limit_bytes"`

	// Untouched is what Go's heap holds and nobody has written to yet, so that the
	// kernel did not have to supply it: buffers that were made large and are used
	// little. It is in the classes of the heap, and lowers OffHeap by as much. Like
	// HugePages it is 0 in the metrics.
	Untouched int64 `json:"heap_untouched_bytes"`

	// HugePages is anonymous memory in transparent huge pages, LazyFree what
	// the kernel may take back at any time although it is counted as resident,
	// PSS the resident set with shared pages divided among their sharers. All
	// are parts or views of RSS and not read for the metrics: they cost
	// milliseconds.
	HugePages int64 `json:"huge_pages_bytes"`
	LazyFree  int64 `json:"lazy_free_bytes"`
	PSS       int64 `json:"pss_bytes"`

	// Kernel is outside of RSS and inside of the working set.
	Kernel Kernel `json:"kernel"`
	// Cgroup is nil where no memory controller is visible.
	Cgroup *Cgroup `json:"cgroup,omitempty"`

	Goroutines int `json:"goroutines"`
	// Roles divides the goroutines by what they are for. It may be a minute old.
	Roles   map[string]int `json:"goroutines_by_role"`
	Threads int            `json:"threads"`
	Files   int            `json:"files"` // open file descriptors
	Backlog Backlog        `json:"backlog"`

	// Connections is their number by security profile; nil if nobody told.
	Connections map[string]int `json:"connections,omitempty"`
	// Cohorts divides the connections further; nil where nobody told.
	Cohorts []Connected `json:"cohorts,omitempty"`
	// Census is of connections that ended: what is left of them.
	Census []Retired `json:"census,omitempty"`
	// BaseRSS is RSS at the last reading before the first connection.
	BaseRSS int64 `json:"base_rss_bytes"`
	// PerConnection is (RSS - BaseRSS) / connections, 0 without connections.
	// It holds everything that came after the start, garbage and caches
	// included: below some hundred connections it says little, and after a
	// storm it shows what the storm left behind.
	PerConnection int64 `json:"per_connection_bytes"`
}

// Kernel is memory that the kernel keeps for this process outside of its
// resident set, in bytes. A pod pays for it.
type Kernel struct {
	Sockets int `json:"sockets"`
	// SocketBuffers is what the sockets' buffers hold: 0 while all are idle,
	// megabytes for one peer that does not read.
	SocketBuffers int64 `json:"socket_buffer_bytes"`
	// SocketEstimate is the number of sockets times 3,900 bytes, the kernel's
	// objects for an idle TCP connection. It is an estimate.
	SocketEstimate int64 `json:"socket_estimate_bytes"`
	PageTables     int64 `json:"page_table_bytes"`
}

// Backlog is objects that the collector found unused and whose cleanup or
// finalizer has not run yet. It is short unless one of those blocks: then
// nothing is freed any more that has one.
type Backlog struct {
	Cleanups   int64 `json:"cleanups"`
	Finalizers int64 `json:"finalizers"`
}

// NewAccount returns an account of this process. Call it, or Read, when the
// process is ready for its first connection: what it holds by then is the base
// of the per-connection figure.
func NewAccount() *Account {
	a := &Account{}
	a.read(false) // the base; an error comes back with the next Read
	return a
}

// SetStations tells whom to ask about stations' connections. Without it there is
// no per-connection figure, no cohort and no census.
func (a *Account) SetStations(s Stations) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stations = s
}

// Read takes the account now. It costs about 1 ms, 0.2 µs for every slot of the
// file descriptor table (3 ms with 16,000 files), 1 µs for every goroutine and
// some milliseconds per GB of resident memory; see BenchmarkRead.
func (a *Account) Read() (Report, error) { return a.read(true) }

// Cgroup reads the working set and its limit alone, in 0.2 ms; nil where no
// memory controller is visible. Unexplained is 0.
func (a *Account) Cgroup() (*Cgroup, error) { return readCgroup() }

// read is Read; without detail it leaves out what has to walk the page tables.
func (a *Account) read(detail bool) (Report, error) {
	a.mu.Lock()
	stations := a.stations
	a.mu.Unlock()
	r := Report{Time: time.Now()}
	if stations.Connections != nil {
		r.Connections = stations.Connections()
	}
	if stations.Census != nil {
		r.Census = stations.Census()
	}
	var of []uint16
	var names []Cohort
	if stations.Sockets != nil {
		of, names = stations.Sockets()
	}
	r.Roles = a.recentRoles(detail)
	// The two readings lie as close together as possible: what is allocated in
	// between ends up in OffHeap.
	g := readRuntime()
	if detail {
		m, err := readMappings(uintptr(unsafe.Pointer(a)))
		if err != nil {
			return Report{}, err
		}
		r.HugePages, r.LazyFree, r.PSS = m.hugePages, m.lazyFree, m.pss
		if m.reserved >= g.heap { // else the heap has other arenas, too
			r.Untouched = max(0, g.heap-m.around)
		}
	}
	p, err := readProcess(of, names)
	if err != nil {
		return Report{}, err
	}
	r.Classes = g.classes
	r.GoMapped, r.GoLimit, r.Goroutines, r.Backlog = g.mapped, g.limit, int(g.goroutines), g.backlog
	if p == nil {
		return r, nil
	}
	s := p.status
	r.Classes[OffHeap] = s.anon - g.mapped
	r.Classes[File] = s.file
	r.Classes[Shared] = s.shmem
	r.RSS, r.RSSPeak, r.Swap, r.Threads = s.rss, s.peak, s.swap, int(s.thread)
	r.Kernel, r.Files, r.Cgroup, r.Cohorts = p.kernel, p.files, p.cgroup, p.cohorts
	if c := r.Cgroup; c != nil {
		c.Unexplained = c.WorkingSet - r.RSS - r.Kernel.SocketEstimate - r.Kernel.PageTables
		if c.Version == 2 { // version 1 counts socket buffers apart from the working set
			c.Unexplained -= r.Kernel.SocketBuffers
		}
	}
	a.perConnection(&r)
	return r, nil
}

// rolesAge is how old a count of goroutines by role may be in the metrics.
const rolesAge = time.Minute

// recentRoles counts the goroutines by role, anew if it should be fresh.
func (a *Account) recentRoles(fresh bool) map[string]int {
	a.roles.Lock()
	defer a.roles.Unlock()
	if now := time.Now(); fresh || now.Sub(a.roles.at) > rolesAge {
		a.roles.at, a.roles.count = now, Roles()
	}
	return a.roles.count
}

// perConnection keeps the base up to date and divides what was added to it.
func (a *Account) perConnection(r *Report) {
	n := total(r.Connections)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > 0 {
		a.based = true
	}
	if !a.based {
		a.base = r.RSS
	}
	r.BaseRSS = a.base
	if n > 0 {
		r.PerConnection = (r.RSS - a.base) / int64(n)
	}
}
