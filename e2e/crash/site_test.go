package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/store/storetest"
)

// site is one installation: every role in processes of its own.
type site struct {
	t         *testing.T
	broker    *e2e.Broker
	database  *storetest.Server // nil: SQLite, one per role
	url       string            // of the database
	authority *e2e.Node
	csms      []*e2e.Node
	gateways  [2]*e2e.Node
}

// The names of the gateways in the record.
var gatewayIDs = [2]string{"gw-a", "gw-b"}

// newSite starts authority, csms and two gateways: with SQLite one csms, with
// PostgreSQL two.
func newSite(t *testing.T, database *storetest.Server) *site {
	t.Helper()
	s := &site{t: t, database: database, broker: e2e.NewBroker(t)}
	var record []string
	processes := 1
	if database != nil {
		s.url = database.Database(t)
		record = []string{"--database", s.url}
		processes = 2
	}
	s.authority = s.node("authority", append(record, "admin")...)
	for range processes {
		s.csms = append(s.csms, s.node("csms", append(record, "api", "admin")...))
	}
	for i, id := range gatewayIDs {
		// A station repeats after callTimeout: its first CALL must not block it longer.
		s.gateways[i] = s.node("gateway", "--gateway-id", id, "--call-time", callTimeout.String(), "--drain-time", "3s", "tls", "mtls", "admin")
	}
	s.awaitReady(s.nodes()...)
	t.Cleanup(func() { // what a role may do on the bus is listed in bus/role.go
		for _, n := range s.nodes() {
			for line := range strings.Lines(n.Tail(8 << 20)) {
				if strings.Contains(strings.ToLower(line), "permissions violation") {
					t.Errorf("%s: %s", n.Args[0], line)
				}
			}
		}
	})
	return s
}

// node starts a role. What is no flag names a port.
func (s *site) node(role string, args ...string) *e2e.Node {
	n := e2e.Ports(s.t, s.t.TempDir())
	n.Args = append([]string{role}, s.broker.Args(role)...)
	if role != "gateway" {
		n.Args = append(n.Args, "--data", n.Data)
	}
	for _, a := range args {
		if slices.Contains([]string{"api", "admin", "tls", "mtls"}, a) {
			n.Args = append(n.Args, n.ListenArgs(a)...)
		} else {
			n.Args = append(n.Args, a)
		}
	}
	n.Restart()
	return n
}

func (s *site) nodes() []*e2e.Node {
	return slices.Concat([]*e2e.Node{s.authority}, s.csms, s.gateways[:])
}

// reasons asks a process why it is not ready: nothing if it is.
func reasons(n *e2e.Node) []string {
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(n.Admin + "/readyz")
	if err != nil {
		return []string{err.Error()}
	}
	defer r.Body.Close()
	var answer struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons"`
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return []string{err.Error()}
	}
	if answer.Status != "ready" && len(answer.Reasons) == 0 {
		return []string{answer.Status + " without a reason"}
	}
	return answer.Reasons
}

// awaitReady waits until the processes say by themselves that they are ready.
func (s *site) awaitReady(nodes ...*e2e.Node) {
	s.t.Helper()
	for _, n := range nodes {
		n.AwaitReady()
	}
}

// awaitNotReady waits until each of the processes names a reason that contains why.
func (s *site) awaitNotReady(t *testing.T, why string, nodes ...*e2e.Node) {
	t.Helper()
	for _, n := range nodes {
		var last []string
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if last = reasons(n); strings.Contains(strings.Join(last, "\n"), why) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s gives the reasons %q, want one with %q", n.Args[0], last, why)
				break
			}
		}
	}
}

// check asks the gateways whether their counts agree.
func (s *site) check(t *testing.T) {
	t.Helper()
	for _, n := range s.gateways {
		if n.Ended() {
			continue
		}
		var answer []byte
		r, err := http.Get(n.Admin + "/debug/check")
		if err == nil {
			answer, err = io.ReadAll(r.Body)
			r.Body.Close()
		}
		if err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("/debug/check: %v %s", err, answer)
		}
	}
}

// ask calls the operator API of n, decodes the answer into out unless that is
// nil, and returns the HTTP status. The error says that there was no answer.
func ask(ctx context.Context, n *e2e.Node, method, path string, body, out any) (int, error) {
	token, err := os.ReadFile(filepath.Join(n.Data, "token"))
	if err != nil {
		return 0, err
	}
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		payload = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, n.API+path, payload)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := operator.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return answer.StatusCode, fmt.Errorf("%s %s: %s: %w", method, path, data, err)
		}
	}
	if answer.StatusCode >= 400 && out == nil {
		return answer.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, data)
	}
	return answer.StatusCode, nil
}

// atOnce is how many requests to the operator API run at a time.
const atOnce = 16

var operator = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}

// list reads all items of a list of the operator API.
func list(ctx context.Context, n *e2e.Node, path string, query url.Values) ([]json.RawMessage, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", strconv.Itoa(1000))
	items := []json.RawMessage{}
	for {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next_cursor"`
		}
		if status, err := ask(ctx, n, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("list %s: %d %w", path, status, err)
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
}
