package faults

import (
	"bytes"
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

// needs are the faults that take something special of the station or of its
// record: the security profile, the version, what the operator has to set.
var needs = map[fleet.Fault]struct {
	profile int
	version ocpp.Version
	record  map[string]any
	id      string
}{
	fleet.NoCertificate:      {profile: 3},
	fleet.ForeignCertificate: {profile: 3},
	fleet.LeafOnly:           {profile: 3},
	fleet.UnknownErrorCode:   {version: ocpp.V16},
	fleet.NullOptionals:      {version: ocpp.V16},
	fleet.Silent:             {record: map[string]any{"quirks": map[string]any{"ping": "require"}}},
	fleet.NeverPongs:         {record: map[string]any{"quirks": map[string]any{"ping": "auto"}}},
	fleet.RawIdentity:        {id: "RAW|1"},
}

// notAnswered are the quirks of stations whose CALLs go unanswered.
var notAnswered = []fleet.Fault{fleet.DeafToCalls}

// TestQuirks does every fault and lives with every quirk of the fleet, by name,
// and wants the reaction that the fleet's table states.
func TestQuirks(t *testing.T) {
	n := all(t, "--ping-interval", "300ms", "--pong-time", "300ms")
	if status := n.Do("PUT", "/api/v1/id-tokens/FLEET", map[string]any{"status": "Accepted"}, nil); status >= 300 {
		t.Fatalf("ID token: HTTP %d", status)
	}
	slots := make(chan struct{}, 6)
	t.Run("all", func(t *testing.T) {
		for i, fault := range fleet.Faults() {
			t.Run(fault.String(), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				need := needs[fault]
				if need.id == "" {
					need.id = fmt.Sprintf("Q-%02d", i)
				}
				if need.profile == 0 {
					need.profile = 2
				}
				if need.version == "" {
					need.version = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}[i%3]
				}
				s := add(t, n, need.id, need.profile, need.record)
				q := quirky{T: t, n: n, id: need.id, fault: fault}
				q.start(s, need.version)
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
	})
	checked(t, n)
}

// quirky is one station with one fault.
type quirky struct {
	*testing.T
	n     *e2e.Node
	id    string
	fault fleet.Fault
	fleet *fleet.Fleet
	told  told
}

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

func (q *quirky) start(s station, version ocpp.Version) {
	id := fleet.Identity{ID: ocpp.StationID(s.id), Profile: ocpp.SecurityProfile(s.profile), Version: version, Password: s.password, Certificate: s.certificate}
	if q.fault.Quirk() {
		id.Quirks = []fleet.Fault{q.fault}
	}
	var err error
	q.fleet, err = fleet.New(fleet.Config{
		Targets:  map[ocpp.SecurityProfile]string{id.Profile: strings.TrimSuffix(s.url, "/")},
		Roots:    anchors(q.T, q.n),
		Stations: []fleet.Identity{id},
		Behaviour: fleet.Behaviour{SessionGap: 50 * time.Millisecond, SessionLength: 200 * time.Millisecond, MeterInterval: 50 * time.Millisecond,
			UnplugDelay: 20 * time.Millisecond, BootRetry: time.Second, RenewBefore: -1},
		BackOff: fleet.BackOff{Minimum: 50 * time.Millisecond, Random: -1},
		Resend:  fleet.Resend{Attempts: 20, Interval: 100 * time.Millisecond},
		Logger:  slog.New(slog.NewTextHandler(&q.told, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		q.Fatal(err)
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
	ctx, cancel := context.WithTimeout(q.Context(), 20*time.Second)
	defer cancel()
	churned, err := q.fleet.Churn(ctx, fleet.Churn{Faults: []fleet.Fault{q.fault}, Attempts: 1})
	switch {
	case err != nil:
		q.Fatal(err)
	case want.Refused != "" && churned.Errors[want.Refused] != 1, want.Refused == "" && want.Code == 0 && len(churned.Errors) > 0:
		q.Errorf("%s; want %s: %s", churned, want.Refused, want.Says)
	}
	if want.Code != 0 {
		if err := q.fleet.Probe(ctx, ocpp.StationID(q.id), q.fault); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("closed with %d", want.Code)) {
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
	if err := q.fleet.Provoke(ocpp.StationID(q.id), q.fault); err != nil {
		q.Fatal(err)
	}
	ends := want.Code != 0 || q.fault == fleet.CleanClose || q.fault == fleet.Cut || q.fault == fleet.Silent
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
	q.await("a transaction", func() bool { return q.transactions() > 0 })
	for range 2 {
		before := q.fleet.Stats().Connects
		if err := q.fleet.Provoke(ocpp.StationID(q.id), fleet.Cut); err != nil {
			q.Fatal(err)
		}
		q.await("the next connection", func() bool { return q.fleet.Stats().Connects > before && q.here() })
	}
	done := q.transactions() + 3 // for longer than the pings are apart
	q.await("more transactions", func() bool { return q.transactions() >= done })
	before := q.fleet.Stats().Connects
	q.served()
	if got := q.fleet.Stats(); got.Connects != before || got.Errors["protocol"] > 0 {
		q.Errorf("%d connections more, errors %v; want: %s", got.Connects-before, got.Errors, q.fault.Reaction().Says)
	}
}

// served has a CALL answered, lets the station finish, and wants every
// transaction in the record, once.
func (q *quirky) served() {
	q.Helper()
	want := "accepted"
	if slices.Contains(notAnswered, q.fault) {
		want = "timeout"
	}
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
	if !report.OK() || report.Unacknowledged > 0 || report.Transactions == 0 {
		q.Errorf("%d transactions, %d given up, %v: %v", report.Transactions, report.Unacknowledged, report.Counts, report.Problems)
	}
}

func (q *quirky) call() string {
	var view struct{ Result string }
	q.n.Do("POST", "/api/v1/stations/"+url.PathEscape(q.id)+"/calls", map[string]any{"action": "ClearCache", "payload": map[string]any{}, "timeout": 3}, &view)
	return view.Result
}

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
