package memory

// Class is one kind of resident memory. The list is closed: it is the label of
// holdfast_memory_bytes.
type Class string

const (
	// HeapLive is what the last garbage collection found in use. It has no
	// sawtooth: a leak of Go objects shows here first. Zero until the first
	// collection.
	HeapLive Class = "heap_live"
	// HeapGarbage is what was allocated since then or has not been swept yet:
	// garbage at the next collection, unless still in use.
	HeapGarbage Class = "heap_garbage"
	// HeapUnused is the free room inside of spans that hold objects:
	// fragmentation.
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
	// touched, which the kernel did not have to supply. The two cannot be told
	// apart from outside, so this class is signed: a young process shows some
	// MB below zero, the untouched part of Metadata, and a large make that
	// nobody wrote to lowers it by its size. Its changes are what to watch.
	OffHeap Class = "off_heap"
)

// Classes lists all classes in the order in which people read them. On other
// systems than Linux File, Shared and OffHeap are unknown and not reported.
func Classes() []Class {
	return []Class{HeapLive, HeapGarbage, HeapUnused, HeapFree, Stacks, Metadata, OffHeap, File, Shared}
}
