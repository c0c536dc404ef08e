package main

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/leak/hunt"
)

// failOn says for which results of a hunt the exit status is 1.
type failOn []failTerm

// failTerm is one condition.
type failTerm struct {
	what string // leak, retention, never, upper, or the name of a class or count
	more float64
}

// UnmarshalText reads "leak,upper>500,goroutines>0".
func (f *failOn) UnmarshalText(text []byte) error {
	*f = nil
	for _, part := range strings.Split(string(text), ",") {
		part = strings.TrimSpace(part)
		what, limit, compared := strings.Cut(part, ">")
		term := failTerm{what: strings.TrimSpace(what)}
		switch {
		case !compared && (part == "leak" || part == "retention" || part == "never"):
		case !compared:
			return fmt.Errorf("%q: want leak, retention, never, or NAME>SIZE", part)
		case term.what != "upper" && !hunt.Known(hunt.Quantity(term.what)):
			return fmt.Errorf("%q: there is upper, and %s", term.what, strings.Join(hunt.Names(), ", "))
		default:
			var err error
			if term.more, err = parseSize(limit); err != nil {
				return fmt.Errorf("%q: %w", part, err)
			}
		}
		*f = append(*f, term)
	}
	return nil
}

// parseSize reads 500, 0.5, 3.4KB or 1MB; a KB is 1,024 bytes.
func parseSize(text string) (float64, error) {
	text = strings.TrimSpace(text)
	unit := 1.0
	for suffix, n := range map[string]float64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = strings.TrimSpace(number), n
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "B"), 64)
	if err != nil || !(n >= 0 && n <= 1e15) {
		return 0, fmt.Errorf("want a number or a size such as 3.4KB, not %q", text)
	}
	return n * unit, nil
}

// why is the first condition that a report meets, empty if it meets none.
func (f failOn) why(r *hunt.Report) string {
	for _, term := range f {
		switch term.what {
		case "never":
			return ""
		case "leak", "retention":
			if r.Verdict == hunt.VerdictLeak || r.Verdict == hunt.Verdict(term.what) {
				return "--fail-on " + term.what
			}
			continue
		}
		for _, a := range r.Activities {
			if term.what == "upper" {
				e, ok := a.Effects[hunt.Kept]
				if !ok {
					return fmt.Sprintf("--fail-on upper: %s had too few events", a.Name())
				}
				if e.Upper() > term.more {
					return fmt.Sprintf("--fail-on upper: %s may keep %s", a.Name(), hunt.Bytes(e.Upper()))
				}
				continue
			}
			for _, found := range a.Findings {
				if found.Quantity.Name() == term.what && found.Verdict == hunt.VerdictLeak && found.Effect.Value > term.more {
					return fmt.Sprintf("--fail-on %s: %s", term.what, a.Summary)
				}
			}
		}
	}
	return ""
}
