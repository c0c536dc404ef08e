package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Schema is the part of JSON Schema that the OCPP schemas use. A keyword that is
// not listed here stops the generator: it may be a rule.
type Schema struct {
	Ref        string     `json:"$ref"`
	Type       string     `json:"type"`
	Properties Properties `json:"properties"`
	Required   []string   `json:"required"`
	Closed     *bool      `json:"additionalProperties"`
	Enum       []string   `json:"enum"`
	Format     string     `json:"format"`
	MaxLength  int        `json:"maxLength"`
	Items      *Schema    `json:"items"`
	MinItems   int        `json:"minItems"`
	MaxItems   int        `json:"maxItems"`
	Minimum    *float64   `json:"minimum"`
	Maximum    *float64   `json:"maximum"`
	MultipleOf float64    `json:"multipleOf"`
}

// Properties are the properties of an object in the order of the schema.
type Properties []Property

// Property is one property of an object.
type Property struct {
	Name   string
	Schema *Schema
}

// Find returns the schema of a property, or nil.
func (ps Properties) Find(name string) *Schema {
	for _, p := range ps {
		if p.Name == name {
			return p.Schema
		}
	}
	return nil
}

// IsRequired reports whether an object wants a property.
func (s *Schema) IsRequired(name string) bool {
	for _, r := range s.Required {
		if r == name {
			return true
		}
	}
	return false
}

// ignored are the keywords that are read over: prose, and what says nothing
// about a message (additionalItems has no meaning beside a single items).
var ignored = map[string]bool{
	"definitions": true, "$id": true, "$schema": true, "title": true, "comment": true,
	"description": true, "javaType": true, "default": true, "additionalItems": true,
}

// UnmarshalJSON reads a schema and refuses keywords that it does not know.
func (s *Schema) UnmarshalJSON(data []byte) error {
	var keywords map[string]json.RawMessage
	if err := json.Unmarshal(data, &keywords); err != nil {
		return err
	}
	for k := range keywords {
		if ignored[k] {
			delete(keywords, k)
		}
	}
	rest, err := json.Marshal(keywords)
	if err != nil {
		return err
	}
	type plain Schema
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(s))
}

// UnmarshalJSON keeps the order of an object's members.
func (ps *Properties) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		p := Property{Name: name.(string), Schema: new(Schema)}
		if err := d.Decode(p.Schema); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		*ps = append(*ps, p)
	}
	return nil
}

// Message is the schema of a request, a response or a SEND.
type Message struct {
	Name        string // such as "AuthorizeRequest"
	Schema      *Schema
	Definitions map[string]*Schema // what $ref refers to
}

// Resolve follows a $ref. It also returns the definition's name, or "".
func (m *Message) Resolve(s *Schema) (*Schema, string) {
	if s.Ref == "" {
		return s, ""
	}
	name := strings.TrimPrefix(s.Ref, "#/definitions/")
	d, ok := m.Definitions[name]
	if !ok {
		panic(m.Name + ": no definition of " + s.Ref)
	}
	return d, name
}

// readModule reads the messages of an ECMAScript module that typed-ocpp made of
// the schemas: "const definitions = {…};" and one "export const Name = {…};" for
// each message, JSON but for the line that refers to the definitions.
func readModule(source []byte) ([]*Message, error) {
	text := strings.ReplaceAll(string(source), "\n    definitions,\n", "\n")
	var messages []*Message
	definitions := map[string]*Schema{}
	for statement := range strings.SplitSeq(text, "\n};") {
		_, statement, ok := strings.Cut(statement, "const ")
		if !ok {
			continue
		}
		name, body, ok := strings.Cut(statement, " = ")
		if !ok {
			return nil, fmt.Errorf("not an assignment: %.40q", statement)
		}
		var into any = &definitions
		if name != "definitions" {
			m := &Message{Name: name, Schema: new(Schema), Definitions: definitions}
			messages = append(messages, m)
			into = m.Schema
		}
		if err := json.Unmarshal([]byte(body+"\n}"), into); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return messages, nil
}

// readList reads the messages of ocpp-rpc: an array of self-contained schemas
// with an $id such as "urn:Authorize.req" or "urn:AuthorizeRequest".
func readList(source []byte) ([]*Message, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(source, &list); err != nil {
		return nil, err
	}
	var messages []*Message
	for _, raw := range list {
		var head struct {
			ID          string             `json:"$id"`
			Definitions map[string]*Schema `json:"definitions"`
		}
		m := &Message{Schema: new(Schema)}
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, m.Schema); err != nil {
			return nil, fmt.Errorf("%s: %w", head.ID, err)
		}
		name := strings.TrimPrefix(head.ID, "urn:")
		name = strings.Replace(name, ".req", "Request", 1)
		m.Name = strings.Replace(name, ".conf", "Response", 1)
		m.Definitions = head.Definitions
		messages = append(messages, m)
	}
	return messages, nil
}
