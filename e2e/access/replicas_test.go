package access_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/store/storetest"
)

// TestAuthorityReplicas: two authorities on one PostgreSQL. One is killed while
// stations are registered and connect: decisions go on, and whatever was
// acknowledged is in the audit record, once. Then both are away, then the
// database.
func TestAuthorityReplicas(t *testing.T) {
	database := storetest.NewServer(t)
	where, broker, shared := database.Database(t), e2e.NewBroker(t), t.TempDir()
	node := func(role string, args ...string) *e2e.Node {
		n := e2e.Ports(t, t.TempDir())
		n.Args = append(append([]string{role}, broker.Args(role)...), args...)
		switch role {
		case "authority":
			n.Data = shared // the CA keys
			n.Args = append(n.Args, n.ListenArgs("admin")...)
		case "csms":
			n.Args = append(n.Args, n.ListenArgs("admin", "api")...)
		case "gateway":
			n.Args = append(n.Args, n.ListenArgs("admin", "tls", "mtls")...)
		}
		if role != "gateway" {
			n.Args = append(n.Args, "--data", n.Data, "--database", where)
		}
		n.Restart()
		return n
	}
	authorities := [2]*e2e.Node{node("authority"), node("authority")}
	core, gateway := node("csms"), node("gateway", "--gateway-id", "gw", "--drain-time", "1s")
	for _, n := range []*e2e.Node{authorities[0], authorities[1], core, gateway} {
		n.AwaitReady()
	}
	ca, err := os.ReadFile(filepath.Join(shared, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	connect := func(id, password string) int {
		status, _ := station{url: gateway.TLS, id: id, password: password, tls: &tls.Config{RootCAs: roots}}.connect(t)
		return status
	}
	token, err := os.ReadFile(filepath.Join(core.Data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	impatient := &http.Client{Timeout: 3 * time.Second}
	t.Cleanup(impatient.CloseIdleConnections)
	// register adds a station, again if there was no answer to tell what came of it.
	register := func(id string) string {
		t.Helper()
		password := "password-of-" + id
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			r, err := http.NewRequest("POST", core.API+"/api/v1/stations", strings.NewReader(fmt.Sprintf(`{"id":%q,"password":%q}`, id, password)))
			if err != nil {
				t.Error(err)
				return ""
			}
			r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
			r.Header.Set("Content-Type", "application/json")
			resp, err := impatient.Do(r)
			status := 0
			if err == nil {
				resp.Body.Close()
				status = resp.StatusCode
			}
			if status == 201 || status == 409 { // done now, or by a try whose answer was lost
				return password
			}
			if status != 0 && status < 500 || time.Now().After(deadline) {
				t.Errorf("register %s: %d, %v", id, status, err)
				return ""
			}
		}
	}
	known := register("KNOWN-STATION")
	e2e.Await(t, "the first connection", 20*time.Second, func() bool { return connect("KNOWN-STATION", known) == 101 })

	// Four people register stations and connect them; one authority dies.
	const each = 30
	var mu sync.Mutex
	late := 0 // refusals that began after the death
	var killed time.Time
	var wg sync.WaitGroup
	half := make(chan struct{}, 4)
	for person := range 4 {
		wg.Go(func() {
			for i := range each {
				if i == each/3 {
					half <- struct{}{}
				}
				id := fmt.Sprintf("STATION-%d-%02d", person, i)
				password := register(id)
				for {
					began := time.Now()
					status := connect(id, password)
					if status == 101 {
						break
					}
					mu.Lock()
					if !killed.IsZero() && began.After(killed.Add(time.Second)) {
						late++
					}
					mu.Unlock()
					if status != 503 {
						t.Errorf("%s: %d", id, status)
						return
					}
				}
			}
		})
	}
	<-half
	authorities[0].Kill()
	mu.Lock()
	killed = time.Now()
	mu.Unlock()
	wg.Wait()
	if late > 0 {
		t.Errorf("%d stations were refused although one authority lived", late)
	}
	for person := range 4 {
		for i := range each {
			id := fmt.Sprintf("STATION-%d-%02d", person, i)
			var audit struct{ Items []struct{ Action string } }
			core.Do("GET", "/api/v1/audit?action=station.add&station="+url.QueryEscape(id), nil, &audit)
			if len(audit.Items) != 1 {
				t.Errorf("%s: %d lines in the audit record", id, len(audit.Items))
			}
			if !slices.ContainsFunc(attempts(core, "/api/v1/stations/"+id+"/attempts"), func(a attempt) bool { return a.Reason == "admitted" }) {
				t.Errorf("%s connected, and its record does not say so", id)
			}
		}
	}

	// No authority: who was admitted before comes back, nobody else gets in.
	register("NEVER-ADMITTED")
	authorities[1].Kill()
	if got := connect("KNOWN-STATION", known); got != 101 {
		t.Errorf("authorities away, admitted before: %d", got)
	}
	if got := connect("KNOWN-STATION", known+"x"); got != 503 {
		t.Errorf("authorities away, wrong password: %d", got)
	}
	if got := connect("NEVER-ADMITTED", "password-of-NEVER-ADMITTED"); got != 503 {
		t.Errorf("authorities away, never admitted: %d", got)
	}
	authorities[0].Restart()
	authorities[0].AwaitReady()
	e2e.Await(t, "a new station gets in", 20*time.Second, func() bool { return connect("NEVER-ADMITTED", "password-of-NEVER-ADMITTED") == 101 })
	e2e.Await(t, "the outage in the station's attempts", 20*time.Second, func() bool {
		for _, a := range attempts(core, "/api/v1/stations/NEVER-ADMITTED/attempts") {
			if a.Reason == "authority_unavailable" {
				return true
			}
		}
		return false
	})

	// No database: the same, and it says so.
	register("LATE-STATION-1")
	database.Kill()
	e2e.Await(t, "the authority says that its database is away", 20*time.Second, func() bool { return !ready(authorities[0]) })
	if got := connect("KNOWN-STATION", known); got != 101 {
		t.Errorf("database away, admitted before: %d", got)
	}
	if got := connect("LATE-STATION-1", "password-of-LATE-STATION-1"); got != 503 {
		t.Errorf("database away, never admitted: %d", got)
	}
	if err := database.Start(); err != nil {
		t.Fatal(err)
	}
	e2e.Await(t, "a new station gets in after the database is back", 30*time.Second, func() bool {
		return connect("LATE-STATION-1", "password-of-LATE-STATION-1") == 101
	})
}

func ready(n *e2e.Node) bool {
	r, err := http.Get(n.Admin + "/readyz")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}
