package leak

import (
	"strings"
	"testing"
	"time"
)

// A leak of this test's own: three bundles at the verdict, +25 % and +50 %, and
// the diff names who keeps.
func TestEvidence(t *testing.T) {
	for name, dir := range map[string]string{"memory": "", "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			defer func() { diffKept = nil }()
			e, err := OpenEvidence(EvidenceConfig{Dir: dir, TraceTime: 10 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			v := Verdict{ID: verdictID("p", epoch, HeapLive, 1), Class: HeapLive, State: Leaking}
			var found *Findings
			step := func(kept float64, connections int, after time.Duration) {
				t.Helper()
				v.Kept = kept
				keepsForTest(100)
				f, err := e.Look(t.Context(), Sample{Time: epoch.Add(after), Connections: connections, Opened: Opened{MTLS: int64(kept)}}, []Verdict{v})
				if err != nil {
					t.Fatal(err)
				}
				if f != nil {
					found = f
				}
			}
			for i, s := range []struct {
				kept        float64
				connections int
				bundles     int
			}{
				{1000, 500, 1},
				{1100, 500, 1}, // not enough growth
				{1300, 800, 1}, // another number of connections
				{1310, 505, 2},
				{1600, 495, 3},
				{9000, 500, 3}, // done
			} {
				step(s.kept, s.connections, time.Duration(i)*time.Hour)
				if n := len(e.List()); n != s.bundles {
					t.Fatalf("step %d: %d bundles, want %d", i, n, s.bundles)
				}
			}
			if found == nil || len(found.Moments) != 3 || !strings.Contains(found.Heap.Rows[0].Name, "keepsForTest") || found.Heap.Rows[0].PerReconnect <= 0 {
				t.Fatalf("findings %+v", found)
			}
			files := strings.Join(e.List()[0].Files, " ")
			for _, want := range []string{"heap.pb.gz", "goroutine.pb.gz", "moment.json", "smaps_rollup.txt", "trace.out"} {
				if !strings.Contains(files, want) {
					t.Errorf("%s is not among %s", want, files)
				}
			}
			for _, hostile := range [][2]string{{"..", "x"}, {e.List()[0].Name, "../x"}, {e.List()[0].Name, ""}, {"", "heap.pb.gz"}} {
				if _, err := e.File(hostile[0], hostile[1]); err == nil {
					t.Errorf("%q is served", hostile)
				}
			}
			if dir != "" { // a restart finds them
				again, err := OpenEvidence(EvidenceConfig{Dir: dir})
				if err != nil || len(again.List()) != 3 {
					t.Errorf("%d bundles after a restart, %v", len(again.List()), err)
				}
			}
			for i := range maxBundles + 5 {
				w := Verdict{ID: verdictID("q", epoch, HeapLive, i), Class: HeapLive, State: Leaking, Kept: 1}
				if err := e.keep(w.ID+"-0", map[string][]byte{"x": make([]byte, 1<<20)}); err != nil {
					t.Fatal(err)
				}
			}
			total := int64(0)
			for _, b := range e.List() {
				total += b.Size
			}
			if n := len(e.List()); n > maxBundles || dir == "" && total > maxEvidenceMemory {
				t.Errorf("%d bundles, %d bytes kept", n, total)
			}
		})
	}
}

func TestRetainedCohort(t *testing.T) {
	for _, tt := range []struct {
		zombies, opened Opened
		want            Cohort
	}{
		{Opened{0, 3}, Opened{100, 100}, CohortUnknown},
		{Opened{0, 30}, Opened{100, 100}, CohortMTLS},
		{Opened{30, 0}, Opened{100, 100}, CohortTLS},
		{Opened{20, 30}, Opened{100, 100}, CohortBoth},
		{Opened{0, 30}, Opened{5, 100}, CohortUndetermined},
	} {
		if got := retainedCohort(tt.zombies, tt.opened); got != tt.want {
			t.Errorf("%+v of %+v: %q, want %q", tt.zombies, tt.opened, got, tt.want)
		}
	}
}
