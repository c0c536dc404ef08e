package main

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestCheckGoroutines(t *testing.T) {
	always := func(n int) func(int) int { return func(int) int { return n } }
	for _, tt := range []struct {
		name        string
		should, are func(look int) int
		want        string // of the error; empty: none
	}{
		{"equal", always(16), always(16), ""},
		{"one is held", always(16), always(17), "1 more of role \"worker\""},
		{"one is lost", always(16), always(14), "2 fewer of role \"worker\""},
		{"they come and go", func(look int) int { return look % 7 }, func(look int) int { return (look + 3) % 7 }, ""},
		{"one goes late", always(0), func(look int) int { return max(0, 19-look) }, ""},
		{"they come and go, and two stay", func(look int) int { return look % 3 }, func(look int) int { return look%3 + 2 }, "2 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				look := 0
				err := checkGoroutines(
					func() map[string]int { look++; return map[string]int{"worker": tt.should(look)} },
					func() map[string]int { return map[string]int{"worker": tt.are(look + 1), "other": look} })
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}
