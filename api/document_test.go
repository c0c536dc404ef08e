package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
)

// The OpenAPI document is complete in itself, says everything of each operation,
// and is the same in JSON and YAML.
func TestDocument(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	f.token = "" // it needs no token
	j, y := f.send("GET", "/api/openapi.json", nil), f.send("GET", "/api/openapi.yaml", nil)
	if j.status != 200 || y.status != 200 || !bytes.Equal(j.body, f.api.OpenAPI()) {
		t.Fatalf("%d, %d", j.status, y.status)
	}
	var doc map[string]any
	check(t, json.Unmarshal(j.body, &doc))
	var fromYAML map[string]any
	check(t, yaml.Unmarshal(y.body, &fromYAML))
	again, err := json.Marshal(fromYAML)
	check(t, err)
	var same map[string]any
	check(t, json.Unmarshal(again, &same))
	if a, b := jsonOf(doc), jsonOf(same); a != b {
		t.Errorf("JSON and YAML differ: %d and %d bytes", len(a), len(b))
	}
	if doc["openapi"] != "3.1.0" {
		t.Errorf("openapi %v", doc["openapi"])
	}
	walk(doc, "#", func(where string, v any) {
		if m, ok := v.(map[string]any); ok {
			if ref, ok := m["$ref"].(string); ok && resolve(doc, ref) == nil {
				t.Errorf("%s: nothing at %s", where, ref)
			}
		}
	})
	ids := make(map[string]bool)
	parameter := regexp.MustCompile(`\{(\w+)\}`)
	for path, item := range doc["paths"].(map[string]any) {
		if !strings.HasPrefix(path, "/api/v1/") {
			t.Errorf("path %s", path)
		}
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
			if op["summary"] == nil || op["tags"] == nil {
				t.Errorf("%s lacks summary or tags", id)
			}
			var declared []string
			parameters, _ := op["parameters"].([]any)
			for _, p := range parameters {
				p := p.(map[string]any)
				if p["schema"] == nil {
					t.Errorf("%s: parameter %v has no schema", id, p["name"])
				}
				if p["in"] == "path" {
					declared = append(declared, p["name"].(string))
				} else if p["in"] == "query" && p["description"] == nil && p["schema"].(map[string]any)["enum"] == nil {
					t.Errorf("%s: parameter %v has no description", id, p["name"])
				}
			}
			for _, m := range parameter.FindAllStringSubmatch(path, -1) {
				if !slices.Contains(declared, m[1]) {
					t.Errorf("%s: path parameter %s is not declared", id, m[1])
				}
			}
			responses := op["responses"].(map[string]any)
			success := 0
			for status, r := range responses {
				r := r.(map[string]any)
				if r["description"] == nil || r["description"] == "" {
					t.Errorf("%s: response %s has no description", id, status)
				}
				content, _ := r["content"].(map[string]any)
				if status >= "400" && content["application/problem+json"] == nil && id != "call-station" {
					t.Errorf("%s: response %s is no problem document", id, status)
				}
				if status < "400" {
					success++
				}
			}
			if success == 0 {
				t.Errorf("%s has no response of success", id)
			}
			for _, status := range []string{"401", "403", "429", "500", "503"} {
				if responses[status] == nil {
					t.Errorf("%s: response %s is not documented", id, status)
				}
			}
		}
	}
	if len(ids) != len(roles) {
		t.Errorf("%d operations, %d in the table of roles", len(ids), len(roles))
	}
}

func walk(v any, where string, visit func(where string, v any)) {
	visit(where, v)
	switch v := v.(type) {
	case map[string]any:
		for name, child := range v {
			walk(child, where+"/"+name, visit)
		}
	case []any:
		for i, child := range v {
			walk(child, fmt.Sprint(where, "/", i), visit)
		}
	}
}

func resolve(doc map[string]any, ref string) any {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil
	}
	var v any = doc
	for _, name := range strings.Split(path, "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// counted sums the samples of a metric that have a label value.
func counted(t testing.TB, f *fixture, name, value string) (sum float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(f.api.Collectors()...)
	families, err := r.Gather()
	check(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	f.send("GET", "/api/v1/me", nil)
	f.send("GET", "/api/v1/stations/x", nil)
	f.send("GET", "/nowhere", nil)
	f.send("GET", "/api/nowhere", nil)
	for value, want := range map[string]float64{"get-caller": 1, "get-station": 1, "2xx": 1, "4xx": 2, "none": 1} {
		if got := counted(t, f, "holdfast_api_requests_total", value); got != want {
			t.Errorf("%s counted %v times, want %v", value, got, want)
		}
	}
}
