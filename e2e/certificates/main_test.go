// Package certificates_test is the life of certificates with whole processes:
// revocation over several gateways, CA keys in a PKCS#11 token, issuing CAs that
// are elsewhere.
package certificates_test

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
