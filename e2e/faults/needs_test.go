package faults

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// need is what a fault takes besides a station of security profile 2.
type need struct {
	profile ocpp.SecurityProfile
	id      string         // appended to the identity
	quirks  map[string]any // of the station's record
	call    string         // result of a CALL to the station; empty: accepted
	held    bool           // Pending until the fault was seen
	// provoked and lived, if not nil, are done to the station besides.
	provoked, lived func(*quirky)
	// orphans: its ends of transactions cannot be told apart.
	orphans bool
}

var needs = map[fleet.Fault]need{
	fleet.NoCertificate:       {profile: 3},
	fleet.ForeignCertificate:  {profile: 3},
	fleet.LeafOnly:            {profile: 3},
	fleet.Silent:              {quirks: map[string]any{"ping": "require"}},
	fleet.NeverPongs:          {quirks: map[string]any{"ping": "auto"}},
	fleet.RawIdentity:         {id: " 1|2"},
	fleet.NoVersion:           {quirks: map[string]any{"assume_v16": true}},
	fleet.DropsAtPing:         {quirks: map[string]any{"ping": "off"}},
	fleet.DropsFastCalls:      {quirks: map[string]any{"call_gap": 400}, lived: (*quirky).callsApart},
	fleet.DropsEarlyCalls:     {lived: (*quirky).callsHeld},
	fleet.IgnoresPending:      {held: true},
	fleet.WaitsOnPending:      {held: true},
	fleet.StatusWhilePending:  {held: true},
	fleet.DeafToCalls:         {call: "timeout"},
	fleet.LateAnswers:         {call: "timeout", lived: (*quirky).lateAnswer},
	fleet.DoubledAnswers:      {lived: (*quirky).strayAnswer},
	fleet.DeafUntilReconnect:  {provoked: (*quirky).unanswered},
	fleet.Burst:               {provoked: (*quirky).allAnswered},
	fleet.HistoryFlood:        {provoked: (*quirky).allAnswered},
	fleet.HalfOpen:            {provoked: (*quirky).replaced},
	fleet.ZeroTransaction:     {orphans: true},
	fleet.MinusOneTransaction: {orphans: true},
	fleet.FixedRoot:           {lived: (*quirky).installsNothing},
	fleet.LongValues:          {lived: (*quirky).configuration},
	fleet.TellsSecrets:        {lived: (*quirky).keepsSecret},
	fleet.EventStorm:          {lived: (*quirky).events},
	fleet.SlowSender:          {quirks: map[string]any{"ping": "off"}}, // it cannot pong while it sends
}

// callsHeld: while the station comes and goes, no CALL reaches it before its boot
// was answered.
func (q *quirky) callsHeld() {
	for range 3 {
		before := q.fleet.Stats()
		if err := q.fleet.Provoke(q.station(), fleet.Cut); err != nil {
			q.Fatal(err)
		}
		q.await("a CALL as soon as the station is back", func() bool { return q.call() == "accepted" })
		if got := q.fleet.Stats(); got.Connects != before.Connects+1 || got.Errors["lost"] != before.Errors["lost"] {
			q.Errorf("%d connections, errors %v: a CALL came before the boot was answered", got.Connects-before.Connects, got.Errors)
		}
	}
}

// callsApart: two CALLs at once reach the station with time between.
func (q *quirky) callsApart() {
	second := make(chan string, 1)
	go func() { second <- q.call() }()
	if first, second := q.call(), <-second; first != "accepted" || second != "accepted" {
		q.Errorf("two CALLs at once: %s and %s", first, second)
	}
}

// lateAnswer: the operator has long been told that there is none.
func (q *quirky) lateAnswer() {
	before := q.n.Metric("holdfast_bad_messages_total", `kind="unknown_answer"`)
	if got := q.call(); got != "timeout" {
		q.Errorf("a CALL that is answered late: %s", got)
	}
	q.await("the late answer", func() bool { return q.n.Metric("holdfast_bad_messages_total", `kind="unknown_answer"`) > before })
}

func (q *quirky) strayAnswer() {
	before := q.n.Metric("holdfast_bad_messages_total", `kind="unknown_answer"`)
	if got := q.call(); got != "accepted" {
		q.Errorf("a CALL that is answered twice: %s", got)
	}
	q.await("the second answer", func() bool { return q.n.Metric("holdfast_bad_messages_total", `kind="unknown_answer"`) > before })
}

// unanswered calls the station until the server gives its connection up.
func (q *quirky) unanswered() {
	before := q.fleet.Stats().Connects
	for range 3 {
		if got := q.call(); got != "timeout" {
			q.Errorf("a CALL to a deaf station: %s", got)
		}
	}
	q.await("the next connection", func() bool { return q.fleet.Stats().Connects > before })
}

// allAnswered: every CALL of a burst was answered; the station waits for none.
func (q *quirky) allAnswered() {
	want := map[fleet.Fault]uint64{fleet.Burst: 20, fleet.HistoryFlood: 300}[q.fault]
	q.await("answers to all of them", func() bool { return q.fleet.Stats().Errors["stray_answer"] == want })
}

// replaced: the connection that was left open does not stay.
func (q *quirky) replaced() {
	q.await("the end of the old connection", func() bool { return q.n.Metric("holdfast_closes_total", `reason="replaced"`) > 0 })
}

// installsNothing: the server lives with a station that takes no root.
func (q *quirky) installsNothing() {
	root := "CSMSRootCertificate"
	if q.version == ocpp.V16 {
		root = "CentralSystemRootCertificate"
	}
	got := q.send("InstallCertificate", map[string]any{"certificateType": root, "certificate": q.root()})
	if status, _ := got.Answer["status"].(string); status != "Rejected" {
		q.Errorf("InstallCertificate: %+v", got)
	}
}

// root is the server's, in PEM.
func (q *quirky) root() string {
	text, err := os.ReadFile(filepath.Join(q.n.Data, "ca.crt"))
	if err != nil {
		q.Fatal(err)
	}
	return string(text)
}

// asked is a CALL for the configuration value that is named.
func (q *quirky) asked(key, component, variable string) answer {
	if q.version == ocpp.V16 {
		return q.send("GetConfiguration", map[string]any{"key": []string{key}})
	}
	return q.send("GetVariables", map[string]any{"getVariableData": []any{map[string]any{
		"component": map[string]any{"name": component}, "variable": map[string]any{"name": variable}}}})
}

func (q *quirky) configuration() {
	got := q.asked("MeterValuesSampledData", "SampledDataCtrlr", "TxUpdatedMeasurands")
	if got.Result != "accepted" || !strings.Contains(got.text, strings.Repeat("Energy,", 400)) {
		q.Errorf("a value of 3,000 characters: %.300s", got.text)
	}
}

// keepsSecret: the password that the station told is nowhere.
func (q *quirky) keepsSecret() {
	got := q.asked("AuthorizationKey", "SecurityCtrlr", "BasicAuthPassword")
	if got.Result != "accepted" {
		q.Errorf("the CALL: %s", got.text)
	}
	var list any
	q.n.Do("GET", "/api/v1/commands?station="+url.QueryEscape(q.id), nil, &list)
	for where, text := range map[string]string{"answer": got.text, "log": q.n.Tail(1 << 20), "record of commands": fmt.Sprint(list)} {
		if strings.Contains(text, q.password) {
			q.Errorf("the password is in the %s", where)
		}
	}
}

// events: all of the storm were answered, and the record holds some.
func (q *quirky) events() {
	q.await("the security events", func() bool {
		n := 0
		for _, item := range q.items("/api/v1/stations/" + url.PathEscape(q.id) + "/security-events") {
			if item["type"] == "SettingSystemTime" {
				n++
			}
		}
		return n >= 50
	})
}

// fine reports whether a comparison found nothing, or only what a station does
// that ends transactions under a number that is none.
func (q *quirky) fine(r fleet.Report) bool {
	if !needs[q.fault].orphans {
		return r.OK() && r.Unacknowledged == 0 && r.Transactions > 0
	}
	orphans := slices.ContainsFunc(q.items("/api/v1/stations/"+url.PathEscape(q.id)+"/transactions"), func(item map[string]any) bool { return item["orphan"] == true })
	return orphans && r.Unacknowledged == 0 && r.Counts[fleet.Altered] == 0 && r.Counts[fleet.Doubled] == 0 &&
		!slices.ContainsFunc(r.Problems, func(p fleet.Problem) bool {
			return p.Kind == fleet.Missing && !strings.HasPrefix(p.What, "its end")
		})
}

const callTime = 3 * time.Second
