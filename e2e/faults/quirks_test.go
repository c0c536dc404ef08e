package faults

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/ocpp"
)

// TestQuirks does every fault and lives with every quirk of the fleet, by name,
// in every version that it suits, and wants the reaction that the fleet's table
// states.
func TestQuirks(t *testing.T) {
	n := all(t, "--ping-interval", "300ms", "--pong-time", "300ms")
	if status := n.Do("PUT", "/api/v1/id-tokens/FLEET", map[string]any{"status": "Accepted"}, nil); status >= 300 {
		t.Fatalf("ID token: HTTP %d", status)
	}
	slots := make(chan struct{}, 8)
	t.Run("all", func(t *testing.T) {
		for i, fault := range fleet.Faults() {
			for v, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
				q := &quirky{n: n, id: fmt.Sprintf("Q-%02d-%d%s", i, v, needs[fault].id), fault: fault, version: version, profile: max(ocpp.ProfileTLS, needs[fault].profile)}
				if !fault.Suits(q.profile, version) || testing.Short() && v != i%3 && fault.Suits(q.profile, []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}[i%3]) {
					continue
				}
				t.Run(fault.String()+"/"+string(version), func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					defer func() { <-slots }()
					q.T = t
					q.start()
					switch {
					case fault.Connecting():
						q.attempt()
					case fault.Quirk():
						q.live()
					default:
						q.provoke()
					}
				})
			}
		}
	})
	checked(t, n)
}

// quirky is one station with one fault.
type quirky struct {
	*testing.T
	n        *e2e.Node
	id       string
	profile  ocpp.SecurityProfile
	version  ocpp.Version
	fault    fleet.Fault
	password string
	adjust   func(*fleet.Config) // nil: nothing
	fleet    *fleet.Fleet
	told     told
}

func (q *quirky) station() ocpp.StationID { return ocpp.StationID(q.id) }

// told keeps what the fleet logs.
type told struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (w *told) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *told) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.log.String(), text)
}

// start registers the station, and another one where the fault needs one.
func (q *quirky) start() {
	var list []fleet.Identity
	var address string
	for i, id := range []string{q.id, q.id + "-other"} {
		if i == 1 && q.fault != fleet.BorrowedIdentity {
			break
		}
		more := make(map[string]any)
		if quirks := needs[q.fault].quirks; quirks != nil {
			more["quirks"] = quirks
		}
		s := add(q.T, q.n, id, int(q.profile), more)
		x := fleet.Identity{ID: ocpp.StationID(s.id), Profile: q.profile, Version: q.version, Password: s.password, Certificate: s.certificate}
		if q.fault.Quirk() {
			x.Quirks = []fleet.Fault{q.fault}
		}
		list, address = append(list, x), s.url
	}
	q.password = list[0].Password
	if needs[q.fault].held {
		q.register("Pending")
	}
	var err error
	cfg := fleet.Config{
		Targets:  map[ocpp.SecurityProfile]string{q.profile: address},
		Roots:    anchors(q.T, q.n),
		Stations: list,
		Behaviour: fleet.Behaviour{SessionGap: 50 * time.Millisecond, SessionLength: 200 * time.Millisecond, MeterInterval: 50 * time.Millisecond,
			UnplugDelay: 20 * time.Millisecond, BootRetry: time.Second, RenewBefore: -1},
		BackOff: fleet.BackOff{Minimum: 50 * time.Millisecond, Random: -1},
		Resend:  fleet.Resend{Attempts: 20, Interval: 100 * time.Millisecond},
		Logger:  slog.New(slog.NewTextHandler(&q.told, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if q.adjust != nil {
		q.adjust(&cfg)
	}
	q.fleet, err = fleet.New(cfg)
	if err != nil {
		q.Fatal(err)
	}
}

// register sets what the station is told when it boots.
func (q *quirky) register(registration string) {
	q.Helper()
	if status := q.n.Do("PUT", "/api/v1/stations/"+url.PathEscape(q.id)+"/registration", map[string]any{"registration": registration}, nil); status != 200 {
		q.Fatalf("registration: HTTP %d", status)
	}
}

// run lets the station live to the end of the test.
func (q *quirky) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.fleet.Run(ctx) }()
	q.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			q.Error(err)
		}
	})
}

func (q *quirky) await(what string, ok func() bool) {
	q.Helper()
	e2e.Await(q.T, fmt.Sprintf("%s; errors %v", what, q.fleet.Stats().Errors), 20*time.Second, ok)
}

// here reports whether the station has a connection.
func (q *quirky) here() bool {
	n := 0
	for _, connected := range q.fleet.Stats().Connected {
		n += connected
	}
	return n == 1
}

// attempt makes one attempt to connect with the fault.
func (q *quirky) attempt() {
	want := q.fault.Reaction()
	ctx, cancel := context.WithTimeout(q.Context(), 40*time.Second)
	defer cancel()
	churned, err := q.fleet.Churn(ctx, fleet.Churn{Faults: []fleet.Fault{q.fault}, Attempts: 1})
	switch {
	case err != nil:
		q.Fatal(err)
	case want.Refused != "" && churned.Errors[want.Refused] != 1, want.Refused == "" && want.Code == 0 && len(churned.Errors) > 0:
		q.Errorf("%s; want %s: %s", churned, want.Refused, want.Says)
	}
	if want.Code != 0 {
		if err := q.fleet.Probe(ctx, q.station(), q.fault); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("closed with %d", want.Code)) {
			q.Errorf("%v; want close code %d: %s", err, want.Code, want.Says)
		}
	}
	// The station itself is none the worse for it.
	churned, err = q.fleet.Churn(ctx, fleet.Churn{Attempts: 1})
	if err != nil || churned.Admitted != 1 {
		q.Errorf("afterwards: %s, %v", churned, err)
	}
}

// provoke does the fault to a connected station.
func (q *quirky) provoke() {
	want := q.fault.Reaction()
	q.run()
	q.await("a transaction", func() bool { return q.transactions() > 0 })
	before := q.fleet.Stats().Connects
	if err := q.fleet.Provoke(q.station(), q.fault); err != nil {
		q.Fatal(err)
	}
	if special := needs[q.fault].provoked; special != nil {
		special(q)
	}
	ends := want.Code != 0 || slices.Contains([]fleet.Fault{fleet.CleanClose, fleet.Cut, fleet.Silent, fleet.HalfOpen}, q.fault)
	if want.Code != 0 {
		q.await(fmt.Sprintf("close code %d", want.Code), func() bool { return q.told.has(fmt.Sprintf("closed with %d", want.Code)) })
	}
	if ends {
		q.await("the next connection", func() bool { return q.fleet.Stats().Connects > before && q.here() })
	}
	q.served()
	if !ends && q.fleet.Stats().Connects != before {
		q.Errorf("the connection ended; want: %s", want.Says)
	}
}

// live lets a station with a habit charge, and leave and come back.
func (q *quirky) live() {
	q.run()
	if needs[q.fault].held {
		q.hold()
	}
	q.await("a transaction", func() bool { return q.transactions() > 0 })
	for range 2 {
		before := q.fleet.Stats().Connects
		if err := q.fleet.Provoke(q.station(), fleet.Cut); err != nil {
			q.Fatal(err)
		}
		q.await("the next connection", func() bool { return q.fleet.Stats().Connects > before && q.here() })
	}
	if special := needs[q.fault].lived; special != nil {
		special(q)
	}
	done := q.transactions() + 3 // for longer than the pings are apart
	q.await("more transactions", func() bool { return q.transactions() >= done })
	before := q.fleet.Stats().Connects
	q.served()
	if got := q.fleet.Stats(); got.Connects != before || got.Errors["protocol"] > 0 {
		q.Errorf("%d connections more, errors %v; want: %s", got.Connects-before, got.Errors, q.fault.Reaction().Says)
	}
}

// hold lets the station wait, and accepts it at last.
func (q *quirky) hold() {
	q.await("a boot", func() bool {
		var view struct{ State struct{ Vendor string } }
		q.n.Do("GET", "/api/v1/stations/"+url.PathEscape(q.id), nil, &view)
		return view.State.Vendor != ""
	})
	q.await("messages of a station that is Pending", func() bool { return q.fleet.Stats().Sent > 1 || q.fault == fleet.WaitsOnPending })
	q.await("the answers", func() bool { return q.fleet.Stats().Outstanding == 0 })
	if q.transactions() > 0 {
		q.Error("a transaction of a station that is Pending was recorded")
	}
	q.register("Accepted")
	if got := q.fleet.Stats(); got.Connects != 1 {
		q.Errorf("%d connections, errors %v; want: %s", got.Connects, got.Errors, q.fault.Reaction().Says)
	}
}

// served has a CALL answered, lets the station finish, and wants every
// transaction in the record, once.
func (q *quirky) served() {
	q.Helper()
	want := cmp.Or(needs[q.fault].call, "accepted")
	got := ""
	q.await("a CALL", func() bool {
		got = q.call()
		return got != "offline" && got != "error"
	})
	if got != want {
		q.Errorf("a CALL to the station: %s, want %s", got, want)
	}
	ctx, cancel := context.WithTimeout(q.Context(), 20*time.Second)
	defer cancel()
	if err := q.fleet.Settle(ctx); err != nil {
		q.Fatal(err, q.fleet.Stats().Errors)
	}
	report, err := fleet.Verify(q.fleet.Ledger(), func(id ocpp.StationID) ([]fleet.RecordedTransaction, error) {
		return fleet.Recorded(q.Context(), q.list, id, q.fleet.Ledger().Began().Add(-time.Minute))
	})
	if err != nil {
		q.Fatal(err)
	}
	if !q.fine(report) {
		q.Errorf("%d transactions, %d given up, %v: %v", report.Transactions, report.Unacknowledged, report.Counts, report.Problems)
	}
}

// answer is what became of a CALL to the station.
type answer struct {
	Result string
	Answer map[string]any `json:"payload"`
	text   string
}

func (q *quirky) send(action string, payload map[string]any) (got answer) {
	var raw json.RawMessage
	q.n.Do("POST", "/api/v1/stations/"+url.PathEscape(q.id)+"/calls", map[string]any{"action": action, "payload": payload, "timeout": callTime.Seconds()}, &raw)
	got.text = string(raw)
	if err := json.Unmarshal(raw, &got); err != nil {
		q.Errorf("%s: %v", raw, err)
	}
	return got
}

func (q *quirky) call() string { return q.send("ClearCache", map[string]any{}).Result }

func (q *quirky) transactions() (done int) {
	for tx := range q.fleet.Ledger().Transactions() {
		if tx.Started && tx.Stopped {
			done++
		}
	}
	return done
}

// list reads all items of a list of the API.
func (q *quirky) list(_ context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	var all []json.RawMessage
	for {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next"`
		}
		if status := q.n.Do("GET", path+"?"+query.Encode(), nil, &page); status != 200 {
			return nil, fmt.Errorf("%s: HTTP %d", path, status)
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

// items are those of a list of the API.
func (q *quirky) items(path string) (all []map[string]any) {
	q.Helper()
	raw, err := q.list(q.Context(), path, nil)
	if err != nil {
		q.Fatal(err)
	}
	for _, text := range raw {
		var item map[string]any
		if err := json.Unmarshal(text, &item); err != nil {
			q.Fatal(err)
		}
		all = append(all, item)
	}
	return all
}

// anchors are what stations trust.
func anchors(t *testing.T, n *e2e.Node) []*x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Data, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := fleet.ParseRoots(text)
	if err != nil {
		t.Fatal(err)
	}
	return roots
}
