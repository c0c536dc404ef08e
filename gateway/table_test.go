package gateway

import (
	"runtime"
	"strconv"
	"testing"
)

// TestTableGivesBack: what stations took in a table goes when they go.
func TestTableGivesBack(t *testing.T) {
	const stations = 50_000
	names := make([]string, stations)
	for i := range names {
		names[i] = "cs-" + strconv.Itoa(i)
	}
	var c table[string, int]
	used := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := used()
	for i, name := range names {
		c.set(name, i)
	}
	full := used() - before
	for i, name := range names {
		if i%1000 != 0 {
			c.delete(name)
		}
	}
	left := used() - before
	if full < stations*24 || left > full/20 {
		t.Errorf("%d bytes with %d stations, %d with 50", full, stations, left)
	}
	for i, name := range names {
		if _, here := c.m[name]; here != (i%1000 == 0) || here && c.get(name) != i {
			t.Fatalf("%s: here %t, %d", name, here, c.get(name))
		}
	}
	runtime.KeepAlive(names)
	for _, name := range names {
		c.delete(name)
	}
	c.set("again", 1)
	if len(c.m) != 1 || c.get("again") != 1 {
		t.Errorf("%v after all were deleted", c.m)
	}
}
