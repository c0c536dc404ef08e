package ocpp

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Mode is how much of a schema's breach a decoder tolerates.
type Mode uint8

const (
	// Tolerant is for what stations really send. It refuses only what leaves
	// nothing to work with: JSON that is none, a required field that is missing, a
	// value of the wrong JSON type, an integer beyond 32 bits, a message beyond
	// the bounds below. All else is taken as it is and reported: strings and
	// arrays of the wrong length, unknown enum values, unknown fields, optional
	// fields that are null, numbers out of range, odd timestamps.
	Tolerant Mode = iota
	// Strict refuses every breach of the schema.
	Strict
)

const (
	// maxDepth is how deep free-form JSON (customData, DataTransfer) may nest.
	maxDepth = 32
	// maxItems is how many array items one message may hold in all. A megabyte of
	// meter values holds fewer; "{}" repeated would hold more, at 100 times its size.
	maxItems = 1 << 15
)

// Decode reads the payload of a message into dst, a pointer to a generated type,
// which is cleared first. It returns what the schema does not want and mode
// tolerates, at most 16 violations; an error is a *ViolationError, which unwraps
// to the *Error to answer with. Nothing in dst shares memory with payload.
func Decode(payload json.RawMessage, dst any, mode Mode) ([]Violation, error) {
	v := reflect.ValueOf(dst).Elem()
	v.SetZero()
	o := shapeOf(v.Type())
	d := decoder{data: payload}
	d.strict = mode == Strict
	switch {
	case !utf8.Valid(payload):
		d.add(fatal, FormatViolation, "UTF-8", "other bytes")
	case !json.Valid(payload):
		d.add(fatal, FormatViolation, "JSON", "something else")
	default:
		d.space()
		if d.data[d.pos] != '{' {
			d.wrongType(kindObject)
		} else {
			d.object(v, o)
		}
	}
	return d.tolerated, d.err()
}

// decoder walks JSON that is known to be valid, so it need not look for syntax
// errors. It descends only as deep as the generated types do.
type decoder struct {
	violations
	data  []byte
	pos   int
	items int
}

func (d *decoder) object(v reflect.Value, o *shape) {
	var seen uint64
	next := 0 // fields mostly come in schema order
	d.pos++
	for d.more('}') {
		key := d.key()
		d.space()
		d.pos++ // the colon
		d.space()
		i, known := next, next < len(o.fields) && o.fields[next].name == string(key)
		if !known {
			i, known = o.byName[string(key)]
		}
		if !known {
			d.push(step{name: unknownName(string(key))})
			if !o.open {
				d.add(loose, FormatViolation, "unknown field", d.found())
			}
			d.skip()
			d.pop()
			continue
		}
		r := &o.fields[i]
		field := v.Field(r.index)
		d.push(step{name: r.name})
		if seen&(1<<i) != 0 {
			d.add(loose, FormatViolation, "once", "a second one")
			field.SetZero()
		}
		seen |= 1 << i
		d.field(field, r)
		d.pop()
		next = i + 1
	}
	if missing := o.required &^ seen; missing != 0 {
		for i := range o.fields {
			if missing&(1<<i) != 0 {
				d.push(step{name: o.fields[i].name})
				d.add(fatal, OccurrenceConstraintViolation, "required", "nothing")
				d.pop()
			}
		}
	}
}

// field reads the value of a field: null is absent.
func (d *decoder) field(v reflect.Value, r *rule) {
	if d.data[d.pos] == 'n' && r.kind != kindAny {
		if r.required {
			d.wrongType(r.kind)
			return
		}
		d.add(loose, TypeConstraintViolation, "type "+r.kind.String(), "null")
		d.skip()
		return
	}
	if r.pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	d.value(v, r)
}

func (d *decoder) value(v reflect.Value, r *rule) {
	c := d.data[d.pos]
	switch r.kind {
	case kindString, kindEnum, kindDateTime:
		if c != '"' {
			d.wrongType(r.kind)
			return
		}
		d.string(v, r)
	case kindInteger, kindNumber:
		if c != '-' && (c < '0' || c > '9') {
			d.wrongType(r.kind)
			return
		}
		d.number(v, r)
	case kindBoolean:
		if c != 't' && c != 'f' {
			d.wrongType(r.kind)
			return
		}
		d.skip()
		v.SetBool(c == 't')
	case kindObject:
		if c != '{' {
			d.wrongType(r.kind)
			return
		}
		d.object(v, r.shape)
	case kindArray:
		if c != '[' {
			d.wrongType(r.kind)
			return
		}
		d.array(v, r)
	case kindAny:
		v.SetBytes(bytes.Clone(d.skip()))
	case kindCustomData:
		if c != '{' {
			d.wrongType(r.kind)
			return
		}
		start := d.pos
		var c customData
		d.object(reflect.ValueOf(&c).Elem(), customDataShape)
		v.SetBytes(bytes.Clone(d.data[start:d.pos]))
	}
}

func (d *decoder) string(v reflect.Value, r *rule) {
	s := d.text()
	if strings.Contains(s, "\x00") { // some stations send their whole buffer
		s = strings.ReplaceAll(s, "\x00", "")
		d.add(odd, FormatViolation, "no NUL", "string with NUL")
	}
	switch r.kind {
	case kindDateTime:
		if s == "" && !r.required {
			d.add(loose, PropertyConstraintViolation, "format date-time", "empty string")
			return
		}
		t, conforms := parseDateTime(s)
		if !conforms {
			d.add(loose, PropertyConstraintViolation, "format date-time", "string, "+t.Quality.String())
		} else if t.Quality != TimeExact {
			d.add(odd, PropertyConstraintViolation, "a clock that is set", "string, "+t.Quality.String())
		}
		// t is one of ours: no other type has kindDateTime.
		*v.Addr().Interface().(*DateTime) = t
		return
	case kindString:
		if s == "" && r.required {
			d.add(odd, PropertyConstraintViolation, "not empty", "empty string")
		}
	}
	checkString(&d.violations, s, r)
	v.SetString(s)
}

// number reads 32-bit integers, also those written 1.0 or 1e2, and decimals.
func (d *decoder) number(v reflect.Value, r *rule) {
	raw := d.skip()
	if r.kind == kindInteger {
		if n, err := strconv.ParseInt(string(raw), 10, 32); err == nil {
			checkNumber(&d.violations, float64(n), r)
			v.SetInt(n)
			return
		}
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	switch {
	case err != nil:
		d.add(fatal, PropertyConstraintViolation, "64-bit decimal", "number beyond")
		return
	case r.kind == kindNumber:
		checkNumber(&d.violations, n, r)
		v.SetFloat(n)
		return
	case n != math.Trunc(n):
		d.add(fatal, TypeConstraintViolation, "type integer", "number with a fraction")
		return
	case n < math.MinInt32 || n > math.MaxInt32:
		d.add(fatal, PropertyConstraintViolation, "32-bit integer", "number beyond")
		return
	}
	checkNumber(&d.violations, n, r)
	v.SetInt(int64(n))
}

func (d *decoder) array(v reflect.Value, r *rule) {
	n := 0
	v.Set(reflect.MakeSlice(v.Type(), 0, 1)) // present, even when empty
	d.pos++
	for d.more(']') {
		if d.items++; d.items > maxItems {
			if d.items == maxItems+1 {
				d.add(fatal, OccurrenceConstraintViolation, "at most "+strconv.Itoa(maxItems)+" items in a message", "more")
			}
			d.skip()
			continue
		}
		v.Grow(1)
		v.SetLen(n + 1)
		d.push(step{index: n})
		d.value(v.Index(n), r.item)
		d.pop()
		n++
	}
	checkItems(&d.violations, n, r)
}

// more steps to the next element of the array or object that d is in, past its
// opening bracket, and reports whether there is one. After the last it steps out.
func (d *decoder) more(end byte) bool {
	d.space()
	if d.data[d.pos] == ',' {
		d.pos++
		d.space()
	}
	if d.data[d.pos] == end {
		d.pos++
		return false
	}
	return true
}

func (d *decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// text reads a string.
func (d *decoder) text() string {
	return string(d.key())
}

// key reads a string, without a copy if it holds no escapes.
func (d *decoder) key() []byte {
	raw := d.quoted()
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	json.Unmarshal(raw, &s) // valid already
	return []byte(s)
}

// quoted steps over a string and returns it with its quotes.
func (d *decoder) quoted() []byte {
	start := d.pos
	for d.pos++; d.data[d.pos] != '"'; d.pos++ {
		if d.data[d.pos] == '\\' {
			d.pos++
		}
	}
	d.pos++
	return d.data[start:d.pos]
}

// skip steps over any value and returns it. One that nests too deep is a violation.
func (d *decoder) skip() []byte {
	start, depth, deepest := d.pos, 0, 0
	for {
		switch d.data[d.pos] {
		case '"':
			d.quoted()
		case '{', '[':
			d.pos++
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			d.pos++
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			d.pos++
			continue
		default: // number, true, false, null
			for d.pos < len(d.data) && strings.IndexByte(",]} \t\r\n", d.data[d.pos]) < 0 {
				d.pos++
			}
		}
		if depth == 0 {
			break
		}
	}
	if deepest > maxDepth {
		d.add(fatal, FormatViolation, "depth "+strconv.Itoa(maxDepth), "deeper nesting")
	}
	return d.data[start:d.pos]
}

// wrongType refuses the value at hand and steps over it.
func (d *decoder) wrongType(want kind) {
	d.add(fatal, TypeConstraintViolation, "type "+want.String(), d.found())
	d.skip()
}

// found names the JSON type of the value at hand.
func (d *decoder) found() string {
	switch d.data[d.pos] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}
