package e2e

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	code := m.Run()
	Clean()
	os.Exit(code)
}

// TestAll starts the binary, asks for health, and ends it in order.
func TestAll(t *testing.T) {
	n := All(t)
	var stations struct {
		Items []any `json:"items"`
	}
	if status := n.Do("GET", "/api/v1/stations", nil, &stations); status != 200 {
		t.Errorf("list stations: %d", status)
	}
	n.Terminate()
	if code := n.Wait(20 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
