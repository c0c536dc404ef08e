package hunt

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"holdfast/memory"
)

// Quantity is something that an experiment reads: a class of memory in bytes, or
// a count.
type Quantity string

// Resident and Kept are of the process as a whole. Kept is all that a process
// cannot give back by itself: its classes without garbage, without free memory
// that its runtime keeps, and without unused room in its heap.
const (
	Resident Quantity = "rss"
	Kept     Quantity = "kept"
)

// tested are the quantities in which there can be a leak, the telling ones
// first. Garbage and free memory are no leak, the resident set is their sum.
var tested = []Quantity{
	Quantity(memory.HeapLive), Quantity(memory.HeapUsed), Quantity(memory.External), Quantity(memory.OffHeap), Quantity(memory.Anonymous),
	Quantity(memory.Stacks), Quantity(memory.HeapUnused), Quantity(memory.Metadata), Quantity(memory.File), Quantity(memory.Shared),
	Quantity(memory.SocketBuffers), countOf(memory.Goroutines), countOf(memory.Files), countOf(memory.SocketFiles), countOf(memory.Threads), countOf(memory.Handles),
}

// countOf keeps the name of a count apart from the class of the same name.
func countOf(c memory.Count) Quantity { return Quantity("count:" + c) }

// IsCount reports whether the quantity is a number of things rather than bytes.
func (q Quantity) IsCount() bool { return strings.HasPrefix(string(q), "count:") }

// Name is the quantity without what keeps counts apart: "off_heap", "goroutines".
func (q Quantity) Name() string { return strings.TrimPrefix(string(q), "count:") }

// Names are the quantities in which there can be a leak.
func Names() []string {
	var names []string
	for _, q := range tested {
		names = append(names, q.Name())
	}
	return names
}

// Known reports whether there can be a leak in a quantity of that name.
func Known(name Quantity) bool { return slices.Contains(Names(), string(name)) }

// inWords are the names of quantities in sentences.
var inWords = map[Quantity]string{
	Resident: "resident", Kept: "kept",
	Quantity(memory.HeapLive): "live heap", Quantity(memory.HeapUsed): "heap", Quantity(memory.External): "external",
	Quantity(memory.OffHeap): "off-heap", Quantity(memory.Anonymous): "anonymous memory", Quantity(memory.Stacks): "stacks",
	Quantity(memory.HeapUnused): "unused room in the heap", Quantity(memory.Metadata): "runtime metadata", Quantity(memory.File): "mapped files",
	Quantity(memory.Shared): "shared memory", Quantity(memory.SocketBuffers): "socket buffers in the kernel", Quantity(memory.HeapGarbage): "garbage",
	Quantity(memory.HeapFree): "free heap", countOf(memory.Goroutines): "goroutine", countOf(memory.Files): "open file",
	countOf(memory.SocketFiles): "socket", countOf(memory.Threads): "thread", countOf(memory.Handles): "libuv handle",
}

// Words is the quantity's name in a sentence.
func (q Quantity) Words() string { return cmp.Or(inWords[q], strings.TrimPrefix(string(q), "count:")) }

// readings are a sample's quantities.
func readings(s memory.Sample) map[Quantity]float64 {
	all := map[Quantity]float64{Resident: float64(s.RSS)}
	kept := 0.0
	for class, n := range s.Classes {
		all[Quantity(class)] = float64(n)
		switch class {
		case memory.HeapGarbage, memory.HeapFree, memory.HeapUnused:
		default:
			kept += float64(n)
		}
	}
	if n, ok := s.Kernel[memory.SocketBuffers]; ok {
		all[Quantity(memory.SocketBuffers)] = float64(n)
	}
	for count, n := range s.Counts {
		all[countOf(count)] = float64(n)
	}
	if len(s.Classes) == 0 {
		kept = float64(s.RSS)
	}
	all[Kept] = kept
	return all
}

// growth is what each quantity that both samples know has gained.
func growth(before, after memory.Sample) map[Quantity]float64 {
	was, is := readings(before), readings(after)
	gained := make(map[Quantity]float64, len(is))
	for q, n := range is {
		if old, ok := was[q]; ok {
			gained[q] = n - old
		}
	}
	return gained
}

// Bytes writes a size with two significant digits or more: "20 B", "3.4 KB".
// A KB is 1,024 bytes.
func Bytes(n float64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	switch {
	case math.IsInf(n, 0) || math.IsNaN(n):
		return "unknown"
	case n < 999.5:
		return fmt.Sprintf("%s%.0f B", sign, n)
	case n < 99.95*1024:
		return fmt.Sprintf("%s%.1f KB", sign, n/1024)
	case n < 999.5*1024:
		return fmt.Sprintf("%s%.0f KB", sign, n/1024)
	case n < 1024*1024*1024:
		return fmt.Sprintf("%s%.1f MB", sign, n/1024/1024)
	}
	return fmt.Sprintf("%s%.2f GB", sign, n/1024/1024/1024)
}

// byteRange is "3.1–3.7" where both have the unit of value, else each with its
// own.
func byteRange(value, low, high float64) string {
	_, unit, _ := strings.Cut(Bytes(value), " ")
	a, b := Bytes(max(0, low)), Bytes(high)
	if a == "0 B" {
		a = "0 " + unit
	}
	return strings.TrimSuffix(strings.TrimSuffix(a, " "+unit)+"–"+strings.TrimSuffix(b, " "+unit), " ")
}
