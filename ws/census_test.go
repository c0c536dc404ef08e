package ws

import (
	"crypto/tls"
	"runtime"
	"sync"
	"testing"
	"unsafe"
)

// collectAll runs as many collections as an object may take to be gone.
func collectAll() {
	for range recentCycles + 1 {
		runtime.GC()
	}
}

// zombies adds up what is still there of a kind of object.
func zombies(s *Server, object string) (closed, gone, left uint64) {
	for _, r := range s.Census() {
		if r.Object == object {
			closed, gone, left = closed+r.Closed, gone+r.Collected, left+r.Zombies
		}
	}
	return closed, gone, left
}

// TestCensus: every closed connection is counted once and collected, failed
// handshakes included; one that somebody keeps is found, in its cohort.
func TestCensus(t *testing.T) {
	pki, other := newPKI(t), newPKI(t)
	cert, wrong := pki.client(t, "CS1"), other.client(t, "CS1")
	var mu sync.Mutex
	var keep []*Conn
	keeping := false
	session := func() *recorder {
		r := echoSession()
		mu.Lock()
		defer mu.Unlock()
		if keeping {
			r.onOpen = func(c *Conn) {
				mu.Lock()
				defer mu.Unlock()
				keep = append(keep, c)
			}
		}
		return r
	}
	s := startServer(t, Config{}, Endpoint{Label: "3", TLS: pki.serverConfig(true), Upgrade: upgrading(session)})
	churn := func(n int, version uint16) {
		t.Helper()
		cfg := clientConfig(pki, cert)
		cfg.MaxVersion = version
		for range n {
			dial(t, s.addr, cfg).net.Close()
		}
		eventually(t, "all closed", func() bool { return s.accepted.Load() == 0 })
	}
	churn(20, tls.VersionTLS13)
	churn(10, tls.VersionTLS12)
	for range 5 {
		_ = handshake2(s.addr, clientConfig(pki, wrong))
	}
	eventually(t, "all closed", func() bool { return s.accepted.Load() == 0 && s.gate.opening() == 0 })
	for _, object := range []string{ObjectConn, ObjectTLS} {
		eventually(t, object+" collected", func() bool {
			collectAll()
			closed, gone, left := zombies(s.Server, object)
			return closed == 35 && gone == 35 && left == 0
		})
	}
	byVersion := make(map[uint16]uint64)
	for _, r := range s.Census() {
		if r.Object == ObjectTLS {
			byVersion[r.Cohort.TLSVersion] += r.Closed
		}
		if r.Cohort.Label != "3" {
			t.Errorf("cohort %+v", r.Cohort)
		}
	}
	if byVersion[tls.VersionTLS13] != 20 || byVersion[tls.VersionTLS12] != 10 || byVersion[0] != 5 {
		t.Errorf("TLS connections by version: %v", byVersion)
	}

	mu.Lock()
	keeping = true
	mu.Unlock()
	churn(12, tls.VersionTLS12)
	eventually(t, "zombies found", func() bool {
		collectAll()
		_, _, left := zombies(s.Server, ObjectConn)
		return left == 12
	})
	for _, r := range s.Census() {
		if want := r.Cohort.TLSVersion == tls.VersionTLS12 && r.Object == ObjectConn; want != (r.Zombies > 0) {
			t.Errorf("%s of %+v: %d zombies", r.Object, r.Cohort, r.Zombies)
		}
	}
	mu.Lock()
	keep = nil
	mu.Unlock()
	eventually(t, "zombies gone", func() bool {
		collectAll()
		closed, gone, left := zombies(s.Server, ObjectConn)
		return left == 0 && gone == closed
	})
}

// TestCensusCycles: an object is no zombie before the third collection after
// its close, and none once it is gone.
func TestCensusCycles(t *testing.T) {
	var n census
	n.cells = make(map[cellKey]*cell)
	c := &cell{}
	n.cells[cellKey{"x", 1}] = c
	for closed := range uint64(4) {
		n.advance(closed)
		c.recent[closed%recentCycles]++
		for after := closed; after < closed+recentCycles; after++ {
			n.advance(after)
			if c.zombies != 0 {
				t.Errorf("closed at %d, a zombie at %d", closed, after)
			}
		}
		if n.advance(closed + recentCycles); c.zombies != 1 {
			t.Errorf("closed at %d, %d zombies at %d", closed, c.zombies, closed+recentCycles)
		}
		c.zombies = 0
		n.now = closed
	}
}

func TestCohortsAreBounded(t *testing.T) {
	var k cohorts
	for i := range 2 * maxCohorts {
		n := k.of(Cohort{TLSVersion: uint16(i + 1)})
		if again := k.of(Cohort{TLSVersion: uint16(i + 1)}); again != n || int(n) >= maxCohorts || (i >= maxCohorts-1) != (n == 0) {
			t.Errorf("cohort %d has the numbers %d and %d", i, n, again)
		}
	}
}

// TestConnSize holds what every connection costs at a size class of the
// allocator.
func TestConnSize(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); releasesBuffers() && got > connSize {
		t.Errorf("Conn has %d bytes, which the allocator rounds up to the next class above %d", got, connSize)
	}
}

// BenchmarkRetire is what the census costs a connection, at its end only.
func BenchmarkRetire(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.registry.close()
	b.ReportAllocs()
	for b.Loop() {
		retire(s, ObjectConn, 0, &Conn{})
	}
}
