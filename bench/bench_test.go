package main

import (
	"net"
	"path/filepath"
	"slices"
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
