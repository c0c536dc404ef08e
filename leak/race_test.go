//go:build race

package leak

// raceEnabled: the race detector makes arithmetic ten times slower.
const raceEnabled = true
