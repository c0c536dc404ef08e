package memory

import (
	"runtime"
	"strings"
	"testing"
)

const mappingsSample = `00400000-00402000 r-xp 00000000 fe:00 1  /opt/program
Pss:                   8 kB
Anonymous:             4 kB
00402000-00404000 rw-p 00000000 00:00 0
Pss:                   4 kB
Anonymous:             4 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Pss:                1024 kB
Anonymous:          1000 kB
AnonHugePages:         2 kB
LazyFree:             16 kB
VmFlags: rd wr mr mw me ac sd
c000400000-c004000000 ---p 00000000 00:00 0
Pss:                   0 kB
Anonymous:             0 kB
7ffe00000000-7ffe00001000 rw-p 00000000 00:00 0  [stack]
Pss:                   4 kB
Anonymous:             4 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]
Pss:                   0 kB
`

func TestParseMappings(t *testing.T) {
	sums := rollup{hugePages: 2 << 10, lazyFree: 16 << 10, pss: 1040 << 10}
	for _, tt := range []struct {
		name             string
		address          uint64
		around, reserved int64
	}{
		{"the heap, with what is reserved behind it", 0xc000000040, 1000 << 10, 64 << 20},
		{"in what is reserved", 0xc003ffffff, 1000 << 10, 64 << 20},
		{"beside a mapping with a name", 0x402010, 4 << 10, 8 << 10},
		{"in a mapping with a name", 0x400010, 0, 0},
		{"nowhere", 0x10, 0, 0},
	} {
		got, err := parseMappings(strings.NewReader(mappingsSample), tt.address)
		if want := (mappings{sums, tt.around, tt.reserved}); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, want)
		}
	}
	for _, bad := range []string{"", "nonsense\n", "1-2 rw-p\n", "2000-1000 rw-p 0 00:00 0\nPss: 1 kB\n", "zz-1000 rw-p 0 00:00 0\n",
		"1000-2000 rw-p 0 00:00 0\nPss: x kB\n", "1000-2000 rw-p 0 00:00 0 /" + strings.Repeat("x", 2*maxMappingLine)} {
		if m, err := parseMappings(strings.NewReader(bad), 0x1000); err == nil {
			t.Errorf("%.40q: %+v", bad, m)
		}
	}
}

func FuzzParseMappings(f *testing.F) {
	f.Add(mappingsSample, uint64(0xc000000040))
	f.Fuzz(func(t *testing.T, text string, address uint64) {
		m, err := parseMappings(strings.NewReader(text), address)
		if err != nil && m != (mappings{}) {
			t.Errorf("%+v with an error", m)
		}
	})
}

// TestUntouched makes a large buffer and writes to it later: what lowers off_heap
// meanwhile is told.
func TestUntouched(t *testing.T) {
	skipRace(t)
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	const size = 32 << 20
	a := NewAccount()
	read := func() Report {
		r, err := a.Read()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var before, made Report
	var buffer []byte
	var reused [][]byte // memory that the heap had before, and clears: it is not untouched
	for range 8 {
		before = read()
		buffer = make([]byte, size)
		made = read()
		if made.Untouched-before.Untouched > size/2 {
			break
		}
		reused = append(reused, buffer)
	}
	if got := made.Untouched - before.Untouched; !near(got, size, 2<<20) {
		t.Errorf("a buffer of %d bytes: %d are untouched", size, got)
	}
	if got := made.Classes[OffHeap] - before.Classes[OffHeap]; !near(got, -size, 2<<20) {
		t.Errorf("off_heap changed by %d, want %d", got, -size)
	}
	for i := range buffer {
		buffer[i] = 1
	}
	after := read()
	if got := after.Untouched - before.Untouched; !near(got, 0, 2<<20) {
		t.Errorf("written to: %d bytes more are untouched", got)
	}
	for _, r := range []Report{made, after} {
		if got := r.Classes[OffHeap] + r.Untouched - before.Classes[OffHeap] - before.Untouched; !near(got, 0, 2<<20) {
			t.Errorf("off_heap without what is untouched changed by %d", got)
		}
	}
	runtime.KeepAlive(buffer)
	runtime.KeepAlive(reused)
}
