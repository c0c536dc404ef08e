package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	goroutineLooks = 20                    // a difference must last so many looks
	goroutinePause = 10 * time.Millisecond // between two of them
)

// checkGoroutines compares how many goroutines there should be of some roles
// with how many there are. Goroutines come and go between the two counts: only a
// surplus, or a lack, in every look is reported.
func checkGoroutines(should, are func() map[string]int) error {
	least, most := make(map[string]int), make(map[string]int)
	for look := range goroutineLooks {
		if look > 0 {
			time.Sleep(goroutinePause)
		}
		now := are()
		for role, n := range should() {
			d := now[role] - n
			if look == 0 {
				least[role], most[role] = d, d
			}
			least[role], most[role] = min(least[role], d), max(most[role], d)
		}
		lasting := false
		for role := range least {
			lasting = lasting || least[role] > 0 || most[role] < 0
		}
		if !lasting {
			return nil
		}
	}
	var wrong []string
	for _, role := range slices.Sorted(maps.Keys(least)) {
		switch {
		case least[role] > 0:
			wrong = append(wrong, fmt.Sprintf("%d more of role %q than there should be", least[role], role))
		case most[role] < 0:
			wrong = append(wrong, fmt.Sprintf("%d fewer of role %q than there should be", -most[role], role))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("goroutines: %s (/debug/pprof/goroutine?debug=1 shows where they stand)", strings.Join(wrong, ", "))
}
