//go:build !race

package faults

// mostHandshakes is how many handshakes TestFault06HandshakeStorm begins at once.
const mostHandshakes = 3000
