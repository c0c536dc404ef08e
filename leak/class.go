package leak

import "slices"

// Class is what a Detector tests for growth: a kind of memory in bytes, or a
// count. The list is closed: it is a metric label.
type Class string

const (
	HeapLive      Class = "heap_live"      // Go objects in use at the last collection, bytes
	HeapUnused    Class = "heap_unused"    // free room inside of spans with objects, bytes
	Metadata      Class = "metadata"       // the runtime's own bookkeeping, bytes
	OffHeap       Class = "off_heap"       // anonymous memory that Go does not know, bytes
	SocketBuffers Class = "socket_buffers" // data in the kernel's socket buffers, bytes; not in RSS
	Goroutines    Class = "goroutines"     // their number
	Threads       Class = "threads"        // of the operating system
	Files         Class = "files"          // open descriptors
	// Retained is connections that were closed and that the collector has not
	// freed although it ran since: an exact count, no estimate.
	Retained Class = "retained"
)

// numClasses is the length of a Values.
const numClasses = 9

var classes = [numClasses]Class{HeapLive, HeapUnused, Metadata, OffHeap, SocketBuffers, Goroutines, Threads, Files, Retained}

// Classes lists all classes in the order of Values.
func Classes() []Class { return slices.Clone(classes[:]) }

// Index is the place of a class in Values; -1 if there is no such class.
func (c Class) Index() int { return slices.Index(classes[:], c) }

// Count reports whether the class is a number of things and not of bytes.
func (c Class) Count() bool {
	return c == Goroutines || c == Threads || c == Files || c == Retained
}

// Values has one figure per class, in the order of Classes; NaN is unknown.
type Values [numClasses]float64

// highWater classes are full of what storms and slow peers leave for a while:
// the lower part of a block says more than its middle.
func (c Class) highWater() bool { return c == HeapUnused || c == SocketBuffers }
