package station_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
)

// news is one event of the event stream.
type news struct {
	Kind    string
	Station string
	Data    struct {
		Version, Registration, Vendor, Status, Event string
		Profile                                      int
	}
}

// follow reads a station's events until the test ends.
func follow(t *testing.T, n *e2e.Node, id string) <-chan news {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.Data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", n.API+"/api/v1/events?station="+url.QueryEscape(id), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("event stream: HTTP %d, %s", answer.StatusCode, kind)
	}
	events, done := make(chan news, 64), make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		name := ""
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
			case "event":
				name = value
			case "data":
				var e news
				if err := json.Unmarshal([]byte(value), &e); err != nil || e.Kind != name {
					t.Errorf("event %s: %s: %v", name, value, err)
				}
				events <- e
			}
		}
	}()
	t.Cleanup(func() { answer.Body.Close(); <-done })
	return events
}

// TestEvents: operators see live what a station does.
func TestEvents(t *testing.T) {
	n := e2e.All(t)
	if status := n.Do("PUT", "/api/v1/id-tokens/TAG1", m{"status": "Accepted"}, nil); status/100 != 2 {
		t.Fatalf("add ID token: %d", status)
	}
	for _, s := range []story{v16, v2x("2.0.1"), v2x("2.1")} {
		t.Run(s.version, func(t *testing.T) {
			id := "EVENTS." + s.version
			events := follow(t, n, id)
			set := register(t, n, id, 2)
			set.Protocol, set.Strict, set.Answers = "ocpp"+s.version, s.version != "2.1", m{} // its schemas of 2.1 go by other names
			st := connect(t, set)
			s.boot(st)
			s.charge(st)
			st.in.Close()

			var kinds []string
			for kind := ""; kind != "disconnected"; {
				select {
				case e := <-events:
					kind = e.Kind
					kinds = append(kinds, kind+e.Data.Event)
					switch {
					case e.Station != id,
						kind == "connected" && (e.Data.Version != s.version || e.Data.Profile != 2),
						kind == "booted" && (e.Data.Registration != "Accepted" || e.Data.Vendor != "ACME"),
						kind == "status" && e.Data.Status != "Available":
						t.Errorf("%+v", e)
					}
				case <-time.After(30 * time.Second):
					t.Fatalf("no more events after %v", kinds)
				}
			}
			want := []string{"connected", "booted", "status", "transactionStarted", "transactionEnded", "disconnected"}
			if s.version != "1.6" {
				want = slices.Insert(want, 4, "transactionUpdated")
			}
			// The connection is recorded beside the station's messages, not before them.
			if i := slices.Index(kinds, "connected"); i > 0 {
				kinds = slices.Insert(slices.Delete(kinds, i, i+1), 0, "connected")
			}
			if !slices.Equal(kinds, want) {
				t.Errorf("events %v, want %v", kinds, want)
			}
		})
	}
}
