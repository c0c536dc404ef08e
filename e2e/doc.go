// Package e2e starts whole Holdfast processes for tests: the binary as it is
// shipped, real ports, real NATS, real databases. It holds the harness; the
// tests are in its folders.
package e2e
