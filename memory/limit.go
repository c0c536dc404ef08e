package memory

import (
	"fmt"
	"math"
	"runtime/debug"
)

// What LimitFromCgroup leaves to others than the Go runtime.
const (
	kernelPerConnection = 4 << 10  // a socket; Go does not see it, the cgroup charges it
	notGo               = 32 << 20 // the binary's pages, off-heap memory
	marginPercent       = 5
	leastShare          = 4 // never less than a quarter of the limit
)

// LimitFromCgroup returns the memory limit for the Go runtime (GOMEMLIMIT), in
// bytes, of a process with that many connections in a cgroup with that limit:
// the limit less 4 KB of kernel memory per connection, less 32 MB for what is
// not Go's, less 5 %. It is never less than a quarter of the limit, below which
// the collector would take the CPU from the stations: a cgroup that needs this
// is too small for so many connections. Without a limit (0) it is
// math.MaxInt64, which means none.
func LimitFromCgroup(limit int64, connections int) int64 {
	if limit <= 0 {
		return math.MaxInt64
	}
	n := limit - int64(connections)*kernelPerConnection - notGo - limit/100*marginPercent
	return max(n, limit/leastShare)
}

// ApplyLimit sets the memory limit of the Go runtime by LimitFromCgroup and
// returns it, in bytes. Connections is how many to provide for: call it at
// start with those that are expected, or again and again with those that there
// are. A limit that somebody else set (the GOMEMLIMIT variable) stays and is
// returned; so does math.MaxInt64, no limit, where the cgroup has none.
func (a *Account) ApplyLimit(connections int) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := debug.SetMemoryLimit(-1)
	if now != math.MaxInt64 && now != a.limit {
		return now, nil
	}
	c, err := readCgroup()
	if err != nil {
		return now, fmt.Errorf("memory limit: %w", err)
	}
	n := int64(math.MaxInt64)
	if c != nil {
		n = LimitFromCgroup(c.Limit, connections)
	}
	debug.SetMemoryLimit(n)
	a.limit = n
	return n, nil
}
