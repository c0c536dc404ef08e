package fleet

import (
	"fmt"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestKnownTokens: the local list goes before the cache; what is in neither is
// unknown. Settings say what follows.
func TestKnownTokens(t *testing.T) {
	f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1"}, Stations: []Identity{{ID: "A", Profile: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	f.start = time.Now()
	s := f.stations[0]
	at := func(d time.Duration) string { return f.clock(0).Add(d).Format(time.RFC3339) }
	s.remember(tokenInfo{"CACHED", "Accepted", at(time.Hour)})
	s.remember(tokenInfo{"OLD", "Accepted", at(-time.Hour)})
	s.remember(tokenInfo{"INVALID", "Accepted", ""})
	s.remember(tokenInfo{"INVALID", "Invalid", ""})
	s.remember(tokenInfo{"BOTH", "Accepted", ""})
	s.more().list.update(1, true, map[string]string{"LISTED": "Accepted", "BOTH": "Blocked"})
	set := func(key, value string) {
		if got := s.set(settingByKey(key), value); got != "Accepted" {
			t.Errorf("%s=%s: %s", key, value, got)
		}
	}
	type verdicts struct {
		known        string
		pre, trusted bool
	}
	check := func(when string, want map[string]verdicts) {
		t.Helper()
		for tag, w := range want {
			status, _ := s.known(tag)
			if got := (verdicts{status, s.preAuthorized(tag), s.trusted(tag)}); got != w {
				t.Errorf("%s, %s: %+v, want %+v", when, tag, got, w)
			}
		}
	}
	check("as it is", map[string]verdicts{
		"CACHED": {"Accepted", false, true}, "OLD": {"Expired", false, false}, "INVALID": {"Invalid", false, false},
		"BOTH": {"Blocked", false, false}, "LISTED": {"Accepted", false, true}, "NEW": {"", false, true},
	})
	set("LocalPreAuthorize", "true")
	set("LocalAuthorizeOffline", "false")
	set("AllowOfflineTxForUnknownId", "false")
	check("changed", map[string]verdicts{
		"CACHED": {"Accepted", true, false}, "OLD": {"Expired", false, false}, "LISTED": {"Accepted", true, false}, "BOTH": {"Blocked", false, false}, "NEW": {"", false, false},
	})
	set("LocalAuthListEnabled", "false")
	check("without the list", map[string]verdicts{"LISTED": {"", false, false}, "BOTH": {"Accepted", true, false}})
	if got := s.clearCache(); got != "Accepted" {
		t.Error(got)
	}
	check("cleared", map[string]verdicts{"BOTH": {"", false, false}})
	for i := range maxCache + 1 {
		s.remember(tokenInfo{fmt.Sprint(i), "Accepted", ""})
	}
	check("full", map[string]verdicts{"0": {"", false, false}, "1": {"Accepted", true, false}})
	set("AuthorizationCacheEnabled", "false")
	check("without the cache", map[string]verdicts{"1": {"", false, false}})
	if got := s.clearCache(); got != "Rejected" {
		t.Error(got)
	}
}

// TestPreAuthorized: a station that knows its drivers does not ask any more, until
// its cache is cleared.
func TestPreAuthorized(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, version, 1, nil)
			const cs = "CS-0"
			eventually(t, "transactions", func() bool { return ended(f) > 1 })
			action, payload := "ChangeConfiguration", any(object{"key": "LocalPreAuthorize", "value": "true"})
			if version.Is2x() {
				action, payload = "SetVariables", object{"setVariableData": []object{{"attributeValue": "true",
					"component": object{"name": "AuthCtrlr"}, "variable": object{"name": "LocalPreAuthorize"}}}}
			}
			s.call(cs, action, payload)
			asked := s.saw(cs, "Authorize")
			before := ended(f)
			eventually(t, "more transactions", func() bool { return ended(f) > before+4 })
			if now := s.saw(cs, "Authorize"); now > asked+2 { // one at each connector was on its way
				t.Errorf("asked %d times more", now-asked)
			}
			asked = s.saw(cs, "Authorize")
			if got := s.status(cs, "ClearCache", object{}); got != "Accepted" {
				t.Error(got)
			}
			eventually(t, "asked again", func() bool { return s.saw(cs, "Authorize") > asked })
		})
	}
}
