package access_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/bus"
	"holdfast/e2e"
)

// logged takes the log lines of a bus client.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// TestStolenGatewayCredentials: who has the bus credentials of a gateway cannot
// have certificates issued, register stations or read the audit record of a
// running authority; NATS refuses it. With those of the csms the same works.
func TestStolenGatewayCredentials(t *testing.T) {
	broker := e2e.NewBroker(t)
	authority := e2e.Ports(t, t.TempDir())
	authority.Args = append(append([]string{"authority", "--data", authority.Data}, broker.Args("authority")...), authority.ListenArgs("admin")...)
	authority.Restart()
	authority.AwaitReady()
	open := func(role bus.Role) (*bus.Bus, *logged) {
		lines := &logged{}
		b, err := bus.Open(t.Context(), bus.Config{
			URL: broker.URL, Role: role, Credentials: filepath.Join(broker.Dir, string(role)+".creds"), Logger: slog.New(slog.NewTextHandler(lines, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b, lines
	}
	csms, _ := open(bus.RoleCSMS)
	thief, lines := open(bus.RoleGateway)
	for _, tt := range []struct{ subject, request string }{
		{"authority.station.add", `{"by":"x","station":{"id":"VICTIM","profile":3}}`},
		{"authority.certificate.issue", `{"by":"x","station":"VICTIM"}`},
		{"authority.certificate.sign", `{"by":"x","station":"VICTIM","csr":"x"}`},
		{"authority.audit.list", `{}`},
		{"authority.station.list", `{}`},
	} {
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // the refusal below is what counts
		answer, err := thief.Request(short, tt.subject, []byte(tt.request))
		cancel()
		if err == nil {
			t.Errorf("%s: answered %s", tt.subject, answer)
		}
		e2e.Await(t, "NATS refuses "+tt.subject, 10*time.Second, func() bool { return lines.has(`to \"` + tt.subject + `\"`) })
	}
	if _, err := thief.Request(t.Context(), "authority.trust", []byte(`{}`)); err != nil {
		t.Errorf("what a gateway may ask: %v", err)
	}
	audit, err := csms.Request(t.Context(), "authority.audit.list", []byte(`{}`))
	if err != nil || strings.Contains(string(audit), "VICTIM") || !strings.Contains(string(audit), "ca.record") {
		t.Errorf("the audit record: %s, %v", audit, err)
	}
}
