// Package leak lets faults leak in real processes of the benchmark's build, with
// days in seconds, and looks at what an operator sees.
package leak

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
