package main

import (
	"bytes"
	"crypto/tls"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEchoServers takes every server of the comparison through what it is
// measured with: otherwise a figure could be that of a broken server.
func TestEchoServers(t *testing.T) {
	dir := t.TempDir()
	p, err := newPKI(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.stations(5)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "stations")
	if err := writeCredentials(file, list); err != nil {
		t.Fatal(err)
	}
	cfg, err := serverTLS(dir)
	if err != nil {
		t.Fatal(err)
	}
	for kind, serve := range kinds {
		t.Run(kind, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go serve(l, cfg) // ends with the process
			c, err := newClient(l.Addr().String(), "/ocpp", file, filepath.Join(dir, caFile))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				d, err := c.connect(&connectRequest{Stations: 5, AtOnce: 2})
				if err != nil || d.Count != 5 || d.Failed != 0 {
					t.Fatalf("connect: %+v, %v", d, err)
				}
				for _, size := range []int{0, 100, 125, 126, 16 << 10, 65_000} {
					if d := c.messages(&messagesRequest{Size: size, Heartbeats: 3, AtOnce: 2}); d.Count != 5 {
						t.Errorf("messages of %d bytes: %+v", size, d)
					}
				}
				if _, err := c.do(&request{Leave: true}); err != nil {
					t.Fatal(err)
				}
				if n := len(c.connected()); n != 0 {
					t.Errorf("%d still connected", n)
				}
			}
		})
	}
}

func TestSteadyCountsFailures(t *testing.T) {
	c := &client{}
	if _, err := c.steady(&steadyRequest{Rate: 10, Time: time.Second}); err == nil {
		t.Error("want an error without stations")
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 1000 {
		times = append(times, time.Duration(i+1))
	}
	slices.Sort(times)
	for _, tt := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 501}, {0.99, 991}, {1, 1000}} {
		if got := quantile(times, tt.q); got != tt.want {
			t.Errorf("quantile %v is %d, want %d", tt.q, got, tt.want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

func TestResult(t *testing.T) {
	for frame, want := range map[string]string{
		`[3,"bench1",{"a":1}]`:                   `{"a":1}`,
		`[4,"bench1","InternalError","",{}]`:     "",
		`[2,"bench1","Heartbeat",{}]`:            "",
		`[3,"bench1"]`:                           "",
		`{}`:                                     "",
		`[3,"bench1",{"status":"Accepted"}, {}]`: "",
	} {
		got, err := result([]byte(frame))
		if (err == nil) != (want != "") || string(got) != want {
			t.Errorf("result(%s) = %s, %v", frame, got, err)
		}
	}
}

// TestStorm lets stations come back after a cut, with and without resumption.
func TestStorm(t *testing.T) {
	dir := t.TempDir()
	p, err := newPKI(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.stations(5)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "stations")
	if err := writeCredentials(file, list); err != nil {
		t.Fatal(err)
	}
	cfg, err := serverTLS(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serveWS(l, cfg) // ends with the process
	c, err := newClient(l.Addr().String(), "/ocpp", file, filepath.Join(dir, caFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.storm(&stormRequest{Time: time.Second}); err == nil {
		t.Error("a storm without stations is an error")
	}
	for _, d := range []dialRequest{{}, {TLS12: true}, {Resume: true}, {Resume: true, TLS12: true}} {
		c.dial(&d)
		if d, err := c.connect(&connectRequest{Stations: 5, AtOnce: 5}); err != nil || d.Count != 5 {
			t.Fatalf("connect: %+v, %v", d, err)
		}
		if _, err := c.do(&request{Cut: true}); err != nil {
			t.Fatal(err)
		}
		s, err := c.storm(&stormRequest{Lost: true, Retry: 10 * time.Millisecond, Time: 10 * time.Second})
		if err != nil || s.Back != 5 || s.Stations != 5 || s.Last.Before(s.Start) {
			t.Errorf("storm of %+v: %+v, %v", d, s, err)
		}
		if d := c.messages(&messagesRequest{Heartbeats: 1, AtOnce: 5}); d.Count != 5 {
			t.Errorf("messages after the storm: %+v", d)
		}
		for _, s := range c.stations {
			if got := s.ws.conn.(*tls.Conn).ConnectionState().DidResume; got != d.Resume {
				t.Errorf("%+v: resumed %v", d, got)
			}
		}
		if _, err := c.do(&request{Leave: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompress(t *testing.T) {
	for _, size := range []int{0, 1, 600, 100_000} {
		want := bytes.Repeat([]byte("ab"), size)
		packed, err := compress(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decompress(packed)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes come back as %d: %v", len(want), len(got), err)
		}
	}
}

func TestParseHeap(t *testing.T) {
	got, err := parseHeap(strings.NewReader(`heap profile: 3: 1300 [9: 9000] @ heap/1
2: 1000 [4: 4000] @ 0x1 0x2
#	0x1	crypto/tls.aeadAESGCM+0x10		crypto/tls/cipher_suites.go:1
#	0x2	holdfast/ws.(*Server).opening+0x20	holdfast/ws/open.go:1

1: 200 [1: 200] @ 0x1 0x2
#	0x1	bytes.Clone+0x10	bytes/bytes.go:1
#	0x2	holdfast/ws.(*Server).opening+0x20	holdfast/ws/open.go:1

0: 0 [1: 4800] @ 0x1
#	0x1	holdfast/gateway.New+0x1	x.go:1

1: 100 [1: 100] @ 0x1
#	0x1	runtime.allocm+0x1	x.go:1

# runtime.MemStats
# Alloc = 1
`))
	want := map[string]int64{"TLS: ciphers": 1000, "WebSocket: connection": 200, otherPart: 100}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestRewrite(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(doc, []byte("head\n"+markBegin+"stale\n"+markEnd+"tail\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := figures{Go: "go1", Table: &tablePart{Rows: []variantRow{{Variant: "new", Heap: 1234}}}}
	for range 2 {
		if err := f.rewrite(doc); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(doc)
	if s := string(text); err != nil || !strings.HasPrefix(s, "head\n"+markBegin) || !strings.HasSuffix(s, markEnd+"tail\n") ||
		strings.Count(s, "| new | 1234 |") != 1 || strings.Contains(s, "stale") {
		t.Errorf("%s, %v", s, err)
	}
}
