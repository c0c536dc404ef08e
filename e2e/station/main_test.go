// Package station_test drives Holdfast with an independent station: the npm
// package ocpp-rpc, whose strict mode checks every message of ours against its
// own schemas.
package station_test

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
