//go:build race

package memory

// raceEnabled: the race detector keeps several bytes of its own, off-heap, for
// every byte of the program.
const raceEnabled = true
