package ocpp

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Violation is one place where a message differs from its schema. It never
// holds the value itself, which may be a secret.
type Violation struct {
	Path  string    `json:"path"`  // JSON pointer, such as /meterValue/0/sampledValue/1/unit; empty: the payload itself
	Rule  string    `json:"rule"`  // what the schema wants: "required", "maxLength 20", "enum", "type integer", …
	Value string    `json:"value"` // what kind of value is there: "null", "number", "string of 31 characters", …
	Code  ErrorCode `json:"code"`
}

func (v Violation) String() string {
	path := v.Path
	if path == "" {
		path = "/"
	}
	return path + ": " + v.Rule + ", found " + v.Value
}

// maxViolations bounds the violations that are reported for one message.
const maxViolations = 16

// maxUnknownName is how much of an unknown field's name is reported, in bytes.
const maxUnknownName = 64

// ViolationError says that a message was refused because of its schema. It
// unwraps to the *Error to answer with; its violations are for whoever sent the
// message.
type ViolationError struct {
	Violations []Violation // 1 to 16, in the order they were found
}

func (e *ViolationError) Error() string {
	s := e.Violations[0].String()
	if n := len(e.Violations) - 1; n > 0 {
		s += " (and " + strconv.Itoa(n) + " more)"
	}
	return s
}

// Unwrap returns the CALLERROR of the first violation, with all of them in its
// details.
func (e *ViolationError) Unwrap() error {
	details, _ := json.Marshal(struct { // strings always encode
		Violations []Violation `json:"violations"`
	}{e.Violations})
	return &Error{Code: e.Violations[0].Code, Description: e.Error(), Details: details}
}

// severity of a violation decides which mode tolerates it.
type severity uint8

const (
	// odd is allowed by the schema, but worth a note: an empty required string.
	odd severity = iota
	// loose breaks the schema and leaves the value usable.
	loose
	// fatal leaves nothing to work with: a required field or its type is wrong.
	fatal
)

// step is one step of the way to a value: a field, or an item of an array.
type step struct {
	name  string // of a field
	index int    // of an item, if name is empty
}

// violations collects what was found in one message, bounded apart for what is
// tolerated and what is not.
type violations struct {
	strict             bool
	path               []step // to the value at hand
	tolerated, refused []Violation
}

func (vs *violations) push(s step) { vs.path = append(vs.path, s) }

func (vs *violations) pop() { vs.path = vs.path[:len(vs.path)-1] }

// add notes a violation at the value at hand.
func (vs *violations) add(s severity, code ErrorCode, rule, value string) {
	list := &vs.tolerated
	if s == fatal || s == loose && vs.strict {
		list = &vs.refused
	}
	if len(*list) < maxViolations {
		*list = append(*list, Violation{Path: vs.pointer(), Rule: rule, Value: value, Code: code})
	}
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// pointer returns the path as a JSON pointer (RFC 6901).
func (vs *violations) pointer() string {
	var b []byte
	for _, s := range vs.path {
		b = append(b, '/')
		if s.name != "" {
			b = append(b, pointerEscape.Replace(s.name)...)
		} else {
			b = strconv.AppendInt(b, int64(s.index), 10)
		}
	}
	return string(b)
}

// err returns nil or a *ViolationError.
func (vs *violations) err() error {
	if len(vs.refused) == 0 {
		return nil
	}
	return &ViolationError{vs.refused}
}

func stringOf(characters int) string {
	return "string of " + strconv.Itoa(characters) + " characters"
}

func arrayOf(items int) string {
	return "array of " + strconv.Itoa(items) + " items"
}
