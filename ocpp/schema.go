package ocpp

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// Action is one message of a version: its name, who sends it, and its types.
type Action struct {
	Name        string // as in a CALL, such as "BootNotification"
	FromStation bool   // a station may send it
	FromCSMS    bool   // the CSMS may send it
	Send        bool   // a SEND of OCPP 2.1: it has no response
	NewRequest  func() any
	NewResponse func() any // nil for a SEND
}

// ValidateRequest checks raw, a request that somebody wrote by hand, as strictly
// as what Holdfast itself sends. It returns it as it goes out: fields in schema
// order, optional empty ones left out. An error is a *ViolationError.
func (a Action) ValidateRequest(raw json.RawMessage) (json.RawMessage, error) {
	request := a.NewRequest()
	if _, err := Decode(raw, request, Strict); err != nil {
		return nil, err
	}
	return Encode(request)
}

// New returns a new zero T as any: the generated tables of actions need it.
func New[T any]() any { return new(T) }

// enum is what generated enumerations implement.
type enum interface{ Values() []string }

// kind is how a field is read, written and checked.
type kind uint8

const (
	kindString kind = iota
	kindEnum
	kindDateTime
	kindInteger
	kindNumber
	kindBoolean
	kindObject
	kindArray
	kindAny        // free-form JSON
	kindCustomData // free-form object with a vendorId (OCPP 2.x CustomDataType)
)

func (k kind) String() string {
	return [...]string{"string", "string", "string", "integer", "number", "boolean", "object", "array", "any", "object"}[k]
}

// rule is what is known of one field, or of the items of an array.
type rule struct {
	name     string
	index    int // of the struct field
	kind     kind
	required bool
	pointer  bool

	maxLength          int             // characters; 0: no limit
	uri                bool            // of a string
	values             map[string]bool // of an enum
	minItems, maxItems int             // of an array; maxItems 0: no limit
	minimum, maximum   *float64        // of a number
	multipleOf         float64         // of a number; 0: any

	shape *shape // of kindObject
	item  *rule  // of kindArray
}

// shape is the compiled form of a generated struct type.
type shape struct {
	fields   []rule // in schema order
	byName   map[string]int
	required uint64 // bit i: fields[i] is required
	open     bool   // other fields may be there, too
}

// customData is the part of OCPP 2.x CustomDataType that has a schema.
type customData struct {
	VendorID string `json:"vendorId" ocpp:"required,max=255"`
}

var customDataShape = func() *shape {
	o := *shapeOf(reflect.TypeFor[customData]())
	o.open = true
	return &o
}()

// shapes caches compiled types: as many as there are generated struct types.
var shapes sync.Map // reflect.Type → *shape

var (
	dateTimeType = reflect.TypeFor[DateTime]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

// shapeOf compiles t, a generated struct type. It panics on any other type or
// on a tag it does not know: both are mistakes in this program, never in input.
func shapeOf(t reflect.Type) *shape {
	if o, ok := shapes.Load(t); ok {
		return o.(*shape)
	}
	if t.Kind() != reflect.Struct || t.NumField() > 64 {
		panic(fmt.Sprintf("ocpp: %v is not a message type", t))
	}
	o := &shape{byName: make(map[string]int, t.NumField())}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		r := compile(f.Type, f.Tag.Get("ocpp"))
		r.name, r.index = name, i
		if r.required {
			o.required |= 1 << i
		}
		o.byName[name] = i
		o.fields = append(o.fields, r)
	}
	cached, _ := shapes.LoadOrStore(t, o)
	return cached.(*shape)
}

// compile reads the ocpp tag of a field of type t. Its parts, separated by
// commas: required; max=N characters; uri; items=N..M; ge=X, le=X, step=X for
// numbers; customData. Parts after "each" are about the items of an array.
func compile(t reflect.Type, tag string) rule {
	own, each, _ := strings.Cut(tag, "each,")
	var r rule
	for part := range strings.SplitSeq(strings.TrimSuffix(own, ","), ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "":
		case "required":
			r.required = true
		case "max":
			r.maxLength = int(number(value))
		case "uri":
			r.uri = true
		case "items":
			low, high, _ := strings.Cut(value, "..")
			r.minItems = int(number(low))
			if high != "" {
				r.maxItems = int(number(high))
			}
		case "ge":
			n := number(value)
			r.minimum = &n
		case "le":
			n := number(value)
			r.maximum = &n
		case "step":
			r.multipleOf = number(value)
		case "customData":
			r.kind = kindCustomData
		default:
			panic("ocpp: unknown rule " + part)
		}
	}
	if t.Kind() == reflect.Pointer {
		r.pointer = true
		t = t.Elem()
	}
	switch {
	case t == rawType:
		if r.kind != kindCustomData {
			r.kind = kindAny
		}
	case t == dateTimeType:
		r.kind = kindDateTime
	case t.Kind() == reflect.Slice:
		item := compile(t.Elem(), each)
		r.kind, r.item = kindArray, &item
	case t.Kind() == reflect.Struct:
		r.kind, r.shape = kindObject, shapeOf(t)
	case t.Kind() == reflect.String:
		if e, ok := reflect.Zero(t).Interface().(enum); ok {
			r.kind, r.values = kindEnum, make(map[string]bool)
			for _, v := range e.Values() {
				r.values[v] = true
			}
		}
	case t.Kind() == reflect.Int:
		r.kind = kindInteger
	case t.Kind() == reflect.Float64:
		r.kind = kindNumber
	case t.Kind() == reflect.Bool:
		r.kind = kindBoolean
	default:
		panic(fmt.Sprintf("ocpp: no rule for %v", t))
	}
	return r
}

func number(s string) float64 {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic("ocpp: bad number in a rule: " + s)
	}
	return n
}
