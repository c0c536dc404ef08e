package memory

import (
	"sync"
	"time"
)

// slabPerSocket is what the kernel keeps for one idle TCP connection outside of
// the buffers, in bytes: socket, inode, file, directory entry, epoll item. It
// is the sum of the sizes of these objects on Linux 6.x and varies by some
// hundred bytes between builds.
const slabPerSocket = 3900

// Account reads the memory of this process. All methods may be called
// concurrently.
type Account struct {
	mu          sync.Mutex
	connections func() map[string]int
	base        int64 // RSS at the last Read before the first connection
	based       bool  // there was a connection: base stays
	limit       int64 // the memory limit that ApplyLimit set last
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
	Threads    int `json:"threads"`
	Files      int `json:"files"` // open file descriptors

	// Connections is their number by security profile; nil if nobody told.
	Connections map[string]int `json:"connections,omitempty"`
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

// NewAccount returns an account of this process. Call it, or Read, when the
// process is ready for its first connection: what it holds by then is the base
// of the per-connection figure.
func NewAccount() *Account {
	a := &Account{}
	a.read(false) // the base; an error comes back with the next Read
	return a
}

// SetConnections tells where to ask for the number of connections by security
// profile ("1", "2", "3"). Without it there is no per-connection figure.
func (a *Account) SetConnections(count func() map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections = count
}

// Read takes the account now. It costs about 0.1 ms, 0.3 µs for every slot of
// the file descriptor table (5 ms with 16,000 files) and some milliseconds per
// GB of resident memory; see BenchmarkRead.
func (a *Account) Read() (Report, error) { return a.read(true) }

// read is Read; without detail it leaves out what has to walk the page tables.
func (a *Account) read(detail bool) (Report, error) {
	a.mu.Lock()
	count := a.connections
	a.mu.Unlock()
	r := Report{Time: time.Now()}
	if count != nil {
		r.Connections = count()
	}
	// The two readings lie as close together as possible: what is allocated in
	// between ends up in OffHeap.
	g := readRuntime()
	p, err := readProcess()
	if err != nil {
		return Report{}, err
	}
	r.Classes = g.classes
	r.GoMapped, r.GoLimit, r.Goroutines = g.mapped, g.limit, int(g.goroutines)
	if p == nil {
		return r, nil
	}
	s := p.status
	r.Classes[OffHeap] = s.anon - g.mapped
	r.Classes[File] = s.file
	r.Classes[Shared] = s.shmem
	r.RSS, r.RSSPeak, r.Swap, r.Threads = s.rss, s.peak, s.swap, int(s.thread)
	r.Kernel, r.Files, r.Cgroup = p.kernel, p.files, p.cgroup
	if detail {
		m, err := readRollup()
		if err != nil {
			return Report{}, err
		}
		r.HugePages, r.LazyFree, r.PSS = m.hugePages, m.lazyFree, m.pss
	}
	a.perConnection(&r)
	return r, nil
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
