package fleet

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestChurn counts what the server does with each kind of connection, and what
// is left of it on our side.
func TestChurn(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	cfg := Config{Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileMTLS: s.target()}, Roots: ca.anchors()}
	for i := range 7 {
		id := fmt.Sprintf("CS-%d", i)
		cfg.Stations = append(cfg.Stations, Identity{ID: ocpp.StationID(id), Profile: ocpp.ProfileMTLS, Certificate: ca.issue(t, id)})
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	got, err := f.Churn(t.Context(), Churn{Attempts: 60, Parallel: 4, Faults: []Fault{CleanClose, Cut, NoCertificate}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Attempts != 60 || got.Admitted != 40 || got.Errors["tls"] != 20 || len(got.Errors) != 1 {
		t.Errorf("%s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err = f.Churn(ctx, Churn{Rate: 200}); err != nil || got.Attempts == 0 || got.Attempts > 30 || got.Admitted != got.Attempts {
		t.Errorf("200 per second for 100 ms: %s, %v", got, err)
	}
	eventually(t, "nothing left", func() bool { return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files })
}

func TestFaultNames(t *testing.T) {
	for _, f := range Faults() {
		if got, ok := FaultByName(f.String()); !ok || got != f || f.About() == "" || f.Connecting() && f.Quirk() {
			t.Errorf("fault %d: %s, %q", f, f, f.About())
		}
	}
	if _, ok := FaultByName("none"); ok || NoFault.Connecting() || NoFault.Quirk() {
		t.Error("no fault is one")
	}
}
