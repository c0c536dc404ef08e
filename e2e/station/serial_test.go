package station_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/e2e"
)

// TestBootSerial: a station with a registered serial number whose
// BootNotification names another one than its certificate is disconnected, and
// its attempts say why (OCPP 2.0.1 B01.FR.11, B01.FR.12); one without a registered
// serial number may have any.
func TestBootSerial(t *testing.T) {
	needNPM(t)
	n := e2e.All(t)
	boot := m{"reason": "PowerUp", "chargingStation": m{"model": "One", "vendorName": "ACME", "serialNumber": "SN-7"}}
	open := func(id string, args ...string) *rpcStation {
		dir := t.TempDir()
		cli(t, n, append([]string{"station", "add", id, "--profile", "3", "--out", dir}, args...)...)
		read := func(name string) string {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		return connect(t, setup{Endpoint: n.MTLS, Identity: id, Protocol: "ocpp2.0.1", Strict: true, CA: read("ca.crt"), Cert: read(id + ".crt"), Key: read(id + ".key")})
	}
	for id, args := range map[string][]string{"ANY": nil, "RIGHT": {"--serial", "ACME SN-7"}} {
		var answer struct{ Status string }
		open(id, args...).call("BootNotification", boot, &answer)
		if answer.Status != "Accepted" {
			t.Errorf("%s: %+v", id, answer)
		}
	}

	wrong := open("WRONG", "--serial", "ACME SN-8")
	wrong.write(map[string]any{"id": 1, "action": "BootNotification", "params": boot}) // answered with a CALLERROR, if there is still time
	wrong.until("the station is disconnected", func() bool { return wrong.closed != 0 })
	if wrong.closed != 1008 {
		t.Errorf("close code %d, want 1008", wrong.closed)
	}
	e2e.Await(t, "the reason among its attempts", 20*time.Second, func() bool {
		var attempts struct {
			Items []struct{ Reason, Detail string }
		}
		n.Do("GET", "/api/v1/stations/WRONG/attempts", nil, &attempts)
		return slices.Contains(attempts.Items, struct{ Reason, Detail string }{"wrong_serial", `BootNotification says serial number "SN-7", the certificate is of "ACME SN-8"`})
	})
	var s struct {
		State struct {
			DisconnectReason string `json:"disconnect_reason"`
			Model            string
		}
	}
	e2e.Await(t, "the station's record", 20*time.Second, func() bool {
		n.Do("GET", "/api/v1/stations/WRONG", nil, &s)
		return s.State.DisconnectReason == "wrong_serial"
	})
	if s.State.Model != "" {
		t.Errorf("it was booted: %+v", s.State)
	}
	if got := n.Metric("holdfast_csms_wrong_serials_total"); got != 1 {
		t.Errorf("%v wrong serial numbers counted", got)
	}
}
