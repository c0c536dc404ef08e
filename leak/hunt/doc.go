// Package hunt finds out by experiment what leaks in a server: it lets kinds of
// events happen in alternating blocks, reads the process once it has settled
// after each, and attributes what stays to events, with confidence intervals.
//
// It provokes nothing itself: whoever uses it hands it the activities, and a
// memory.Source to read the process with. It starts no goroutine; everything
// happens in the caller of Run.
package hunt
