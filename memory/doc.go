// Package memory accounts for the memory of a process: where the bytes are that
// the kernel counts as its resident set, what it costs the kernel beside that,
// and what its cgroup, and so Kubernetes, sees. Account is of this process, a
// Source of another one, of any language: by pid, Prometheus endpoint, Go
// pprof, Node.js inspector or the admin port of Holdfast.
//
// It reads and divides; it judges nothing. It knows of connections only their
// number. It starts no goroutine: every figure is read by the caller of Read or
// by the scrape that asks for the metrics.
//
// The classes of a Report add up to the resident set exactly, because one of
// them, OffHeap, is the remainder: it is signed and explained there. The same
// holds for a Sample whose source knows the resident set. On other systems than
// Linux only the classes of the Go runtime are known, and they add up to what
// Go holds mapped.
package memory
