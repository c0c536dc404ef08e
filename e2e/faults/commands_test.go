package faults

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

var versions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}

// commanded is a station without drivers that does what the operator asks.
type commanded struct {
	quirky
	mu   sync.Mutex
	sent map[string]int // CALLs of the station that were answered, by action
}

// eachVersion runs a test with a station of each version, whose time runs ten
// times as fast.
func eachVersion(t *testing.T, test func(c *commanded)) {
	n := all(t)
	if status := n.Do("PUT", "/api/v1/id-tokens/FLEET", map[string]any{"status": "Accepted"}, nil); status >= 300 {
		t.Fatalf("ID token: HTTP %d", status)
	}
	for i, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			c := &commanded{quirky: quirky{T: t, n: n, id: fmt.Sprintf("C-%d", i), profile: ocpp.ProfileMTLS, version: version}, sent: make(map[string]int)}
			c.adjust = func(cfg *fleet.Config) {
				cfg.Behaviour = fleet.Behaviour{SessionGap: -1, SessionLength: time.Hour, MeterInterval: time.Second, UnplugDelay: time.Second,
					TimeFactor: 10, RebootTime: 50 * time.Millisecond, RenewBefore: -1, Curve: []float64{11_000, 11_000}}
				cfg.OnCall = func(r fleet.CallRecord) {
					c.mu.Lock()
					defer c.mu.Unlock()
					if r.Outcome == fleet.Answered {
						c.sent[r.Action]++
					}
				}
			}
			c.start()
			c.run()
			c.await("statuses", func() bool { return c.count("StatusNotification") > 0 && c.fleet.Stats().Outstanding == 0 })
			test(c)
		})
	}
	checked(t, n)
}

// count is how many CALLs of an action the server answered.
func (c *commanded) count(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[action]
}

// want sends a CALL and wants a status in its answer; empty: any answer.
func (c *commanded) want(status, action string, payload map[string]any) answer {
	c.Helper()
	got := c.send(action, payload)
	if got.Result != "accepted" || status != "" && got.Answer["status"] != status {
		c.Errorf("%s %v: %.500s; want %s", action, payload, got.text, status)
	}
	return got
}

// path is that of something of the station in the API.
func (c *commanded) path(rest string) string {
	return "/api/v1/stations/" + url.PathEscape(c.id) + rest
}

// state is what the server knows of the station.
func (c *commanded) state() (s struct {
	Firmware   string
	BootReason string `json:"boot_reason"`
}) {
	var view struct{ State any }
	view.State = &s
	c.n.Do("GET", c.path(""), nil, &view)
	return s
}

// begin lets the operator start a transaction, with a charging profile if it is
// not nil, and returns its id.
func (c *commanded) begin(profile map[string]any) string {
	c.Helper()
	action, payload := "RequestStartTransaction", map[string]any{"idToken": map[string]any{"idToken": "FLEET", "type": "Central"}, "remoteStartId": 7, "evseId": 1}
	if c.version == ocpp.V16 {
		action, payload = "RemoteStartTransaction", map[string]any{"idTag": "FLEET", "connectorId": 1}
	}
	if profile != nil {
		payload["chargingProfile"] = profile
	}
	c.want("Accepted", action, payload)
	id := ""
	c.await("the transaction", func() bool {
		for _, item := range c.items(c.path("/transactions")) {
			if ended, _ := item["ended_at"].(string); ended == "" {
				id, _ = item["transaction_id"].(string)
			}
		}
		return id != ""
	})
	return id
}

// end lets the operator stop a transaction.
func (c *commanded) end(id string) {
	c.Helper()
	action, payload := "RequestStopTransaction", map[string]any{"transactionId": id}
	if c.version == ocpp.V16 {
		var number int
		fmt.Sscan(id, &number)
		action, payload = "RemoteStopTransaction", map[string]any{"transactionId": number}
	}
	c.want("Accepted", action, payload)
}

// profile is a charging profile of one period.
func (c *commanded) profile(id int, purpose string, watts float64) map[string]any {
	schedule := map[string]any{"chargingRateUnit": "W", "chargingSchedulePeriod": []any{map[string]any{"startPeriod": 0, "limit": watts}}}
	p := map[string]any{"stackLevel": 1, "chargingProfilePurpose": purpose, "chargingProfileKind": "Relative"}
	if c.version == ocpp.V16 {
		p["chargingProfileId"], p["chargingSchedule"] = id, schedule
	} else {
		schedule["id"] = 1
		p["id"], p["chargingSchedule"] = id, []any{schedule}
	}
	return p
}

// TestStartWithProfile: a transaction that the operator starts with a charging
// profile draws no more than that, from its first meter value to its last.
func TestStartWithProfile(t *testing.T) {
	eachVersion(t, func(c *commanded) {
		id := c.begin(c.profile(5, "TxProfile", 4000))
		c.await("meter values", func() bool { return c.count("MeterValues") > 2 || c.count("TransactionEvent") > 4 })
		c.end(id)
		c.await("the end", func() bool { return c.fleet.Stats().Transactions == 0 && c.fleet.Stats().Queued == 0 })
		var powers []any
		for _, tx := range c.items(c.path("/transactions")) {
			for _, v := range c.items("/api/v1/transactions/" + fmt.Sprint(tx["id"]) + "/meter-values") {
				for _, s := range v["samples"].([]any) {
					if sample := s.(map[string]any); sample["measurand"] == "Power.Active.Import" {
						powers = append(powers, sample["value"])
					}
				}
			}
		}
		if len(powers) < 2 {
			c.Errorf("%d powers recorded", len(powers))
		}
		for _, p := range powers {
			if text := fmt.Sprint(p); text != "4000" {
				c.Errorf("a car that may draw 4000 W draws %s W", text)
			}
		}
	})
}

// TestResetWhenIdle: a reset that has to wait for a transaction comes after it,
// and the boot says so; a soft reset of 1.6 ends the transaction.
func TestResetWhenIdle(t *testing.T) {
	eachVersion(t, func(c *commanded) {
		id := c.begin(nil)
		if c.version == ocpp.V16 {
			c.want("Accepted", "Reset", map[string]any{"type": "Soft"})
			c.await("the boot", func() bool { return c.count("BootNotification") == 2 })
			for _, tx := range c.items(c.path("/transactions")) {
				if tx["stopped_reason"] != "SoftReset" {
					c.Errorf("the transaction ended with the reason %v", tx["stopped_reason"])
				}
			}
			return
		}
		c.want("Scheduled", "Reset", map[string]any{"type": "OnIdle"})
		before := c.count("TransactionEvent")
		c.await("meter values while the reset waits", func() bool { return c.count("TransactionEvent") > before+2 })
		if c.count("BootNotification") != 1 || c.fleet.Stats().Connects != 1 {
			c.Error("the station did not wait for the end of the transaction")
		}
		c.end(id)
		c.await("the boot after the transaction", func() bool { return c.count("BootNotification") == 2 })
		if got := c.state().BootReason; got != "ScheduledReset" {
			c.Errorf("the boot's reason is %s", got)
		}
	})
}

// TestTriggerDuringUpdate: in the middle of a signed firmware update the operator
// asks how far it is, and gets that state with the request's id.
func TestTriggerDuringUpdate(t *testing.T) {
	eachVersion(t, func(c *commanded) {
		signer, err := os.ReadFile(filepath.Join(c.n.Data, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		update, notification, trigger := "UpdateFirmware", "FirmwareStatusNotification", "TriggerMessage"
		if c.version == ocpp.V16 {
			update, notification, trigger = "SignedUpdateFirmware", "SignedFirmwareStatusNotification", "ExtendedTriggerMessage"
		}
		c.want("Accepted", update, map[string]any{"requestId": 77, "firmware": map[string]any{"location": "https://firmware.example/v2.bin",
			"retrieveDateTime": "2020-01-01T00:00:00Z", "signingCertificate": string(signer), "signature": "c2lnbmF0dXJl"}})
		progress := func() (status string, request any) {
			for _, p := range c.items(c.path("/progress")) {
				if p["kind"] == "firmware" {
					return fmt.Sprint(p["status"]), p["request_id"]
				}
			}
			return "", nil
		}
		c.await("the download", func() bool { status, _ := progress(); return status == "Downloading" })
		c.want("Accepted", trigger, map[string]any{"requestedMessage": "FirmwareStatusNotification"})
		c.await("the update", func() bool { status, _ := progress(); return status == "Installed" })
		if _, request := progress(); request != 77.0 {
			c.Errorf("the request's id is %v", request)
		}
		// Downloading, Downloaded, SignatureVerified, Installing, InstallRebooting, Installed, and the triggered one.
		if got := c.count(notification); got != 7 {
			c.Errorf("%d %s, want 7", got, notification)
		}
		if got := c.state(); got.Firmware != "1.1" || c.version.Is2x() && got.BootReason != "FirmwareUpdate" {
			c.Errorf("after the update: %+v", got)
		}
	})
}
