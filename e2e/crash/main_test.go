// Package crash kills Holdfast's processes, its NATS and its database in the
// middle of 500 charging stations, and then compares what was acknowledged to
// the stations with the record: each transaction is there exactly once, with all
// its meter values. The stations are package fleet's; every role is a process of
// its own.
package crash

import (
	"os"
	"testing"

	"holdfast/e2e"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Clean()
	os.Exit(code)
}
