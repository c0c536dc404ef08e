package ocpp

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The checks that are the same on the way in and out.

func checkString(vs *violations, s string, r *rule) {
	if r.kind == kindEnum {
		if !r.values[s] {
			vs.add(loose, PropertyConstraintViolation, "enum", stringOf(utf8.RuneCountInString(s)))
		}
		return
	}
	if r.maxLength > 0 && len(s) > r.maxLength {
		if n := utf8.RuneCountInString(s); n > r.maxLength {
			vs.add(loose, PropertyConstraintViolation, "maxLength "+strconv.Itoa(r.maxLength), stringOf(n))
		}
	}
	if r.uri {
		if u, err := url.Parse(s); err != nil || u.Scheme == "" || strings.ContainsFunc(s, notInURI) {
			vs.add(loose, PropertyConstraintViolation, "format uri", stringOf(utf8.RuneCountInString(s)))
		}
	}
}

// notInURI reports characters that RFC 3986 wants percent-encoded.
func notInURI(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"<>\\^`{|}", c) }

func checkNumber(vs *violations, n float64, r *rule) {
	switch {
	case r.minimum != nil && n < *r.minimum:
		vs.add(loose, PropertyConstraintViolation, "minimum "+decimal(*r.minimum), "number below")
	case r.maximum != nil && n > *r.maximum:
		vs.add(loose, PropertyConstraintViolation, "maximum "+decimal(*r.maximum), "number above")
	case r.multipleOf > 0 && !multiple(n, r.multipleOf):
		vs.add(loose, PropertyConstraintViolation, "multipleOf "+decimal(r.multipleOf), "number between")
	}
}

// multiple allows for the rounding of binary floating point: 0.3 is a multiple of 0.1.
func multiple(n, of float64) bool {
	q := n / of
	return math.Abs(q-math.Round(q)) <= 1e-9*max(1, math.Abs(q))
}

func checkItems(vs *violations, n int, r *rule) {
	switch {
	case n < r.minItems:
		vs.add(loose, OccurrenceConstraintViolation, "minItems "+strconv.Itoa(r.minItems), arrayOf(n))
	case r.maxItems > 0 && n > r.maxItems:
		vs.add(loose, OccurrenceConstraintViolation, "maxItems "+strconv.Itoa(r.maxItems), arrayOf(n))
	}
}

func decimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// unknownName is what is shown of a field's name that no schema has.
func unknownName(name string) string {
	if name == "" {
		return `""`
	}
	if len(name) > maxUnknownName {
		end := maxUnknownName
		for !utf8.RuneStart(name[end]) {
			end--
		}
		name = name[:end] + "…"
	}
	return name
}
