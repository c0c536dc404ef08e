package scenario

import (
	"iter"
	"maps"
	"strings"

	"holdfast/fleet"
)

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// suggest lists the names that are known, for an error message.
func suggest(name string, which func(fleet.Fault) bool) string {
	var all []string
	for _, f := range fleet.Faults() {
		if !which(f) {
			continue
		}
		if strings.ReplaceAll(f.String(), "_", "") == strings.ReplaceAll(strings.ReplaceAll(name, "-", ""), "_", "") {
			return ": do you mean " + f.String() + "?"
		}
		all = append(all, f.String())
	}
	if len(all) == 0 {
		return ""
	}
	return ": one of " + strings.Join(all, ", ")
}
