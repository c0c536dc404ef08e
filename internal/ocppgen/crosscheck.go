package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Difference is one field on which the two sources disagree.
type Difference struct {
	Path         string // such as "AuthorizeRequest/idToken/type"
	Typed, Other string // what typed-ocpp and ocpp-rpc say; "" if the field is not there
}

// crossCheck compares two readings of one version field by field.
func crossCheck(typed, other []*Message) []Difference {
	a, b := facts(typed), facts(other)
	var found []Difference
	for path, fact := range a {
		if b[path] != fact {
			found = append(found, Difference{path, fact, b[path]})
		}
	}
	for path, fact := range b {
		if _, ok := a[path]; !ok {
			found = append(found, Difference{path, "", fact})
		}
	}
	slices.SortFunc(found, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return found
}

// facts lists every field of every message with all of its rules. References
// are followed, so that it does not matter how a source cuts its types.
func facts(messages []*Message) map[string]string {
	all := map[string]string{}
	for _, m := range messages {
		addFacts(all, m, m.Name, m.Schema, false)
	}
	return all
}

func addFacts(all map[string]string, m *Message, path string, s *Schema, required bool) {
	s, _ = m.Resolve(s)
	f := []string{s.Type}
	add := func(set bool, format string, args ...any) {
		if set {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	add(required, "required")
	add(s.Type == "object" && s.Closed != nil && !*s.Closed, "closed")
	add(s.Format != "", "format %s", s.Format)
	add(s.MaxLength > 0, "maxLength %d", s.MaxLength)
	add(s.MinItems > 0, "minItems %d", s.MinItems)
	add(s.MaxItems > 0, "maxItems %d", s.MaxItems)
	if s.Minimum != nil {
		add(true, "minimum %s", decimal(*s.Minimum))
	}
	if s.Maximum != nil {
		add(true, "maximum %s", decimal(*s.Maximum))
	}
	if s.MultipleOf > 0 {
		add(true, "multipleOf %s", decimal(s.MultipleOf))
	}
	if len(s.Enum) > 0 {
		add(true, "enum %s", strings.Join(slices.Sorted(slices.Values(s.Enum)), "|"))
	}
	all[path] = strings.Join(f, ", ")
	for _, p := range s.Properties {
		addFacts(all, m, path+"/"+p.Name, p.Schema, s.IsRequired(p.Name))
	}
	if s.Items != nil {
		addFacts(all, m, path+"[]", s.Items, false)
	}
}

func decimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
