//go:build race

package faults

// mostHandshakes is smaller where our own end, with the race detector in it, is
// what keeps stations from sending their first byte in time.
const mostHandshakes = 500
