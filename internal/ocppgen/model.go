package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// goType is a Go type to write: a message, a data type or an enumeration.
type goType struct {
	name   string
	spec   string // name in the schemas; "" for inline types
	enum   []string
	fields []field
	shape  string // all of its rules, to tell two types of one name apart

	message bool             // a request, a response or a SEND
	actions map[string]bool  // actions whose messages use it
	users   map[*goType]bool // types that have a field of it
}

// field is a field of a struct.
type field struct{ name, typ, tag string }

// model is what is written for one version.
type model struct {
	v       *version
	actions []string // sorted
	types   map[string]*goType
	decided map[string]bool // entries of v.names and v.mend that were needed
}

// build makes the model of one version.
func build(v *version, messages []*Message) (*model, error) {
	b := &model{v: v, types: map[string]*goType{}, decided: map[string]bool{}}
	for _, m := range messages {
		action := actionOf(m.Name)
		if !slices.Contains(b.actions, action) {
			b.actions = append(b.actions, action)
		}
		t, err := b.object(m, action, m.Name, goName(m.Name), m.Schema)
		if err != nil {
			return nil, err
		}
		t.message, t.spec = true, m.Name
	}
	slices.Sort(b.actions)
	if len(b.actions) != v.actions {
		return nil, fmt.Errorf("OCPP %s: %d actions, want %d", v.name, len(b.actions), v.actions)
	}
	for name := range v.names {
		if !b.decided[name] {
			return nil, fmt.Errorf("OCPP %s: nothing is called %s", v.name, name)
		}
	}
	for path := range v.mend {
		if !b.decided[path] {
			return nil, fmt.Errorf("OCPP %s: nothing to mend at %s", v.name, path)
		}
	}
	return b, nil
}

func actionOf(message string) string {
	return strings.TrimSuffix(strings.TrimSuffix(message, "Request"), "Response")
}

// object adds the struct type of an object.
func (b *model) object(m *Message, action, path, name string, s *Schema) (*goType, error) {
	if s.Closed == nil || *s.Closed {
		return nil, fmt.Errorf("%s: other fields are allowed", path)
	}
	t := &goType{name: name}
	var used []*goType
	for _, p := range s.Properties {
		f, uses, err := b.field(m, action, path+"/"+p.Name, p, s.IsRequired(p.Name))
		if err != nil {
			return nil, err
		}
		t.fields = append(t.fields, f)
		if uses != nil {
			used = append(used, uses)
		}
	}
	sorted := slices.Clone(t.fields)
	slices.SortFunc(sorted, func(x, y field) int { return strings.Compare(x.name, y.name) })
	t.shape = fmt.Sprint(sorted)
	t, err := b.add(t, action, path)
	for _, u := range used {
		u.users[t] = true
	}
	return t, err
}

// add returns the type of t's name, which is t if there was none.
func (b *model) add(t *goType, action, path string) (*goType, error) {
	if old, ok := b.types[t.name]; ok {
		if old.shape != t.shape {
			return nil, fmt.Errorf("%s: there is another %s:\n%s\n%s", path, t.name, old.shape, t.shape)
		}
		old.actions[action] = true
		return old, nil
	}
	t.actions, t.users = map[string]bool{action: true}, map[*goType]bool{}
	b.types[t.name] = t
	return t, nil
}

// field makes one field, and returns the type of ours that it refers to, if any.
func (b *model) field(m *Message, action, path string, p Property, required bool) (field, *goType, error) {
	if mend, ok := b.v.mend[path]; ok {
		before := *p.Schema
		mend(p.Schema)
		b.decided[path] = !reflect.DeepEqual(before, *p.Schema)
	}
	var rules []string
	if required {
		rules = append(rules, "required")
	}
	typ, own, uses, err := b.typeOf(m, action, path, p.Schema)
	if err != nil {
		return field{}, nil, err
	}
	omit := "omitempty"
	switch {
	case required:
		omit = ""
	case typ == "int" || typ == "float64" || typ == "bool" || uses != nil && uses.enum == nil && !strings.HasPrefix(typ, "[]"):
		typ = "*" + typ
	case typ == "ocpp.DateTime":
		omit = "omitzero"
	}
	tag := `json:"` + p.Name
	if omit != "" {
		tag += "," + omit
	}
	tag += `"`
	if rules = append(rules, own...); len(rules) > 0 {
		tag += ` ocpp:"` + strings.Join(rules, ",") + `"`
	}
	return field{goName(p.Name), typ, "`" + tag + "`"}, uses, nil
}

// typeOf returns the Go type of a schema and its rules as parts of an ocpp tag.
func (b *model) typeOf(m *Message, action, path string, s *Schema) (typ string, rules []string, uses *goType, err error) {
	s, definition := m.Resolve(s)
	switch {
	case definition == "CustomDataType":
		return "json.RawMessage", []string{"customData"}, nil, nil
	case s.Enum != nil:
		name, err := b.nameOf(path, definition)
		if err != nil {
			return "", nil, nil, err
		}
		values := slices.Clone(s.Enum)
		slices.Sort(values)
		t, err := b.add(&goType{name: name, spec: definition, enum: s.Enum, shape: strings.Join(values, "|")}, action, path)
		return name, nil, t, err
	case s.Type == "object":
		name, err := b.nameOf(path, definition)
		if err != nil {
			return "", nil, nil, err
		}
		t, err := b.object(m, action, path, name, s)
		if err == nil && t.spec == "" {
			t.spec = definition
		}
		return name, nil, t, err
	case s.Type == "array":
		item, itemRules, uses, err := b.typeOf(m, action, path+"[]", s.Items)
		if s.MinItems > 0 || s.MaxItems > 0 {
			high := ""
			if s.MaxItems > 0 {
				high = fmt.Sprint(s.MaxItems)
			}
			rules = append(rules, fmt.Sprintf("items=%d..%s", s.MinItems, high))
		}
		if len(itemRules) > 0 {
			rules = append(append(rules, "each"), itemRules...)
		}
		return "[]" + item, rules, uses, err
	}
	switch {
	case s.Type == "string" && s.Format == "date-time":
		return "ocpp.DateTime", nil, nil, nil
	case s.Type == "string":
		if s.MaxLength > 0 {
			rules = append(rules, fmt.Sprintf("max=%d", s.MaxLength))
		}
		if s.Format == "uri" {
			rules = append(rules, "uri")
		} else if s.Format != "" {
			return "", nil, nil, fmt.Errorf("%s: format %s", path, s.Format)
		}
		return "string", rules, nil, nil
	case s.Type == "integer" || s.Type == "number":
		if s.Minimum != nil {
			rules = append(rules, "ge="+decimal(*s.Minimum))
		}
		if s.Maximum != nil {
			rules = append(rules, "le="+decimal(*s.Maximum))
		}
		if s.MultipleOf > 0 {
			rules = append(rules, "step="+decimal(s.MultipleOf))
		}
		if s.Type == "integer" {
			return "int", rules, nil, nil
		}
		return "float64", rules, nil, nil
	case s.Type == "boolean":
		return "bool", nil, nil, nil
	case s.Type == "":
		return "json.RawMessage", nil, nil, nil
	}
	return "", nil, nil, fmt.Errorf("%s: type %s", path, s.Type)
}

// nameOf names a type: as decided, else after its definition.
func (b *model) nameOf(path, definition string) (string, error) {
	last := path[strings.LastIndexByte(path, '/')+1:]
	for _, key := range []string{definition, path, last} {
		if name, ok := b.v.names[key]; ok {
			b.decided[key] = true
			return name, nil
		}
	}
	if definition == "" {
		return "", fmt.Errorf("%s: no name for this type", path)
	}
	name, isEnum := strings.CutSuffix(definition, "EnumType")
	if !isEnum {
		name = strings.TrimSuffix(definition, "Type")
	}
	return goName(name), nil
}
