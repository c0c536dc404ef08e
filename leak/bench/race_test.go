//go:build race

package bench

// raceEnabled: the race detector makes arithmetic ten times slower.
const raceEnabled = true
