//go:build linux

package memory

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func gather(t *testing.T, a *Account) map[string]map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(a.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]map[string]float64)
	for _, f := range families {
		values[f.GetName()] = make(map[string]float64)
		for _, m := range f.GetMetric() {
			label := ""
			for _, l := range m.GetLabel() {
				label = l.GetValue()
			}
			values[f.GetName()][label] = m.GetGauge().GetValue()
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	a := NewAccount()
	values := gather(t, a)
	classes, rss := values["holdfast_memory_bytes"], 0.0
	for _, c := range Classes() {
		v, ok := classes[string(c)]
		if !ok {
			t.Errorf("no class %s", c)
		}
		rss += v
	}
	if len(classes) != len(Classes()) || rss < 1<<20 {
		t.Errorf("%d classes add up to %v", len(classes), rss)
	}
	if len(values["holdfast_memory_kernel_bytes"]) != 3 {
		t.Errorf("kernel memory: %v", values["holdfast_memory_kernel_bytes"])
	}
	r, err := a.Read()
	if err != nil {
		t.Fatal(err)
	}
	if r.Cgroup != nil {
		if v, ok := values["holdfast_memory_working_set_bytes"][""]; !ok || v <= 0 {
			t.Errorf("working set %v", v)
		}
		if v, ok := values["holdfast_memory_limit_bytes"][""]; !ok || v != float64(r.Cgroup.Limit) {
			t.Errorf("limit %v, want %d", v, r.Cgroup.Limit)
		}
	}
	if v, ok := values["holdfast_memory_per_connection_bytes"]; ok {
		t.Errorf("per connection without connections: %v", v)
	}
}

func TestMetricsPerConnection(t *testing.T) {
	for _, tt := range []struct {
		name        string
		connections map[string]int
		want        []string
	}{
		{"none", map[string]int{"1": 0, "2": 0, "3": 0}, nil},
		{"mixed", map[string]int{"2": 100, "3": 1}, []string{"all"}},
		{"pure", map[string]int{"1": 0, "2": 0, "3": 100}, []string{"3", "all"}},
		{"unknown profile", map[string]int{"station-17": 100}, []string{"all"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := NewAccount()
			a.SetStations(Stations{Connections: func() map[string]int { return tt.connections }})
			got := gather(t, a)["holdfast_memory_per_connection_bytes"]
			if len(got) != len(tt.want) {
				t.Errorf("labels of %v, want %v", got, tt.want)
			}
			for _, label := range tt.want {
				if _, ok := got[label]; !ok {
					t.Errorf("no label %s in %v", label, got)
				}
			}
		})
	}
}
