package ws

import (
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strings"
	"sync"
)

// Cohort is what connections have in common that may make a difference to the
// memory they leave behind.
type Cohort struct {
	Label       string // of the endpoint
	TLSVersion  uint16 // 0: plain, or the handshake failed
	Subprotocol string // as it was answered; empty: none, or never opened
}

// maxCohorts bounds the cohorts that are told apart; those beyond it are one,
// the zero Cohort. Labels, TLS versions and subprotocols come from short lists.
const maxCohorts = 64

// cohorts numbers cohorts in the order in which they appear; number 0 is the
// zero Cohort.
type cohorts struct {
	mu     sync.Mutex
	number map[Cohort]uint16
	list   []Cohort
}

func (k *cohorts) of(c Cohort) uint16 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, ok := k.number[c]; ok {
		return n
	}
	if k.list == nil {
		k.number, k.list = make(map[Cohort]uint16), make([]Cohort, 1)
	}
	if len(k.list) >= maxCohorts {
		return 0
	}
	n := uint16(len(k.list))
	k.number[c] = n
	k.list = append(k.list, c)
	return n
}

// Cohorts lists the cohorts that there have been; a cohort keeps its place.
// The first one is the zero Cohort.
func (s *Server) Cohorts() []Cohort {
	s.cohorts.mu.Lock()
	defer s.cohorts.mu.Unlock()
	if s.cohorts.list == nil {
		return make([]Cohort, 1)
	}
	return slices.Clone(s.cohorts.list)
}

// Objects that this package is done with when a connection ends.
const (
	ObjectConn = "websocket" // *Conn
	ObjectTLS  = "tls"       // *tls.Conn, *record.Conn
	// ObjectHandshake is a *tls.Conn whose connection was carried on by another.
	ObjectHandshake = "tls_handshake"
)

// Retired is how many objects of one kind and cohort were given up, and what
// became of them.
type Retired struct {
	Object string
	Cohort Cohort
	// Closed is how many were given up, Collected how many of these the garbage
	// collector has taken since.
	Closed, Collected uint64
	// Zombies were given up more than two collections ago and are still there:
	// something holds them.
	Zombies uint64
}

// census counts objects that were given up and not collected. It costs nothing
// while a connection lives; Retire takes a microsecond and some 100 bytes until
// the object is collected.
type census struct {
	mu     sync.Mutex
	cells  map[cellKey]*cell
	cycles [1]runtimemetrics.Sample // collections so far
	now    uint64                   // as of the last look
}

type cellKey struct {
	object string
	cohort uint16
}

// recentCycles is for how many collections an object may stay: one may be
// under way that has marked it already, the next one finds it, and its cleanup
// runs when that is swept.
const recentCycles = 3

// cell counts one kind of objects of one cohort. Guarded by census.mu.
type cell struct {
	closed, collected uint64
	recent            [recentCycles]int64 // still there, by collection at their close
	zombies           int64               // still there, closed before that
}

// mark is what a cleanup knows of its object.
type mark struct {
	census *census
	cell   *cell
	cycle  uint64
}

// Retire notes that whoever calls is done with obj, which belonged to c's
// cohort: unless something holds it, the garbage collector takes it within two
// collections. Retire an object once. Object names a kind of a short list.
func Retire[T any](c *Conn, object string, obj *T) { retire(c.s, object, c.cohort, obj) }

func retire[T any](s *Server, object string, cohort uint16, obj *T) {
	runtime.AddCleanup(obj, mark.collected, s.census.closed(cellKey{object, cohort}))
}

// closed counts an object that is given up.
func (n *census) closed(key cellKey) mark {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.look()
	c := n.cells[key]
	if c == nil {
		if n.cells == nil {
			n.cells = make(map[cellKey]*cell)
		}
		c = &cell{}
		n.cells[key] = c
	}
	c.closed++
	c.recent[n.now%recentCycles]++
	return mark{n, c, n.now}
}

// collected runs when the object of m is gone.
func (m mark) collected() {
	m.census.mu.Lock()
	defer m.census.mu.Unlock()
	m.census.look()
	m.cell.collected++
	if m.census.now-m.cycle < recentCycles {
		m.cell.recent[m.cycle%recentCycles]--
	} else {
		m.cell.zombies--
	}
}

// look moves what is no longer recent, with n.mu held.
func (n *census) look() {
	n.cycles[0].Name = "/gc/cycles/total:gc-cycles"
	runtimemetrics.Read(n.cycles[:])
	n.advance(n.cycles[0].Value.Uint64())
}

// advance moves to a later collection.
func (n *census) advance(cycle uint64) {
	for range min(cycle-n.now, recentCycles) {
		n.now++
		for _, c := range n.cells {
			c.zombies += c.recent[n.now%recentCycles]
			c.recent[n.now%recentCycles] = 0
		}
	}
	if n.now < cycle { // all slots are empty: only the phase of the ring matters
		n.now = cycle
	}
}

// Census reports what the server, and others by Retire, are done with.
func (s *Server) Census() []Retired {
	names := s.Cohorts()
	n := &s.census
	n.mu.Lock()
	n.look()
	list := make([]Retired, 0, len(n.cells))
	for key, c := range n.cells {
		r := Retired{Object: key.object, Closed: c.closed, Collected: c.collected, Zombies: uint64(max(c.zombies, 0))}
		if int(key.cohort) < len(names) {
			r.Cohort = names[key.cohort]
		}
		list = append(list, r)
	}
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b Retired) int {
		return strings.Compare(a.Object+a.Cohort.Label+a.Cohort.Subprotocol, b.Object+b.Cohort.Label+b.Cohort.Subprotocol)
	})
	return list
}
