package faults

import (
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// TestSlowReturn: a station that stays away for minutes when its connection ends
// without a close frame is back at once after a restart of the server in order,
// because it gets one; after a crash it is not.
func TestSlowReturn(t *testing.T) {
	n := all(t)
	if status := n.Do("PUT", "/api/v1/id-tokens/FLEET", map[string]any{"status": "Accepted"}, nil); status >= 300 {
		t.Fatalf("ID token: HTTP %d", status)
	}
	q := &quirky{T: t, n: n, id: "S", profile: ocpp.ProfileMTLS, version: ocpp.V201, fault: fleet.SlowReturn}
	q.start()
	q.run()
	q.await("the station", q.here)
	n.Terminate()
	if code := n.Wait(patience); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	n.Restart()
	n.AwaitReady()
	q.await("the station after a restart", q.here)
	n.Kill()
	q.await("the loss", func() bool { return !q.here() })
	n.Restart()
	n.AwaitReady()
	<-time.After(time.Second)
	if q.here() {
		t.Error("the station came back at once after a crash: it does not do what its name says")
	}
}
