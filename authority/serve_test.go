package authority

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// client calls f through its handlers, as over a bus.
func client(f *fixture) *Client {
	handlers := f.Handlers()
	return &Client{Do: func(ctx context.Context, subject string, data []byte) ([]byte, error) {
		h, ok := handlers[subject]
		if !ok {
			return nil, errors.New("nobody listens")
		}
		return h(ctx, data)
	}}
}

func TestClient(t *testing.T) {
	f := sqlite(t)
	c := client(f)
	ctx := t.Context()
	added, err := c.AddStation(ctx, "alice", NewStation{ID: "CS1", Labels: map[string]string{"a": "b"}})
	if err != nil || added.Password == "" || added.Station.ID != "CS1" {
		t.Fatalf("%+v, %v", added, err)
	}
	mtls, err := c.AddStation(ctx, "alice", NewStation{ID: "CS2", Profile: 3})
	if err != nil || mtls.Issued == nil || mtls.Issued.Key == "" {
		t.Fatalf("%+v, %v", mtls, err)
	}
	credentials := withBasic("CS1", "\xff\xfe"+added.Password)
	credentials.Remote = remote
	if d, err := c.Admit(ctx, credentials); err != nil || d.Reason != ocpp.ReasonWrongPassword {
		t.Errorf("%+v, %v", d, err)
	}
	credentials.Basic = basic("CS1", added.Password)
	if d, err := c.Admit(ctx, credentials); err != nil || !d.Allowed || d.TTL != f.cfg.DecisionTTL {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.Admit(ctx, withChain("CS2", der(t, mtls.Issued.Chain))); err != nil || !d.Allowed {
		t.Errorf("%+v, %v", d, err)
	}
	user := "u"
	for name, err := range map[string]error{
		"note":       c.Note(ctx, Refusal{Credentials: credentials, Reason: ocpp.ReasonTLS}),
		"trust":      do(c.Trust(ctx)),
		"tickets":    do(c.TicketKeys(ctx)),
		"server":     do(c.ServerCertificate(ctx, "gw", csrOf(t, newKey(t, pki.ECDSA), pkix.Name{}), []string{"localhost"})),
		"get":        do(c.Station(ctx, "cs1")),
		"list":       do(c.Stations(ctx, store.StationFilter{Search: "cs"}, store.Page{Limit: 1})),
		"update":     do(c.UpdateStation(ctx, "alice", "CS1", StationPatch{User: &user})),
		"block":      do(c.BlockStation(ctx, "alice", "CS1", "why")),
		"unblock":    do(c.UnblockStation(ctx, "alice", "CS1")),
		"attempts":   do(c.Attempts(ctx, "CS1")),
		"rotate":     do(c.RotatePassword(ctx, "alice", "CS1", "")),
		"cancel":     do(c.CancelRotation(ctx, "alice", "CS1")),
		"issue":      do(c.IssueStation(ctx, "alice", "CS2", pki.ECDSA)),
		"sign":       do(c.SignCSR(ctx, "alice", "CS2", csrOf(t, newKey(t, pki.ECDSA), pkix.Name{CommonName: "CS2"}))),
		"get cert":   do(c.Certificate(ctx, mtls.Issued.Certificate.Serial)),
		"list certs": do(c.Certificates(ctx, store.CertificateFilter{Station: "CS2"}, store.Page{})),
		"revoke":     do(c.RevokeCertificate(ctx, "alice", mtls.Issued.Certificate.Serial, "")),
		"cas":        do(c.CAs(ctx)),
		"audit":      do(c.Audit(ctx, store.AuditFilter{By: "alice"}, store.Page{})),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	root, _ := maker(t)
	imported, err := c.ImportCA(ctx, "alice", pki.EncodeCertificates(root.Cert))
	if err != nil || len(imported) != 1 {
		t.Fatal(err)
	}
	if err := c.RemoveCA(ctx, "alice", imported[0].Fingerprint); err != nil {
		t.Error(err)
	}
	if err := c.RemoveStation(ctx, "alice", "CS1"); err != nil {
		t.Error(err)
	}
	// Every line of the record says who.
	l, err := c.Audit(ctx, store.AuditFilter{By: "alice"}, store.Page{})
	if err != nil || len(l.Items) != 13 {
		t.Errorf("%d audit lines, %v", len(l.Items), err)
	}
	// Errors keep their kind.
	if _, err := c.Station(ctx, "CS1"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "CS1") {
		t.Errorf("%v", err)
	}
	if _, err := c.AddStation(ctx, "alice", NewStation{ID: "cs2"}); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	if _, err := c.AddStation(ctx, "alice", NewStation{ID: "CS3", Profile: 7}); !isInvalid(err, "profile") {
		t.Errorf("%v", err)
	}
	if _, err := c.Stations(ctx, store.StationFilter{}, store.Page{After: "?"}); !errors.Is(err, store.ErrBadCursor) {
		t.Errorf("%v", err)
	}
	gone := errors.New("no responders")
	away := &Client{Do: func(context.Context, string, []byte) ([]byte, error) { return nil, gone }}
	if _, err := away.Admit(ctx, credentials); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	for _, garbage := range []string{"", "{", "[]", `{"body":7}`} {
		for subject, h := range f.Handlers() {
			answer, err := h(ctx, []byte(garbage))
			var out response
			if err != nil || json.Unmarshal(answer, &out) != nil {
				t.Errorf("%s of %q: %s, %v", subject, garbage, answer, err)
			}
		}
	}
}

func do[T any](_ T, err error) error { return err }

// No hash, key or password is in what is shown again.
func TestNothingSecretIsShown(t *testing.T) {
	f := sqlite(t)
	f.add(t, NewStation{ID: "CS1"})
	f.add(t, NewStation{ID: "CS2", Profile: 3})
	if _, err := f.RotatePassword(t.Context(), "test", "CS1", "another-password-0"); err != nil {
		t.Fatal(err)
	}
	r, err := f.store.Station(t.Context(), "CS1")
	if err != nil || r.Password == "" || r.Pending == "" {
		t.Fatalf("%v", err)
	}
	for subject, h := range f.Handlers() {
		switch subject { // these show them once
		case subjectAdd, subjectRotate, subjectIssue, subjectTickets:
			continue
		}
		answer, err := h(t.Context(), []byte(`{"station":"CS1"}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{r.Password, r.Pending, "another-password", "PRIVATE KEY"} {
			if strings.Contains(string(answer), secret) {
				t.Errorf("%s shows a secret", subject)
			}
		}
	}
	for _, secret := range []string{r.Password, r.Pending, "another-password", "PRIVATE KEY"} {
		if strings.Contains(f.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestMetrics(t *testing.T) {
	f := sqlite(t)
	added := f.add(t, NewStation{ID: "CS1", Profile: 3})
	f.admit(t, withChain("CS1", der(t, added.Issued.Chain)))
	f.admit(t, withChain("CS1", nil))
	if err := f.metrics.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(f.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if strings.Contains(l.GetValue(), "CS1") {
					t.Errorf("%s has a station in a label", family.GetName())
				}
			}
		}
	}
	value := func(name, label string) float64 {
		for _, family := range families {
			for _, m := range family.Metric {
				if family.GetName() == name && m.Label[0].GetValue() == label {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
		t.Errorf("no %s of %s", name, label)
		return -1
	}
	for _, tt := range []struct {
		name, label string
		want        float64
	}{
		{"holdfast_authority_decisions_total", "admitted", 1},
		{"holdfast_authority_decisions_total", "no_certificate", 1},
		{"holdfast_authority_decisions_total", "blocked", 0},
		{"holdfast_authority_certificates", "active", 1},
		{"holdfast_authority_next_expiry_timestamp_seconds", "station", float64(added.Issued.Certificate.NotAfter.Unix())},
	} {
		if got := value(tt.name, tt.label); got != tt.want {
			t.Errorf("%s{%s} is %v, want %v", tt.name, tt.label, got, tt.want)
		}
	}
}
