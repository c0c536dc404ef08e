package ocpp

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// Encode writes src, a generated type or a pointer to one, as the payload of a
// message: fields in schema order, optional empty ones left out (OCPP-J 2.0.1
// §4.1.4), decimals to six places (OCPP 2.x part 2, decimal), times to the
// second in UTC. It is strict: an error is a *ViolationError, and nobody
// sends what it complains about.
func Encode(src any) (json.RawMessage, error) {
	v := reflect.Indirect(reflect.ValueOf(src))
	e := encoder{buf: make([]byte, 0, 128)}
	e.strict = true
	e.object(v, shapeOf(v.Type()))
	if err := e.err(); err != nil {
		return nil, err
	}
	return e.buf, nil
}

type encoder struct {
	violations
	buf []byte
}

func (e *encoder) object(v reflect.Value, o *shape) {
	open := len(e.buf)
	e.buf = append(e.buf, '{')
	for i := range o.fields {
		r := &o.fields[i]
		field := v.Field(r.index)
		if !r.required && absent(field, r) {
			continue
		}
		before := len(e.buf)
		if before > open+1 {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.buf, '"')
		e.buf = append(e.buf, r.name...)
		e.buf = append(e.buf, '"', ':')
		if r.pointer {
			field = field.Elem()
		}
		e.push(step{name: r.name})
		e.value(field, r)
		e.pop()
		if !r.required && r.kind == kindObject && string(e.buf[len(e.buf)-2:]) == "{}" {
			e.buf = e.buf[:before]
		}
	}
	e.buf = append(e.buf, '}')
}

// absent reports whether an optional field is to be left out.
func absent(v reflect.Value, r *rule) bool {
	switch r.kind {
	case kindArray, kindAny, kindCustomData:
		return v.Len() == 0
	case kindDateTime:
		return v.Interface().(DateTime).IsZero()
	}
	return v.IsZero()
}

func (e *encoder) value(v reflect.Value, r *rule) {
	switch r.kind {
	case kindString, kindEnum:
		s := v.String()
		checkString(&e.violations, s, r)
		if !utf8.ValidString(s) {
			e.add(fatal, FormatViolation, "UTF-8", "other bytes")
		}
		e.buf = appendText(e.buf, s)
	case kindDateTime:
		t := v.Interface().(DateTime)
		if y := t.UTC().Year(); t.IsZero() {
			e.add(fatal, OccurrenceConstraintViolation, "required", "no time")
		} else if y < 0 || y > 9999 {
			e.add(fatal, PropertyConstraintViolation, "format date-time", "a time beyond")
		}
		e.buf = t.appendJSON(e.buf)
	case kindInteger:
		n := v.Int()
		if n < math.MinInt32 || n > math.MaxInt32 {
			e.add(fatal, PropertyConstraintViolation, "32-bit integer", "number beyond")
		}
		checkNumber(&e.violations, float64(n), r)
		e.buf = strconv.AppendInt(e.buf, n, 10)
	case kindNumber:
		n := v.Float()
		if math.IsNaN(n) || math.IsInf(n, 0) {
			e.add(fatal, TypeConstraintViolation, "type number", "no number")
		}
		checkNumber(&e.violations, n, r)
		e.buf = appendDecimal(e.buf, n)
	case kindBoolean:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case kindObject:
		e.object(v, r.shape)
	case kindArray:
		checkItems(&e.violations, v.Len(), r)
		e.buf = append(e.buf, '[')
		for i := range v.Len() {
			if i > 0 {
				e.buf = append(e.buf, ',')
			}
			e.push(step{index: i})
			e.value(v.Index(i), r.item)
			e.pop()
		}
		e.buf = append(e.buf, ']')
	case kindAny, kindCustomData:
		e.free(v.Bytes(), r)
	}
}

// free copies free-form JSON after the same checks as on the way in.
func (e *encoder) free(raw []byte, r *rule) {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		e.add(fatal, FormatViolation, "JSON", "something else")
		return
	}
	d := decoder{data: raw, violations: e.violations}
	d.space()
	v := reflect.New(rawType).Elem()
	d.value(v, r)
	e.violations = d.violations
	e.buf = append(e.buf, v.Bytes()...)
}

// appendDecimal writes n with at most six places, without an exponent.
func appendDecimal(b []byte, n float64) []byte {
	start := len(b)
	b = strconv.AppendFloat(b, n, 'f', 6, 64)
	end := len(b)
	for b[end-1] == '0' {
		end--
	}
	if b[end-1] == '.' {
		end--
	}
	if b = b[:end]; string(b[start:]) == "-0" {
		b = append(b[:start], '0')
	}
	return b
}

// appendText writes a JSON string, and escapes no more than JSON wants: some
// stations take "\u0026" in a URL literally.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < 0x20 || c == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
