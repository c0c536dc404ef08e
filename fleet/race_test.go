//go:build race

package fleet

// raceDetector: memory figures mean nothing.
const raceDetector = true
