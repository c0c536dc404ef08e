package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The two sources in small: PingRequest and PingResponse, with a shared type.
const (
	typedSource = `/* generated */
const definitions = {
    "KindEnumType": {
        "type": "string",
        "additionalProperties": false,
        "enum": ["One", "Two.More"]
    },
    "ThingType": {
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "kind": {"$ref": "#/definitions/KindEnumType"},
            "evseId": {"description": "prose", "type": "integer", "minimum": 0}
        },
        "required": ["kind"]
    }
};
export const PingRequest = {
    definitions,
    "type": "object",
    "additionalProperties": false,
    "properties": {
        "zulu": {"type": "string", "maxLength": 20},
        "at": {"type": "string", "format": "date-time"},
        "things": {"type": "array", "items": {"$ref": "#/definitions/ThingType"}, "maxItems": 4}
    },
    "required": ["zulu"]
};
export const PingResponse = {
    definitions,
    "type": "object",
    "additionalProperties": false,
    "properties": {
    }
};
`
	otherSource = `[
	{"$id": "urn:Ping.req", "$schema": "x", "type": "object", "additionalProperties": false, "required": ["zulu"],
	 "definitions": {"Kind": {"type": "string", "enum": ["Two.More", "One"]}},
	 "properties": {
		"at": {"type": "string", "format": "date-time"},
		"things": {"type": "array", "maxItems": 4, "items": {"type": "object", "additionalProperties": false,
			"properties": {"evseId": {"type": "integer", "minimum": 0}, "kind": {"$ref": "#/definitions/Kind"}}, "required": ["kind"]}},
		"zulu": {"type": "string", "maxLength": 10}}},
	{"$id": "urn:Ping.conf", "type": "object", "additionalProperties": false, "properties": {}}
]`
	wantPing = header + `
package vx

import "holdfast/ocpp"

// PingRequest is sent by a station.
type PingRequest struct {
	Zulu   string        ` + "`" + `json:"zulu" ocpp:"required,max=10"` + "`" + `
	At     ocpp.DateTime ` + "`" + `json:"at,omitzero"` + "`" + `
	Things []Thing       ` + "`" + `json:"things,omitempty" ocpp:"items=2..4"` + "`" + `
}

// PingResponse is the response to PingRequest.
type PingResponse struct {
}

// Thing is ThingType of OCPP X.
type Thing struct {
	Kind   Kind ` + "`" + `json:"kind" ocpp:"required"` + "`" + `
	EVSEID *int ` + "`" + `json:"evseId,omitempty" ocpp:"ge=0"` + "`" + `
}

// Kind is KindEnumType of OCPP X.
type Kind string

const (
	KindOne     Kind = "One"
	KindTwoMore Kind = "Two.More"
)

// Values lists the values of Kind.
func (Kind) Values() []string {
	return []string{"One", "Two.More"}
}
`
)

func pingVersion() *version {
	return &version{
		name: "X", pkg: "vx", typed: "t.js", other: "o.json", actions: 1,
		preferOther: []string{"PingRequest/zulu"},
		mend:        map[string]func(*Schema){"PingRequest/things": minItems(2)},
		fromStation: []string{"Ping"},
	}
}

// sources writes the two sources into a new directory.
func sources(t *testing.T, typed, other string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"t.js": typed, "o.json": other} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGenerate(t *testing.T) {
	in, out := sources(t, typedSource, otherSource), t.TempDir()
	stale := filepath.Join(out, "vx", "stale.go")
	kept := filepath.Join(out, "vx", "doc.go")
	os.Mkdir(filepath.Dir(stale), 0o755)
	os.WriteFile(stale, []byte(header), 0o644)
	os.WriteFile(kept, []byte("package vx\n"), 0o644)

	if err := generate(pingVersion(), in, in, out, false); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(out, "vx", "ping.go"))
	if err != nil || string(got) != wantPing {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a file that is no longer generated was left")
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("a file that is not generated was removed")
	}
	if err := generate(pingVersion(), in, in, out, true); err != nil {
		t.Errorf("just written: %v", err)
	}
	os.WriteFile(filepath.Join(out, "vx", "ping.go"), append(got, "// changed by hand\n"...), 0o644)
	if err := generate(pingVersion(), in, in, out, true); err == nil || !strings.Contains(err.Error(), "ping.go") {
		t.Errorf("changed by hand: %v", err)
	}
}

func TestGenerateStops(t *testing.T) {
	for _, tt := range []struct {
		name         string
		typed, other string // changed sources: "old -> new"
		change       func(*version)
		want         string
	}{
		{"undecided difference", "", "", func(v *version) { v.preferOther = nil }, "nothing is decided"},
		{"field missing in one source", `"at": {"type": "string", "format": "date-time"},->`, "", nil, "nothing is decided"},
		{"no length to prefer", "", `, "maxLength": 10->`, nil, "no length"},
		{"decision about nothing", "", `"maxLength": 10->"maxLength": 20`, nil, "no longer a difference"},
		{"mend of nothing", "", "", func(v *version) { v.mend["PingRequest/none"] = minItems(1) }, "nothing to mend"},
		{"name of nothing", "", "", func(v *version) { v.names = map[string]string{"NoType": "X"} }, "nothing is called"},
		{"number of actions", "", "", func(v *version) { v.actions = 2 }, "1 actions, want 2"},
		{"two types of one name", "", "", func(v *version) { v.names = map[string]string{"KindEnumType": "Thing"} }, "another Thing"},
		{"two values of one name", `"Two.More"->"Two.More", "TwoMore"`, `"Two.More"->"Two.More", "TwoMore"`, nil, "KindTwoMore"},
		{"keyword that may be a rule", `"maxLength": 20->"maxLength": 20, "pattern": "x"`, "", nil, "pattern"},
		{"open object", "\"additionalProperties\": false,\n    \"properties\": {\n    }->\"properties\": {}",
			`Ping.conf", "type": "object", "additionalProperties": false->Ping.conf", "type": "object"`, nil, "other fields are allowed"},
	} {
		edit := func(source, change string) string {
			old, new, _ := strings.Cut(change, "->")
			return strings.ReplaceAll(source, old, new)
		}
		typed, other := typedSource, otherSource
		if tt.typed != "" {
			typed = edit(typed, tt.typed)
		}
		if tt.other != "" {
			other = edit(other, tt.other)
		}
		in := sources(t, typed, other)
		v := pingVersion()
		if tt.change != nil {
			tt.change(v)
		}
		if err := generate(v, in, in, t.TempDir(), false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestUnpack(t *testing.T) {
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	for _, name := range []string{"package/a/b.js", "package/../../evil.js", "elsewhere/c.js"} {
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644})
		w.Write([]byte("x"))
	}
	w.Close()
	z.Close()
	dir := filepath.Join(t.TempDir(), "in", "package")
	if err := unpack(dir, archive.Bytes()); err != nil {
		t.Fatal(err)
	}
	var found []string
	filepath.WalkDir(filepath.Dir(filepath.Dir(dir)), func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if len(found) != 1 || found[0] != filepath.Join(dir, "a", "b.js") {
		t.Errorf("unpacked %v", found)
	}
}
