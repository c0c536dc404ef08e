package faults

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/ocpp"
)

// TestCredentials: while they charge, stations of the fleet go through every
// operation on credentials that Holdfast has: a new password, security profile 3,
// a new certificate, a new root; and nothing of their transactions is lost.
func TestCredentials(t *testing.T) {
	n := all(t)
	if status := n.Do("PUT", "/api/v1/id-tokens/FLEET", map[string]any{"status": "Accepted"}, nil); status >= 300 {
		t.Fatalf("ID token: HTTP %d", status)
	}
	for i, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			q := &quirky{T: t, n: n, id: fmt.Sprintf("K-%d", i), profile: ocpp.ProfileTLS, version: version}
			q.adjust = func(cfg *fleet.Config) {
				cfg.Targets[ocpp.ProfileMTLS] = n.MTLS
				cfg.Behaviour.RebootTime = 50 * time.Millisecond
			}
			q.start()
			q.run()
			q.await("a transaction", func() bool { return q.transactions() > 0 })

			q.operate("rotate-password", nil)
			old := attempt{station: station{id: q.id, profile: 2, url: n.TLS, password: q.password, roots: pool(q.T, n)}}
			if status, _ := old.status(t); status != http.StatusUnauthorized {
				t.Errorf("the old password: HTTP %d, want 401", status)
			}
			q.operate("change-profile", map[string]any{"profile": 3, "url": n.MTLS})
			q.await("security profile 3", func() bool { return q.fleet.Stats().Connected[ocpp.ProfileMTLS] == 1 })
			connects := q.fleet.Stats().Connects
			q.operate("renew-certificate", nil)
			if got := q.fleet.Stats().Connects; got <= connects {
				t.Error("the station did not come back with the new certificate")
			}
			q.operate("install-root", nil)
			q.served()
		})
	}
	checked(t, n)
}

// operate does an operation on the station and waits until it is done.
func (q *quirky) operate(kind string, params map[string]any) {
	q.Helper()
	var o struct {
		ID, Status, Cause string
		Steps             []map[string]any
	}
	body := map[string]any{"kind": kind}
	if params != nil {
		body["params"] = params
	}
	if status := q.n.Do("POST", "/api/v1/stations/"+q.id+"/operations", body, &o); status != http.StatusAccepted {
		q.Fatalf("%s: HTTP %d", kind, status)
	}
	q.await(kind, func() bool {
		q.n.Do("GET", "/api/v1/operations/"+o.ID, nil, &o)
		if o.Status == "failed" || o.Status == "cancelled" {
			q.Fatalf("%s: %s: %v", kind, o.Cause, o.Steps)
		}
		return o.Status == "done"
	})
}

// pool is what stations trust.
func pool(t *testing.T, n *e2e.Node) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range anchors(t, n) {
		p.AddCert(c)
	}
	return p
}
