package memory

import (
	"bytes"
	"encoding/json"
	"runtime/pprof"
	"strconv"
	"strings"
)

const (
	// RoleLabel is the label of a goroutine profile that holds its role. A
	// goroutine has the role of the one that started it unless it gets its own.
	RoleLabel = "role"
	// NoRole counts goroutines without a role: libraries' and the runtime's.
	NoRole = "none"
	// maxRoles bounds the roles that are told apart; "other" counts the rest.
	maxRoles  = 64
	otherRole = "other"
)

// Roles counts the goroutines of this process by role. It costs a goroutine
// profile: 0.3 ms with a hundred goroutines, about 1 µs for each further one;
// see BenchmarkRoles.
func Roles() map[string]int {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return nil
	}
	return parseRoles(b.String())
}

// parseRoles reads a goroutine profile in text form: "N @ addresses" for every
// stack, and then, if it has labels, "# labels: {…}".
func parseRoles(text string) map[string]int {
	roles := make(map[string]int)
	count := func(role string, n int) {
		if _, ok := roles[role]; !ok && len(roles) >= maxRoles {
			role = otherRole
		}
		roles[role] += n
	}
	waiting := 0 // of the last stack, whose labels may follow
	flush := func(role string) {
		if waiting > 0 {
			count(role, waiting)
			waiting = 0
		}
	}
	for line := range strings.Lines(text) {
		if labels, ok := strings.CutPrefix(line, "# labels: "); ok {
			var set map[string]string
			role := NoRole
			if json.Unmarshal([]byte(labels), &set) == nil && set[RoleLabel] != "" {
				role = set[RoleLabel]
			}
			flush(role)
			continue
		}
		number, _, ok := strings.Cut(line, " @ ")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(number); err == nil {
			flush(NoRole)
			waiting = n
		}
	}
	flush(NoRole)
	return roles
}
