package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
)

func TestRoles(t *testing.T) {
	const n = 20
	started, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	for range n {
		go pprof.Do(context.Background(), pprof.Labels(RoleLabel, "waiting"), func(context.Context) {
			started <- struct{}{}
			<-end
			ended <- struct{}{}
		})
	}
	for range n {
		<-started
	}
	if got := Roles()["waiting"]; got != n {
		t.Errorf("%d goroutines of the role, want %d", got, n)
	}
	// One profile has both the goroutines and their number, so nothing that
	// other tests left to end can come in between.
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	var total int
	if _, err := fmt.Sscanf(profile.String(), "goroutine profile: total %d\n", &total); err != nil {
		t.Fatal(err)
	}
	roles, sum := parseRoles(profile.String()), 0
	for _, k := range roles {
		sum += k
	}
	if sum != total {
		t.Errorf("roles %v add up to %d, there are %d goroutines", roles, sum, total)
	}
	if roles["waiting"] != n || roles[NoRole] < 1 { // this goroutine has none
		t.Errorf("roles %v, want %d waiting and at least 1 without a role", roles, n)
	}
	close(end)
	for range n {
		<-ended
	}
}

func TestParseRoles(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]int
	}{
		{"empty", "", map[string]int{}},
		{"labels", "goroutine profile: total 8\n3 @ 0x1 0x2\n# labels: {\"role\":\"worker\"}\n#\t0x1\tmain.f+0x1\tf.go:1\n\n" +
			"4 @ 0x3\n#\t0x3\tmain.g\n\n1 @ 0x4\n# labels: {\"other\":\"x\"}\n", map[string]int{"worker": 3, NoRole: 5}},
		{"two stacks of a role", "1 @ 0x1\n# labels: {\"role\":\"a\"}\n2 @ 0x2\n# labels: {\"role\":\"a\"}\n", map[string]int{"a": 3}},
		{"labels that cannot be read", "2 @ 0x1\n# labels: {role\n", map[string]int{NoRole: 2}},
		{"labels of nothing", "# labels: {\"role\":\"a\"}\n", map[string]int{}},
		{"no number", "x @ 0x1\n", map[string]int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseRoles(tt.text); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	var b strings.Builder
	for i := range 2 * maxRoles {
		b.WriteString("1 @ 0x1\n# labels: {\"role\":\"" + strconv.Itoa(i) + "\"}\n")
	}
	if got := parseRoles(b.String()); len(got) != maxRoles+1 || got[otherRole] != maxRoles {
		t.Errorf("%d roles, %d beyond the bound", len(got), got[otherRole])
	}
}

func BenchmarkRoles(b *testing.B) {
	for b.Loop() {
		Roles()
	}
}
