package leak

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

var diffKept [][]byte

// keepsForTest keeps blocks that are 16 times the heap profile's sampling
// interval: each is sampled, and none counts for more than it is.
//
//go:noinline
func keepsForTest(n int) {
	for range n {
		diffKept = append(diffKept, make([]byte, 8<<20))
	}
}

// A real heap profile names the function that keeps.
func TestDiffHeap(t *testing.T) {
	defer func() { diffKept = nil }()
	shot := func() *bytes.Buffer {
		runtime.GC()
		var b bytes.Buffer
		if err := pprof.Lookup("heap").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	shots := []io.Reader{shot()}
	for range 2 {
		keepsForTest(5)
		shots = append(shots, shot())
	}
	d, err := Diff(DiffConfig{Connections: 100, Reconnects: 10}, shots...)
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "heap" || d.Unit != "bytes" || len(d.Rows) == 0 {
		t.Fatalf("%+v", d)
	}
	r := d.Rows[0]
	if !strings.Contains(r.Name, "keepsForTest") || r.Growth>>20 < 79 || r.Growth>>20 > 80 || r.PerReconnect != float64(r.Growth)/10 {
		t.Errorf("first is %+v", r)
	}
}

func TestDiffGoroutines(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	start := func(n int) {
		for range n {
			go func() { <-stop }()
		}
	}
	shot := func() io.Reader {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	a := shot()
	start(50)
	b := shot()
	d, err := Diff(DiffConfig{}, a, b)
	if err != nil {
		t.Fatal(err)
	}
	waiting := int64(0) // some may not have come as far as to wait: they have another stack
	for _, r := range d.Rows {
		if strings.Contains(r.Name, "TestDiffGoroutines.func1") {
			waiting += r.Growth
		}
	}
	if d.Kind != "goroutine" || waiting != 50 {
		t.Errorf("%+v", d.Rows)
	}
}

// What grew in one interval only ranks behind what grew in both.
func TestDiffRanksPersistence(t *testing.T) {
	shot := func(burst, steady int64) io.Reader {
		f := func(id uint64, name string) *profile.Function {
			return &profile.Function{ID: id, Name: name, Filename: "x.go"}
		}
		p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "inuse_space", Unit: "bytes"}}}
		for i, v := range []int64{burst, steady} {
			id := uint64(i + 1)
			fn := f(id, []string{"main.burst", "main.steady"}[i])
			l := &profile.Location{ID: id, Line: []profile.Line{{Function: fn, Line: 1}}}
			p.Function, p.Location = append(p.Function, fn), append(p.Location, l)
			p.Sample = append(p.Sample, &profile.Sample{Location: []*profile.Location{l}, Value: []int64{v}})
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	d, err := Diff(DiffConfig{}, shot(0, 0), shot(1000, 100), shot(1001, 200))
	if err != nil {
		t.Fatal(err)
	}
	if d.Rows[0].Name != "main.steady x.go:1" || d.Rows[0].Growth != 200 || d.Rows[1].Growth != 2 {
		t.Errorf("%+v", d.Rows)
	}
}

func TestDiffRefuses(t *testing.T) {
	snap := `{"snapshot":{"meta":{"node_fields":["type","name","id","self_size"],"node_types":[["hidden","object"]]}},"nodes":[],"strings":[]}`
	for _, tt := range []struct {
		in   []string
		want string
	}{
		{[]string{"x"}, "two or three"},
		{[]string{"", "x"}, "profile 1"},
		{[]string{"hello", "world"}, "neither a profile"},
		{[]string{snap, "x"}, "compare like with like"},
		{[]string{"{}", "{}"}, "no nodes"},
		{[]string{`{"nodes":[1]`, "{}"}, "before their description"},
		{[]string{`{"snapshot":{"meta":{"node_fields":["a"]}}}`, "{}"}, "without type"},
		{[]string{`{"x":` + strings.Repeat("[", 100), "{}"}, "too deeply"},
		{[]string{snap[:len(snap)-2], snap}, "early"},
		{[]string{"heap profile: 1: 2", "x"}, "debug=1"},
	} {
		var readers []io.Reader
		for _, s := range tt.in {
			readers = append(readers, strings.NewReader(s))
		}
		if _, err := Diff(DiffConfig{}, readers...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v, want %q", tt.in, err, tt.want)
		}
	}
}

// snapshotText is a V8 heap snapshot of objects of class Leaky with ids from 1
// in steps of 2.
func snapshotText(ids []int, size int) string {
	var nodes []string
	for _, id := range ids {
		nodes = append(nodes, fmt.Sprintf("1,1,%d,%d,0", id, size), fmt.Sprintf("0,2,%d,8,0", 100000+id))
	}
	return `{"snapshot":{"meta":{"node_fields":["type","name","id","self_size","edge_count"],"node_types":[["string","object"],"x"],"other":[{"a":[null,true,-1.5e3]}]},"node_count":1},
"nodes":[` + strings.Join(nodes, ",\n") + `],"edges":[1,2,3],"strings":["","Leaky \"é\u00e9","text that is no name"]}`
}

func TestDiffSnapshots(t *testing.T) {
	in := func(ids ...int) io.Reader { return strings.NewReader(snapshotText(ids, 100)) }
	// 5 and 7 come and stay, 9 comes and goes, 1 goes.
	d, err := Diff(DiffConfig{Reconnects: 2}, in(1, 3), in(3, 5, 7, 9), in(3, 5, 7, 11, 13))
	if err != nil {
		t.Fatal(err)
	}
	r := d.Rows[0]
	if d.Kind != "v8" || r.Name != `Leaky "éé` || r.Kept != 200 || r.Growth != 200 || r.PerReconnect != 100 {
		t.Errorf("%+v", r)
	}
	if len(d.Rows) != 2 || d.Rows[1].Name != "string" {
		t.Errorf("%+v", d.Rows)
	}
}

// The snapshots of a real Node.js.
func TestDiffNodeSnapshots(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no node")
	}
	if raceEnabled {
		t.Skip("parsing megabytes, without goroutines")
	}
	dir := t.TempDir()
	script := `const v8=require('v8');class LeakyStation{constructor(){this.a=1;this.b={}}};const kept=[];
for(let i=0;i<3;i++){for(let k=0;k<5000;k++)kept.push(new LeakyStation());v8.writeHeapSnapshot(process.argv[1]+'/'+i+'.heapsnapshot')}`
	if out, err := exec.Command(node, "-e", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var readers []io.Reader
	for i := range 3 {
		f, err := os.Open(filepath.Join(dir, fmt.Sprint(i, ".heapsnapshot")))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readers = append(readers, f)
	}
	d, err := Diff(DiffConfig{Reconnects: 10000}, readers...)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range d.Rows[:min(5, len(d.Rows))] {
		t.Logf("%+v", r)
		if r.Name == "LeakyStation" {
			if i > 2 || r.Kept < 5000*16 {
				t.Errorf("at place %d: %+v", i, r)
			}
			return
		}
	}
	t.Error("LeakyStation is not among the first")
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte(snapshotText([]int{1, 3}, 50)))
	f.Add([]byte(`{"snapshot":{"meta":{}},"x":[[],{},"\u00e9\\",1.5,null]}`))
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 0)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Diff(DiffConfig{Connections: 1}, bytes.NewReader(data), bytes.NewReader(data))
		if err == nil && len(d.Rows) > 0 {
			t.Errorf("a profile differs from itself: %+v", d.Rows)
		}
	})
}
