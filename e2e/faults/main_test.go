// Package faults provokes in a real Holdfast process what other servers were
// seen to fail on, one test for each fault, and shows what happens instead. It
// also holds the churn run, the errors of starting, and samples of the protocol.
// Its stations speak over sockets of their own and share no code with the server.
//
// HOLDFAST_CHURN=10000 makes TestChurn open so many connections per security
// profile; the default keeps the tests short.
package faults

import (
	"os"
	"testing"

	"holdfast/e2e"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Clean()
	os.RemoveAll(template.dir)
	os.Exit(code)
}
