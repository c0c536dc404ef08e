package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/e2e"
)

// account is what /debug/memory says, as far as it must agree with the kernel.
type account struct {
	RSS      int64            `json:"rss_bytes"`
	Classes  map[string]int64 `json:"classes"`
	GoMapped int64            `json:"go_mapped_bytes"`
	GoLimit  int64            `json:"go_limit_bytes"`
	Kernel   struct {
		Sockets       int   `json:"sockets"`
		SocketBuffers int64 `json:"socket_buffer_bytes"`
	} `json:"kernel"`
	Cgroup *struct {
		Version    int   `json:"version"`
		WorkingSet int64 `json:"working_set_bytes"`
		Anon       int64 `json:"anon_bytes"`
		ActiveFile int64 `json:"active_file_bytes"`
		Kernel     int64 `json:"kernel_bytes"`
		Socket     int64 `json:"socket_bytes"`
		Remainder  int64 `json:"remainder_bytes"`
	} `json:"cgroup"`
	Files   int `json:"files"`
	Cohorts []struct {
		Profile       string `json:"profile"`
		Connections   int    `json:"connections"`
		SocketBuffers int64  `json:"socket_buffer_bytes"`
	} `json:"cohorts"`
}

// of adds up the cohorts of a security profile.
func (a account) of(profile int) (connections int, buffers int64) {
	for _, c := range a.Cohorts {
		if c.Profile == strconv.Itoa(profile) {
			connections += c.Connections
			buffers += c.SocketBuffers
		}
	}
	return connections, buffers
}

var rollupField = regexp.MustCompile(`(?m)^(Rss|Anonymous): +(\d+) kB$`)

// resident is what the kernel says of a process, page by page.
func resident(t *testing.T, pid int) (rss, anonymous int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range rollupField.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if m[1] == "Rss" {
			rss = n << 10
		} else {
			anonymous = n << 10
		}
	}
	return rss, anonymous
}

// within reports whether n lies between two readings, 2 % of most allowed for.
func within(n, a, b, most int64) bool {
	return n >= min(a, b)-most/50 && n <= max(a, b)+most/50
}

// accounted reads the account of a process and compares it with what the kernel
// says of it from outside, before and after: a runtime may return memory at any
// time. A process that changes by more than the tolerance meanwhile is read again.
func accounted(t *testing.T, n *e2e.Node, state string) account {
	t.Helper()
	for try := 1; ; try++ {
		rss1, anon1 := resident(t, n.PID())
		r, err := http.Get(n.Admin + "/debug/memory")
		if err != nil {
			t.Fatal(err)
		}
		var a account
		err = json.NewDecoder(r.Body).Decode(&a)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		rss2, anon2 := resident(t, n.PID())
		if d := rss2 - rss1; (d > rss1/50 || -d > rss1/50) && try < 10 {
			continue
		}
		all := int64(0)
		for _, v := range a.Classes {
			all += v
		}
		anon := all - a.Classes["file"] - a.Classes["shared"]
		t.Logf("%s: the classes are %.2f MB, the kernel's RSS %.2f and %.2f MB: %v", state, float64(all)/(1<<20), float64(rss1)/(1<<20), float64(rss2)/(1<<20), a.Classes)
		if !within(all, rss1, rss2, rss1) {
			t.Errorf("%s: the classes add up to %d, the kernel said %d and then %d", state, all, rss1, rss2)
		}
		if !within(anon, anon1, anon2, rss1) {
			t.Errorf("%s: the anonymous classes add up to %d, the kernel said %d and then %d", state, anon, anon1, anon2)
		}
		gos := anon - a.Classes["off_heap"]
		if gos != a.GoMapped {
			t.Errorf("%s: Go's classes add up to %d, Go has mapped %d", state, gos, a.GoMapped)
		}
		for class, v := range a.Classes {
			if v < 0 && class != "off_heap" {
				t.Errorf("%s: %s is %d", state, class, v)
			}
		}
		if c := a.Cgroup; c != nil {
			sum := c.Anon + c.ActiveFile + c.Kernel + c.Remainder
			if c.Version == 2 {
				sum += c.Socket
			}
			if sum != c.WorkingSet {
				t.Errorf("%s: the parts of the cgroup add up to %d, its working set is %d", state, sum, c.WorkingSet)
			}
			if c.WorkingSet > 0 && (c.Remainder > c.WorkingSet/10 || -c.Remainder > c.WorkingSet/10) {
				t.Errorf("%s: nothing explains %d of the working set of %d", state, c.Remainder, c.WorkingSet)
			}
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
		if err != nil {
			t.Fatal(err)
		}
		if d := len(files) - a.Files; d < -10 || d > 10 { // requests and database files come and go
			t.Errorf("%s: %d files, the kernel has %d", state, a.Files, len(files))
		}
		return a
	}
}

// TestAccountAddsUp takes the memory account of a process in every state that
// stations bring it into, without and under a memory limit, and compares it with
// what the kernel says.
func TestAccountAddsUp(t *testing.T) {
	for _, limit := range []string{"", "40MiB"} {
		t.Run("GOMEMLIMIT="+limit, func(t *testing.T) {
			if limit != "" {
				t.Setenv("GOMEMLIMIT", limit)
			}
			n := all(t)
			var each [4][]station
			for profile := 1; profile <= 3; profile++ {
				each[profile] = addMany(t, n, fmt.Sprintf("A%d-", profile), accountStations, profile, nil)
			}
			idle := accounted(t, n, "idle")
			if limit != "" && idle.GoLimit != 40<<20 {
				t.Errorf("the limit is %d", idle.GoLimit)
			}

			var mu sync.Mutex
			var peers [4][]*peer
			together(t, each, func(profile int, s station) error {
				p, err := booted(s)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				peers[profile] = append(peers[profile], p)
				return nil
			})
			loaded := accounted(t, n, "loaded")
			for profile := 1; profile <= 3; profile++ {
				if got, _ := loaded.of(profile); got != accountStations {
					t.Errorf("%d connections of profile %d, want %d: %+v", got, profile, accountStations, loaded.Cohorts)
				}
			}

			large := `{"vendorId":"V","data":"` + strings.Repeat("x", 64<<10) + `"}`
			together(t, peers, func(_ int, p *peer) error {
				for range 3 {
					if _, err := p.tryCall("DataTransfer", large, patience); err != nil {
						return err
					}
				}
				return nil
			})
			accounted(t, n, "64 KB messages")

			slow(t, n, each[1], peers[1], large)

			together(t, peers, func(_ int, p *peer) error { p.reset(); return nil })
			for range 3 {
				together(t, each, func(_ int, s station) error {
					p, err := booted(s)
					if err != nil {
						return err
					}
					p.reset()
					return nil
				})
			}
			n.Await("nobody is connected", 20*time.Second, func() bool { return n.Metric("holdfast_connections") == 0 })
			after := accounted(t, n, "after churn")
			for profile := 1; profile <= 3; profile++ {
				if got, buffers := after.of(profile); got != 0 || buffers != 0 {
					t.Errorf("%d connections and %d bytes are left of profile %d", got, buffers, profile)
				}
			}
		})
	}
}

// accountStations is how many stations of each security profile connect.
const accountStations = 60

// together does something with everyone of each profile, eight at a time.
func together[T any](t *testing.T, each [4][]T, do func(profile int, one T) error) {
	t.Helper()
	var eg errgroup.Group
	eg.SetLimit(8)
	for profile, list := range each {
		for _, one := range list {
			eg.Go(func() error { return do(profile, one) })
		}
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
}

// slow sends a large CALL to stations that do not read it: what waits for them
// is in the account of their cohort.
func slow(t *testing.T, n *e2e.Node, stations []station, peers []*peer, payload string) {
	t.Helper()
	for _, p := range peers {
		if err := p.tcp.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
	}
	_, before := accounted(t, n, "before slow readers").of(1)
	want := before + int64(len(peers))*16<<10
	for _, s := range stations {
		if status := n.Do("POST", "/api/v1/stations/"+s.id+"/calls", map[string]any{"action": "DataTransfer", "payload": json.RawMessage(payload), "async": true}, nil); status != http.StatusAccepted {
			t.Fatalf("a CALL for later: %d", status)
		}
	}
	n.Await("data waits in the kernel", 20*time.Second, func() bool {
		return n.Metric("holdfast_memory_cohort_socket_buffer_bytes", `profile="1"`) >= float64(want)
	})
	a := accounted(t, n, "slow readers")
	_, plain := a.of(1)
	_, mtls := a.of(3)
	if plain < want || mtls > plain/10 || a.Kernel.SocketBuffers < plain {
		t.Errorf("socket buffers: %d of profile 1, %d of profile 3, %d in all; want %d of profile 1 and none of profile 3", plain, mtls, a.Kernel.SocketBuffers, want)
	}
}
