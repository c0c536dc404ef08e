// Package access_test is access: of stations, with each reason for which one is
// refused, and of people and machines to Holdfast itself, with
// whole processes and an independent OpenID Connect provider (npm oidc-provider).
package access_test

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
