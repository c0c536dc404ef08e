package certificates_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestReplicasSignOnce has two authorities on one PostgreSQL get the same signing
// requests, from several people at once, while one of them is killed with SIGKILL
// and comes back: each request makes one certificate, which everybody gets, and
// each certificate is in the audit record once. So with our own CA and with one
// elsewhere, which itself makes no other.
func TestReplicasSignOnce(t *testing.T) {
	t.Parallel()
	database := storetest.NewServer(t)
	t.Run("own", func(t *testing.T) { signOnce(t, database.Database(t)) })
	t.Run("EST", func(t *testing.T) {
		x := newESTServer(t)
		signOnce(t, database.Database(t), "--est", "https://"+x.address+"/.well-known/est/stations", "--est-ca", x.file("root.crt"),
			"--est-user", "holdfast", "--est-password-file", x.file("password"), "--est-cert", x.file("client.crt"), "--est-key", x.file("client.key"))
		der, err := os.ReadFile(x.list())
		if err != nil {
			t.Fatal(err)
		}
		all, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		// The one that was killed may have been about to record what it had got.
		if n := len(all.RevokedCertificateEntries); n < racingStations || n > racingStations+racingPeople {
			t.Errorf("the CA elsewhere made %d certificates for %d requests", n, racingStations)
		}
	})
}

// How many stations' requests there are, and how many people who send each.
const racingStations, racingPeople = 12, 6

func signOnce(t *testing.T, where string, flags ...string) {
	broker, shared := e2e.NewBroker(t), t.TempDir()
	node := func(role, data string, ports ...string) *e2e.Node {
		n := e2e.Ports(t, data)
		n.Args = slices.Concat([]string{role}, broker.Args(role), n.ListenArgs(ports...), []string{"--data", data, "--database", where})
		if role == "authority" {
			n.Args = append(append(n.Args, "--operator", "Op"), flags...)
		}
		n.Restart()
		n.AwaitReady()
		return n
	}
	authorities := [2]*e2e.Node{node("authority", shared, "admin"), node("authority", shared, "admin")}
	core := node("csms", t.TempDir(), "admin", "api")
	if len(flags) > 0 {
		file := filepath.Join(t.TempDir(), "ca.pem")
		command(t, core, nil, "cert", "external-ca", "-o", file)
		command(t, core, nil, "cert", "trust", file)
	}
	const stations, people = racingStations, racingPeople
	requests := make([]string, stations)
	for i := range requests {
		id := fmt.Sprintf("CS-%02d", i)
		if status := core.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3, "no_certificate": true}, nil); status != http.StatusCreated {
			t.Fatalf("add %s: %d", id, status)
		}
		out, err := exec.Command("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "/dev/null", "-subj", "/O=Op/CN="+id).Output()
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = string(out)
	}
	token, err := os.ReadFile(filepath.Join(core.Data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	sign := func(i int) (fingerprint string, status int) {
		body, _ := json.Marshal(map[string]string{"csr": requests[i]})
		r, err := http.NewRequest("POST", fmt.Sprintf("%s/api/v1/stations/CS-%02d/sign-csr", core.API, i), bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return "", 0
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			return "", 0
		}
		defer resp.Body.Close()
		var s struct{ Certificate store.Certificate }
		if resp.StatusCode == http.StatusCreated {
			if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
				t.Error(err)
			}
		}
		return s.Certificate.Fingerprint, resp.StatusCode
	}

	// Everybody sends every request until it is answered.
	got := make([][people]string, stations)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for person := range people {
		wg.Go(func() {
			for i := range requests {
				for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
					fingerprint, status := sign(i)
					if status == http.StatusCreated {
						got[i][person] = fingerprint
						answered.Add(1)
						break
					}
					if status != 0 && status < http.StatusServiceUnavailable || time.Now().After(deadline) {
						t.Errorf("CS-%02d: status %d", i, status)
						return
					}
				}
			}
		})
	}
	e2e.Await(t, "a third is answered", 2*patience, func() bool { return answered.Load() >= stations*people/3 || t.Failed() })
	authorities[0].Kill()
	authorities[0].Restart()
	wg.Wait()

	for i, prints := range got {
		id := fmt.Sprintf("CS-%02d", i)
		for _, p := range prints {
			if p != prints[0] || p == "" {
				t.Errorf("%s: certificates %v", id, prints)
				break
			}
		}
		var list []store.Certificate
		command(t, core, &list, "cert", "list", "--station", id)
		if len(list) != 1 || list[0].Fingerprint != prints[0] {
			t.Errorf("%s: inventory %+v, want %s", id, list, prints[0])
		}
		var audit struct{ Items []store.AuditEntry }
		core.Do("GET", "/api/v1/audit?action=certificate.sign&station="+id, nil, &audit)
		if len(audit.Items) != 1 || len(list) == 1 && audit.Items[0].Subject != list[0].Serial {
			t.Errorf("%s: audit record %+v", id, audit.Items)
		}
	}
}
