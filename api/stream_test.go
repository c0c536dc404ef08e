package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/csms"
	"holdfast/ocpp"
)

// sse is one open stream.
type sse struct {
	status int
	lines  chan string // without empty ones; closed at the end
	close  context.CancelFunc
}

func (f *fixture) stream(path string) *sse {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", f.url+path, nil)
	check(f.t, err)
	r.Header.Set("Authorization", "Bearer "+f.token)
	answer, err := http.DefaultClient.Do(r)
	check(f.t, err)
	s := &sse{status: answer.StatusCode, lines: make(chan string, 10_000), close: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.lines)
		defer answer.Body.Close()
		for scan := bufio.NewScanner(answer.Body); scan.Scan(); {
			if scan.Text() != "" {
				s.lines <- scan.Text()
			}
		}
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	return s
}

// next returns the next line with a prefix, without it; empty at the end of the stream.
func (s *sse) next(t testing.TB, prefix string) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return ""
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest
			}
		case <-deadline:
			t.Fatalf("no line with %q", prefix)
		}
	}
}

func TestEvents(t *testing.T) {
	f := open(t, t.TempDir(), func(c *api.Config) { c.Heartbeat = 50 * time.Millisecond })
	every, one, booted := f.stream("/api/v1/events"), f.stream("/api/v1/events?station=cs2"), f.stream("/api/v1/events?kinds=booted,status")
	for _, s := range []*sse{every, one, booted} {
		if s.status != 200 {
			t.Fatalf("status %d", s.status)
		}
		s.next(t, ": alive") // open
		s.next(t, ": alive") // a heartbeat
	}
	for _, id := range []ocpp.StationID{"CS1", "CS2"} {
		f.connected(id)
		f.station(id, "BootNotification", `{"chargePointVendor":"V","chargePointModel":"M"}`)
		f.station(id, "StatusNotification", `{"connectorId":1,"errorCode":"NoError","status":"Available"}`)
	}
	kinds := func(s *sse, n int) (got []string) {
		for range n {
			kind := s.next(t, "event: ")
			var e csms.Event
			check(t, json.Unmarshal([]byte(s.next(t, "data: ")), &e))
			if string(e.Kind) != kind {
				t.Errorf("event %s has data %+v", kind, e)
			}
			got = append(got, string(e.Station)+" "+kind)
		}
		slices.Sort(got) // subjects are apart on the bus
		return got
	}
	if got, want := kinds(every, 6), []string{"CS1 booted", "CS1 connected", "CS1 status", "CS2 booted", "CS2 connected", "CS2 status"}; !slices.Equal(got, want) {
		t.Errorf("all: %v, want %v", got, want)
	}
	if got, want := kinds(one, 3), []string{"CS2 booted", "CS2 connected", "CS2 status"}; !slices.Equal(got, want) {
		t.Errorf("of one station: %v, want %v", got, want)
	}
	if got, want := kinds(booted, 4), []string{"CS1 booted", "CS1 status", "CS2 booted", "CS2 status"}; !slices.Equal(got, want) {
		t.Errorf("of two kinds: %v, want %v", got, want)
	}
	f.refused(422, "GET", "/api/v1/events?kinds=coffee", nil)
}

// A client that does not read is dropped and takes nothing from the others.
func TestSlowClient(t *testing.T) {
	events := make(chan csms.Event)
	f := open(t, t.TempDir(), func(c *api.Config) {
		c.WriteTime = 200 * time.Millisecond
		c.Events = func(ctx context.Context, do func(csms.Event)) error {
			for {
				select {
				case e := <-events:
					do(e)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	})
	r, err := http.NewRequest("GET", f.url+"/api/v1/events", nil)
	check(t, err)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	slow, err := http.DefaultClient.Do(r) // and its body is not read
	check(t, err)
	defer slow.Body.Close()
	reader := f.stream("/api/v1/events?station=fast")
	reader.next(t, ": alive")
	big := json.RawMessage(`"` + strings.Repeat("x", 64<<10) + `"`)
	for range 1000 {
		events <- csms.Event{Kind: csms.EventStatus, Station: "slow", Data: big}
	}
	events <- csms.Event{Kind: csms.EventStatus, Station: "fast"}
	if got := reader.next(t, "event: "); got != "status" {
		t.Errorf("the other client got %q", got)
	}
	eventually(t, "the slow client is counted", func() bool { return counted(t, f, "holdfast_api_stream_ends_total", "slow") == 1 })
}

// Streams have places, and end with their token.
func TestStreamLimits(t *testing.T) {
	f := open(t, t.TempDir(), func(c *api.Config) { c.MaxStreams, c.Heartbeat = 2, 20*time.Millisecond })
	added := want[api.NewAPIToken](f, 201, "POST", "/api/v1/tokens", map[string]any{"name": "viewer", "role": "read"})
	f.token = added.Token
	a, b := f.stream("/api/v1/events"), f.stream("/api/v1/events")
	a.next(t, ": alive")
	b.next(t, ": alive")
	f.refused(503, "GET", "/api/v1/events", nil)
	a.close()
	eventually(t, "a place is free again", func() bool {
		s := f.stream("/api/v1/events")
		defer s.close()
		return s.status == 200
	})
	f.token = adminToken
	want[any](f, 200, "DELETE", "/api/v1/tokens/"+added.ID, nil)
	if got := b.next(t, "event: "); got != "end" {
		t.Errorf("after its token was revoked the stream says %q", got)
	}
	if got := b.next(t, "data: "); got != `{"reason":"token"}` {
		t.Errorf("the stream ended with %s", got)
	}
}

func TestMessages(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	log := func(frame string) { check(t, f.bus.LogFrame("g", "CS *1", ocpp.Up, []byte(frame))) }
	const path = "/api/v1/stations/CS%20*1/messages"
	if got := want[api.MessagePage](f, 200, "GET", path, nil); len(got.Items) != 0 {
		t.Errorf("%+v", got)
	}
	for _, frame := range []string{`[2,"1","Heartbeat",{}]`, `[2,"2","Heartbeat",{}]`, `[2,"3","Heartbeat",{}]`} {
		log(frame)
	}
	var page api.MessagePage
	eventually(t, "three messages", func() bool {
		page = want[api.MessagePage](f, 200, "GET", path, nil)
		return len(page.Items) == 3
	})
	if page.Items[0].Frame != `[2,"1","Heartbeat",{}]` || page.Items[0].Direction != "up" || page.After != page.Items[2].Seq {
		t.Errorf("%+v", page)
	}
	first := want[api.MessagePage](f, 200, "GET", path+"?limit=1", nil)
	rest := want[api.MessagePage](f, 200, "GET", path+"?after="+jsonOf(first.After), nil)
	last := want[api.MessagePage](f, 200, "GET", path+"?last=true&limit=1", nil)
	if len(first.Items) != 1 || len(rest.Items) != 2 || len(last.Items) != 1 || last.Items[0].Seq != page.After {
		t.Errorf("first %+v, rest %+v, last %+v", first, rest, last)
	}
	f.refused(422, "GET", path+"?after=-1", nil)
	f.refused(422, "GET", path+"/follow?after=1&tail=1", nil)

	s, fresh := f.stream(path+"/follow?tail=2"), f.stream(path+"/follow")
	fresh.next(t, ": alive")
	for _, want := range []string{`"2"`, `"3"`} {
		var frame api.Frame
		check(t, json.Unmarshal([]byte(s.next(t, "data: ")), &frame))
		if !strings.Contains(frame.Frame, want) {
			t.Errorf("tail: %s, want %s", frame.Frame, want)
		}
	}
	log(`[3,"9",{}]`)
	for _, s := range []*sse{s, fresh} {
		if got := s.next(t, "data: "); !strings.Contains(got, `[3,\"9\",{}]`) {
			t.Errorf("followed: %s", got)
		}
	}
}

func jsonOf(v any) string { data, _ := json.Marshal(v); return string(data) }

// Streams and requests leave no goroutine of ours behind.
func TestNoGoroutineIsLeft(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	round := func() {
		for range 20 {
			for _, path := range []string{"/api/v1/events", "/api/v1/stations/X/messages/follow"} {
				s := f.stream(path)
				s.next(t, ": alive")
				s.close()
			}
			want[api.Caller](f, 200, "GET", "/api/v1/me", nil)
		}
	}
	round() // every part of the fixture has begun by the end of it
	before := ours()
	round()
	eventually(t, "as many goroutines as before", func() bool { return ours() <= before })
}

// ours counts the goroutines that are in code of this module.
func ours() (n int) {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "holdfast/") {
			n++
		}
	}
	return n
}
