//go:build linux

package memory

import (
	"encoding/json"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const mb = 1 << 20

// read takes an account and checks what must hold for every one: the classes
// add up to the resident set, also to one that was read apart from them.
func read(t testing.TB, a *Account) Report {
	t.Helper()
	earlier := pageTables(t)
	r, err := a.Read()
	if err != nil {
		t.Fatal(err)
	}
	later := pageTables(t) // the runtime may return memory at any time
	if n := sum(r.Classes); n != r.RSS {
		t.Errorf("classes add up to %d, RSS is %d", n, r.RSS)
	}
	if len(r.Classes) != len(Classes()) {
		t.Errorf("%d classes, want %d", len(r.Classes), len(Classes()))
	}
	for _, c := range Classes() {
		if v := r.Classes[c]; v < 0 && c != OffHeap {
			t.Errorf("class %s is %d", c, v)
		}
	}
	if n := sum(r.Classes); n < min(earlier, later)*98/100 || n > max(earlier, later)*102/100 {
		t.Errorf("classes add up to %d, the page tables held %d and then %d", n, earlier, later)
	}
	return r
}

// pageTables is the resident set as the kernel counts it page by page, which no
// counter of the account depends on.
func pageTables(t testing.TB) (rss int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseFields(string(text), map[string]*int64{"Rss": &rss}); err != nil {
		t.Fatal(err)
	}
	return rss
}

func near(got, want, within int64) bool { return got >= want-within && got <= want+within }

// grown checks by how much a class differs between two reports, in bytes,
// within 2 % of the resident set, or 512 KB in a process so small that 2 % are
// fewer: Linux keeps RSS in counters that lag by some dozens of pages.
func grown(t *testing.T, before, after Report, class Class, want int64) {
	t.Helper()
	got := after.Classes[class] - before.Classes[class]
	if !near(got, want, max(after.RSS/50, mb/2)) {
		t.Errorf("%s grew by %.2f MB, want %.2f MB (RSS %.1f MB)", class, float64(got)/mb, float64(want)/mb, float64(after.RSS)/mb)
	}
}

// skipRace skips what checks figures that the race detector changes.
func skipRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector's own memory is in every figure")
	}
}

// settle leaves nothing to collect and nothing to return.
func settle() {
	runtime.GC()
	debug.FreeOSMemory()
}

func touch(b []byte) {
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
}

func TestIdle(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	r := read(t, a)
	if r.GoMapped != r.RSS-r.Classes[File]-r.Classes[Shared]-r.Classes[OffHeap] {
		t.Errorf("Go's classes do not add up to what Go has mapped: %+v", r)
	}
	// What Go counts without having touched it is its metadata's at most.
	if off := r.Classes[OffHeap]; off > mb || off < -r.Classes[Metadata] {
		t.Errorf("off-heap is %d in an idle process", off)
	}
	if r.Goroutines < 2 || r.Threads < 1 || r.Files < 3 {
		t.Errorf("goroutines %d, threads %d, files %d", r.Goroutines, r.Threads, r.Files)
	}
}

func TestHeap(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	idle := read(t, a)

	const n = 64 * mb
	blocks := make([][]byte, n/(64<<10))
	for i := range blocks {
		blocks[i] = make([]byte, 64<<10)
		touch(blocks[i])
	}
	runtime.GC()
	live := read(t, a)
	grown(t, idle, live, HeapLive, n)
	grown(t, idle, live, OffHeap, 0)
	runtime.KeepAlive(blocks)

	blocks = nil
	runtime.GC()
	freed := read(t, a)
	grown(t, live, freed, HeapLive, -n)
	grown(t, idle, freed, OffHeap, 0)

	settle()
	returned := read(t, a)
	grown(t, idle, returned, HeapLive, 0)
	if !near(returned.RSS, idle.RSS, 8*mb) {
		t.Errorf("RSS is %d after everything was returned, it was %d", returned.RSS, idle.RSS)
	}
}

func TestGarbage(t *testing.T) {
	skipRace(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	a := NewAccount()
	settle()
	before := read(t, a)
	for range 512 {
		touch(make([]byte, 64<<10+1)) // too large for a stack
	}
	after := read(t, a)
	grown(t, before, after, HeapGarbage, 512*72<<10) // with the room to the next size class
	grown(t, before, after, HeapLive, 0)
}

func TestUnused(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	before := read(t, a)
	blocks := make([]*[1024]byte, 64<<10) // 64 MB
	for i := range blocks {
		blocks[i] = new([1024]byte)
		blocks[i][0] = 1
	}
	for i := range blocks { // one of eight stays and holds its span
		if i%8 != 0 {
			blocks[i] = nil
		}
	}
	settle()
	after := read(t, a)
	grown(t, before, after, HeapUnused, 56*mb)
	grown(t, before, after, HeapLive, 8*mb)
	grown(t, before, after, OffHeap, 0)
	runtime.KeepAlive(blocks)
}

func TestOffHeap(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	before := read(t, a)
	b, err := unix.Mmap(-1, 0, 48*mb, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	grown(t, before, read(t, a), OffHeap, 0) // mapped is not resident
	touch(b)
	after := read(t, a)
	grown(t, before, after, OffHeap, 48*mb)
	grown(t, before, after, Metadata, 0)
	if err := unix.Munmap(b); err != nil {
		t.Fatal(err)
	}
	grown(t, before, read(t, a), OffHeap, 0)
}

func TestFilesAndShared(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	before := read(t, a)

	f, err := os.Create(filepath.Join(t.TempDir(), "pages"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 * mb); err != nil {
		t.Fatal(err)
	}
	file, err := unix.Mmap(int(f.Fd()), 0, 16*mb, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(file)
	touch(file)
	shared, err := unix.Mmap(-1, 0, 8*mb, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(shared)
	touch(shared)

	after := read(t, a)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.TMPFS_MAGIC { // then the file is shared memory
		grown(t, before, after, Shared, 24*mb)
	} else {
		grown(t, before, after, File, 16*mb)
		grown(t, before, after, Shared, 8*mb)
	}
	grown(t, before, after, OffHeap, 0)
}

func TestGoroutines(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	before := read(t, a)
	const n = 10_000
	started, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	for range n {
		go func() {
			var room [3 << 10]byte // 4 KB of stack
			started <- struct{}{}
			<-end
			runtime.KeepAlive(&room)
			ended <- struct{}{}
		}()
	}
	for range n {
		<-started
	}
	after := read(t, a)
	if got := after.Classes[Stacks] - before.Classes[Stacks]; got < n*2<<10 {
		t.Errorf("stacks grew by %d with %d goroutines", got, n)
	}
	if got := after.Goroutines - before.Goroutines; got != n {
		t.Errorf("%d goroutines more, want %d", got, n)
	}
	// Stacks come in spans of 32 KB and are touched as far as they are used.
	if got := after.Classes[OffHeap] - before.Classes[OffHeap]; !near(got, 0, after.Classes[Stacks]/2) {
		t.Errorf("off-heap changed by %d", got)
	}
	close(end)
	for range n {
		<-ended
	}
}

// TestSlowReader shows that what one peer does not read is in the account.
func TestSlowReader(t *testing.T) {
	a := NewAccount()
	before := read(t, a)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	idle := read(t, a)
	if got := idle.Kernel.Sockets - before.Kernel.Sockets; got != 3 {
		t.Errorf("%d sockets more, want 3", got)
	}
	if got := idle.Files - before.Files; got < 3 {
		t.Errorf("%d files more, want 3 or more", got)
	}
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	err = raw.Write(func(fd uintptr) bool {
		for { // until the peer's window and the buffer are full
			n, err := unix.Write(int(fd), make([]byte, 64<<10))
			if err != nil {
				return true
			}
			sent += n
		}
	})
	if err != nil || sent == 0 {
		t.Fatalf("sent %d: %v", sent, err)
	}
	slow := read(t, a)
	if got := slow.Kernel.SocketBuffers - idle.Kernel.SocketBuffers; got < int64(sent) {
		t.Errorf("socket buffers grew by %d after %d unread bytes", got, sent)
	}
}

// TestCohorts shows that a slow reader is found by its cohort, and that two names
// of one cohort are one.
func TestCohorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := []Cohort{{"none", "none", "none"}, {"2", "1.3", "1.6"}, {"3", "1.3", "2.0.1"}, {"2", "1.3", "1.6"}}
	var of []uint16
	for i, place := range []uint16{2, 3, 4} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		raw, err := server.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Write(func(fd uintptr) bool {
			of = append(of, make([]uint16, max(0, int(fd)+1-len(of)))...)
			of[fd] = place
			for i == 1 { // the one of profile 3 is not read
				if _, err := unix.Write(int(fd), make([]byte, 64<<10)); err != nil {
					break
				}
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	retired := []Retired{{Object: "tls", Cohort: names[2], Closed: 5, Collected: 3, Zombies: 2}}
	a := NewAccount()
	a.SetStations(Stations{
		Connections: func() map[string]int { return map[string]int{"2": 2, "3": 1} },
		Sockets:     func() ([]uint16, []Cohort) { return of, names },
		Census:      func() []Retired { return retired },
	})
	r := read(t, a)
	if len(r.Cohorts) != 2 || r.Cohorts[0].Cohort != names[1] || r.Cohorts[1].Cohort != names[2] {
		t.Fatalf("cohorts %+v, want those of %v", r.Cohorts, names[1:3])
	}
	if tls, mtls := r.Cohorts[0], r.Cohorts[1]; tls.Connections != 2 || mtls.Connections != 1 || tls.SocketBuffers != 0 || mtls.SocketBuffers < 64<<10 {
		t.Errorf("cohorts %+v", r.Cohorts)
	}
	if r.Kernel.SocketBuffers < r.Cohorts[1].SocketBuffers {
		t.Errorf("all sockets hold %d, those of a cohort %d", r.Kernel.SocketBuffers, r.Cohorts[1].SocketBuffers)
	}

	// Another process sees the same.
	s := r.Sample()
	if s.Cohorts[names[1].String()] != 2 || s.CohortBuffers[names[2].String()] != r.Cohorts[1].SocketBuffers || s.Zombies["tls, "+names[2].String()] != 2 {
		t.Errorf("as a sample: %v, %v, %v", s.Cohorts, s.CohortBuffers, s.Zombies)
	}
}

func TestPerConnection(t *testing.T) {
	skipRace(t)
	a := NewAccount()
	settle()
	if r := read(t, a); r.Connections != nil || r.PerConnection != 0 || r.BaseRSS != r.RSS {
		t.Errorf("without connections: %v, %d each, base %d, RSS %d", r.Connections, r.PerConnection, r.BaseRSS, r.RSS)
	}
	connections := map[string]int{}
	a.SetStations(Stations{Connections: func() map[string]int { return connections }})
	base := read(t, a).RSS

	connections = map[string]int{"2": 600, "3": 400}
	// Mapped, for the heap would take pages that are resident already.
	kept, err := unix.Mmap(-1, 0, 10*mb, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(kept)
	touch(kept)
	r := read(t, a)
	if r.BaseRSS != base || !near(r.PerConnection, 10*mb/1000, 1024) {
		t.Errorf("base %d, want %d; %d bytes each, want %d", r.BaseRSS, base, r.PerConnection, 10*mb/1000)
	}
	// What connections left behind is not the base of the next ones.
	connections = map[string]int{}
	read(t, a)
	connections = map[string]int{"3": 1000}
	if r = read(t, a); r.BaseRSS != base {
		t.Errorf("base %d, want %d", r.BaseRSS, base)
	}
	runtime.KeepAlive(kept)
}

func TestReportJSON(t *testing.T) {
	text, err := json.Marshal(read(t, NewAccount()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"rss_bytes":`, `"classes":{"file":`, `"off_heap":`, `"socket_buffer_bytes":`, `"goroutines":`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestApplyLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	c, err := readCgroup()
	if err != nil {
		t.Fatal(err)
	}
	want := int64(math.MaxInt64)
	if c != nil {
		want = LimitFromCgroup(c.Limit, 1000)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	a := NewAccount()
	for range 2 { // the second time it meets its own limit
		if n, err := a.ApplyLimit(1000); err != nil || n != want || debug.SetMemoryLimit(-1) != want {
			t.Errorf("limit %d, %v; want %d", n, err, want)
		}
	}
	debug.SetMemoryLimit(1 << 40) // somebody else's
	if n, err := a.ApplyLimit(1000); err != nil || n != 1<<40 || debug.SetMemoryLimit(-1) != 1<<40 {
		t.Errorf("limit %d, %v; want the one that was set", n, err)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, bb := range []struct {
		name   string
		detail bool
	}{{"metrics", false}, {"full", true}} {
		b.Run(bb.name, func(b *testing.B) {
			a := NewAccount()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.read(bb.detail); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("sockets16384", func(b *testing.B) {
		for b.Loop() {
			readSockets(16384, nil, nil)
		}
	})
	b.Run("cgroup", func(b *testing.B) {
		for b.Loop() {
			if _, err := readCgroup(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("runtime", func(b *testing.B) {
		for b.Loop() {
			readRuntime()
		}
	})
}
