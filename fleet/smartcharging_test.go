package fleet

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestChargingLimits: what cars draw is what the charging profiles allow, whichever
// version they come in.
func TestChargingLimits(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		t.Run(string(version), func(t *testing.T) {
			f, err := New(Config{Targets: map[ocpp.SecurityProfile]string{1: "ws://127.0.0.1"},
				Stations:  []Identity{{ID: "A", Profile: 1, Version: version, Connectors: 2}},
				Behaviour: Behaviour{Curve: []float64{11_000, 11_000}, SessionLength: 10 * time.Hour}})
			if err != nil {
				t.Fatal(err)
			}
			f.start = time.Now()
			s := f.stations[0]
			station := "ChargePointMaxProfile"
			if version.Is2x() {
				station = "ChargingStationMaxProfile"
			}
			set := func(want string, connector, id, level int, purpose, more, unit, periods string) {
				t.Helper()
				profile := fmt.Sprintf(`{"chargingProfileId":%d,"id":%[1]d,"stackLevel":%d,"chargingProfilePurpose":%q,%s,"chargingSchedule":`, id, level, purpose, more)
				schedule := fmt.Sprintf(`{"chargingRateUnit":%q,"chargingSchedulePeriod":%s}`, unit, periods)
				payload := fmt.Sprintf(`{"connectorId":%d,"csChargingProfiles":%s%s}}`, connector, profile, schedule)
				if version.Is2x() {
					payload = fmt.Sprintf(`{"evseId":%d,"chargingProfile":%s[%s]}}`, connector, profile, schedule)
				}
				answer, bad := s.speaks.commands["SetChargingProfile"](s, json.RawMessage(payload))
				if bad != nil || statusOf(answer) != want {
					t.Errorf("%s: %v %v, want %s", payload, answer, bad, want)
				}
			}
			draws := func(connector int, after time.Duration, want float64) {
				t.Helper()
				c := &s.connectors[connector-1]
				if got := s.power(connector-1, c.tx.began+after); math.Abs(got-want) > 1 {
					t.Errorf("connector %d draws %g W after %s, want %g", connector, got, after, want)
				}
			}
			const relative, flat = `"chargingProfileKind":"Relative"`, `[{"startPeriod":0,"limit":%d}]`
			watts := func(w int) string { return fmt.Sprintf(flat, w) }
			set("Rejected", 1, 1, 0, "TxProfile", relative, "W", watts(5000)) // there is no transaction
			if version.Is2x() {
				set("Rejected", 1, 1, 0, "TxProfile", relative+`,"transactionId":"none"`, "W", watts(5000))
			} else {
				set("Rejected", 1, 1, 0, "TxProfile", relative+`,"transactionId":41`, "W", watts(5000))
			}
			s.begin(0, start{tag: "TAG"})
			s.begin(1, start{tag: "TAG"})
			tx := `,"transactionId":42`
			if version.Is2x() {
				tx = fmt.Sprintf(`,"transactionId":%q`, s.connectors[0].tx.id)
				set("Rejected", 1, 4, 0, "TxProfile", relative, "W", watts(4000)) // which one?
			} else {
				s.connectors[0].tx.id = "42" // as the server answers
				set("Accepted", 1, 4, 0, "TxProfile", relative, "W", watts(9000))
				draws(1, 0, 9000)
				s.clearProfiles(func(chargingProfile) bool { return true })
			}
			set("Rejected", 2, 4, 0, "TxProfile", relative+tx, "W", watts(4000)) // runs at the other connector
			set("Rejected", 0, 4, 0, "TxProfile", relative+tx, "W", watts(4000))
			set("Rejected", 1, 4, 9, "TxDefaultProfile", relative, "W", watts(4000)) // ChargeProfileMaxStackLevel is 8
			draws(1, 0, 11_000)

			set("Accepted", 0, 2, 0, "TxDefaultProfile", relative, "A", `[{"startPeriod":0,"limit":10,"numberPhases":1},{"startPeriod":60,"limit":6}]`)
			draws(1, 0, 2300)
			draws(2, 59*time.Second, 2300)
			draws(2, time.Minute, 6*230*3)
			if got := s.connectors[0].power; got != 2300 {
				t.Errorf("draws %g W at once", got)
			}
			set("Accepted", 2, 3, 0, "TxDefaultProfile", relative, "W", watts(3000)) // instead of the one for all
			draws(1, 0, 2300)
			draws(2, 0, 3000)
			set("Accepted", 1, 4, 0, "TxProfile", relative+tx, "W", watts(4000)) // instead of the default
			draws(1, 0, 4000)
			set("Accepted", 1, 5, 3, "TxProfile", relative+tx, "W", watts(5000)) // a higher level
			draws(1, 0, 5000)
			until := fmt.Sprintf(`"chargingProfileKind":"Absolute","validTo":%q`, f.clock(f.elapsed()).Add(time.Hour).Format(time.RFC3339))
			set("Accepted", 1, 6, 4, "TxProfile", until+tx, "W", watts(6000)) // a higher one, for an hour
			draws(1, time.Second, 6000)
			draws(1, 2*time.Hour, 5000)
			set("Accepted", 0, 7, 0, station, `"chargingProfileKind":"Absolute"`, "W", watts(7000)) // shared by both
			draws(1, time.Second, 3500)
			draws(2, time.Second, 3000)
			// Every day from the last full hour on, for half an hour.
			hour := f.clock(0).Truncate(time.Hour).Add(-24 * time.Hour)
			set("Rejected", 0, 8, 5, station, `"chargingProfileKind":"Recurring","recurrencyKind":"Daily"`, "W", watts(1000)) // from when?
			set("Accepted", 0, 8, 5, station, `"chargingProfileKind":"Recurring","recurrencyKind":"Daily"`, "W", watts(1000)+fmt.Sprintf(`,"duration":1800,"startSchedule":%q`, hour.Format(time.RFC3339)))
			in := hour.Add(48 * time.Hour).Sub(f.clock(s.connectors[0].tx.began))
			draws(1, in+time.Minute, 500)
			draws(1, in+31*time.Minute, 3500)
			set("Rejected", 1, 9, 5, station, relative, "W", watts(1)) // the station's is not a connector's

			// The register follows what is drawn, and the composite schedule says it.
			if answer := s.clearProfiles(func(p chargingProfile) bool { return p.id > 5 }); answer != "Accepted" {
				t.Error(answer)
			}
			before, now := s.connectors[0].register, s.connectors[0].tx.metered
			s.sample(0, now+time.Hour)
			if got := s.connectors[0].register - before; math.Abs(got-5000) > 10 {
				t.Errorf("%g Wh in an hour with 5 kW", got)
			}
			schedule, ok := s.composite(1, 600, "")
			if !ok || len(schedule.Periods) != 1 || schedule.Periods[0].Limit != 5000 || *schedule.Duration != 600 {
				t.Errorf("%+v", schedule)
			}
			s.end(0, f.elapsed(), endLocal) // with the transaction its profiles end
			if schedule, ok = s.composite(1, 600, "A"); ok {
				t.Errorf("%+v: a relative profile without a transaction", schedule)
			}
			if schedule, ok = s.composite(2, 600, "A"); !ok || schedule.Periods[0].Limit != 4.3 {
				t.Errorf("%+v", schedule)
			}
		})
	}
}

// statusOf is the status of a command's answer.
func statusOf(answer any) string {
	if e, ok := answer.(explained); ok {
		return e.Status
	}
	return answer.(simple).Status
}

// TestRemoteStartProfile: the profile that comes with a remote start limits the
// transaction that it starts, and no other; SetChargingProfile then changes it.
func TestRemoteStartProfile(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, version, 1, func(c *Config) {
				c.Behaviour = passive()
				c.Behaviour.Curve = []float64{11_000, 11_000}
			})
			const cs = "CS-0"
			eventually(t, "boot", func() bool { return s.lastStatus(cs, 1) == "Available" })
			profile := func(id int, purpose string, watts int, transaction any) object {
				p := object{"chargingProfileId": id, "id": id, "stackLevel": 0, "chargingProfilePurpose": purpose, "chargingProfileKind": "Relative"}
				schedule := object{"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": []object{{"startPeriod": 0, "limit": watts}}}
				if p["chargingSchedule"] = schedule; version.Is2x() {
					p["chargingSchedule"] = []object{schedule}
				}
				if transaction != nil {
					p["transactionId"] = transaction
				}
				return p
			}
			starts := 0
			start := func(want string, profile object) {
				t.Helper()
				starts++
				payload := object{"idTag": "REMOTE", "connectorId": 2, "idToken": object{"idToken": "REMOTE", "type": "Central"}, "remoteStartId": starts, "evseId": 2}
				if profile != nil {
					payload["chargingProfile"] = profile
				}
				action := "RemoteStartTransaction"
				if version.Is2x() {
					action = "RequestStartTransaction"
				}
				if got := s.status(cs, action, payload); got != want {
					t.Errorf("%s %v: %s, want %s", action, profile, got, want)
				}
			}
			// running is the transaction that began last, with the power of its last
			// meter value.
			running := func(began int) (id any, watts float64) {
				s.look(cs, func(st *testStation) {
					if len(st.record) != began || len(st.record[began-1].Values) == 0 {
						return
					}
					tx := st.record[began-1]
					for _, v := range tx.Values {
						if v.Measurand == measurandPower {
							watts = v.Value
						}
					}
					if id = tx.ID; !version.Is2x() {
						id = atoi(tx.ID)
					}
				})
				return id, watts
			}
			set := func(want string, profile object) {
				t.Helper()
				if got := s.status(cs, "SetChargingProfile", object{"connectorId": 2, "evseId": 2, "csChargingProfiles": profile, "chargingProfile": profile}); got != want {
					t.Errorf("SetChargingProfile %v: %s, want %s", profile, got, want)
				}
			}
			none := any("none")
			if !version.Is2x() {
				none = 7
			}
			start("Rejected", profile(1, "TxDefaultProfile", 3000, nil)) // it has to be the transaction's
			start("Rejected", profile(1, "TxProfile", 3000, none))       // which has no id yet
			set("Rejected", profile(1, "TxProfile", 3000, none))
			if f.Stats().Transactions != 0 {
				t.Fatal("charges")
			}
			start("Accepted", profile(1, "TxProfile", 3000, nil))
			eventually(t, "3000 W", func() bool { _, watts := running(1); return watts == 3000 })
			id, _ := running(1)
			set("Rejected", profile(2, "TxProfile", 1500, none))
			set("Accepted", profile(2, "TxProfile", 1500, id))
			eventually(t, "1500 W", func() bool { _, watts := running(1); return watts == 1500 })
			stop := "RemoteStopTransaction"
			if version.Is2x() {
				stop = "RequestStopTransaction"
			}
			if got := s.status(cs, stop, object{"transactionId": id}); got != "Accepted" {
				t.Errorf("%s: %s", stop, got)
			}
			eventually(t, "the car leaves", func() bool { return s.lastStatus(cs, 2) == "Available" })
			start("Accepted", nil)
			eventually(t, "11000 W", func() bool { _, watts := running(2); return watts == 11_000 })
			settle(t, f)
			if r := mustVerify(t, f, s); !r.OK() || r.Transactions != 2 {
				t.Errorf("%+v", r)
			}
		})
	}
}
