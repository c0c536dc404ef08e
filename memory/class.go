package memory

// Class is one kind of memory. The list is closed: it is the label of
// holdfast_memory_bytes.
type Class string

// Classes of this process, which add up to its resident set. A foreign process
// is divided into the same ones as far as its source tells them apart.
const (
	// HeapLive is what the last garbage collection found in use. It has no
	// sawtooth: a leak of Go objects shows here first. Zero until the first
	// collection.
	HeapLive Class = "heap_live"
	// HeapGarbage is what was allocated since then or has not been swept yet:
	// garbage at the next collection, unless still in use.
	HeapGarbage Class = "heap_garbage"
	// HeapUnused is the free room inside of spans that hold objects:
	// fragmentation. Of V8: what it has reserved for its heap and does not use.
	HeapUnused Class = "heap_unused"
	// HeapFree is empty spans that Go keeps and has not returned to the kernel:
	// reusable, and returned in time.
	HeapFree Class = "heap_free"
	// Stacks is the stacks of goroutines and of the threads that Go started.
	Stacks Class = "stacks"
	// Metadata is the runtime's own bookkeeping: spans, caches, page tables of
	// the heap, network poller, profiles.
	Metadata Class = "metadata"
	// File is resident pages of mapped files: the binary itself first of all.
	File Class = "file"
	// Shared is resident shared anonymous memory (shmem, tmpfs maps).
	Shared Class = "shared"
	// OffHeap is the anonymous memory that Go does not know (mmap, C libraries,
	// the binary's data segment) less the memory that Go counts but never
	// touched, which the kernel did not have to supply. So this class is signed: a
	// large make that nobody wrote to lowers it by its size. Report.Untouched is
	// that part of the heap; without it a young process still shows a MB or two
	// below zero, the untouched part of Metadata. Its changes are what to watch.
	//
	// Of Node.js it is what V8 does not know: C++ libraries, OpenSSL, what
	// malloc keeps. Where a source knows only the resident set as a whole (a
	// metrics endpoint), File and Shared are absent and their pages in OffHeap.
	OffHeap Class = "off_heap"
)

// Further classes of foreign processes.
const (
	// HeapUsed is objects in use and garbage that was not collected yet, of
	// sources that cannot tell them apart: V8, and Go without its runtime
	// metrics. It has a sawtooth; see Source and CollectGarbage.
	HeapUsed Class = "heap_used"
	// External is memory of C++ objects that JavaScript objects hold, array
	// buffers and Node.js Buffers included, as V8 counts it.
	External Class = "external"
	// Anonymous is all anonymous memory of a process whose runtime nobody asks.
	Anonymous Class = "anonymous"
)

// Classes of the kernel's memory for a process: outside of its resident set,
// inside of the working set.
const (
	// SocketBuffers is what the buffers of its sockets hold: 0 while all are
	// idle, megabytes for one peer that does not read.
	SocketBuffers Class = "socket_buffers"
	// Sockets is 3,900 bytes for each socket, the kernel's objects for an idle
	// TCP connection. It is an estimate.
	Sockets Class = "sockets"
	// PageTables is the tables that map the process's memory.
	PageTables Class = "page_tables"
)

// Classes lists all classes of this process in the order in which people read
// them. On other systems than Linux File, Shared and OffHeap are unknown and
// not reported.
func Classes() []Class {
	return []Class{HeapLive, HeapGarbage, HeapUnused, HeapFree, Stacks, Metadata, OffHeap, File, Shared}
}

// SampleClasses lists the classes that a Sample may have, those of foreign
// processes included, in the order in which people read them.
func SampleClasses() []Class {
	return []Class{HeapLive, HeapGarbage, HeapUsed, HeapUnused, HeapFree, Stacks, Metadata, External, OffHeap, Anonymous, File, Shared}
}

// KernelClasses lists the classes of the kernel's memory.
func KernelClasses() []Class { return []Class{SocketBuffers, Sockets, PageTables} }
