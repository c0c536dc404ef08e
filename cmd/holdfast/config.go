package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// loadYAML reads the --config file: the names of the flags as keys, such as
// "listen-tls: 0.0.0.0:8882". A key that no flag has is an error.
func loadYAML(r io.Reader) (kong.Resolver, error) {
	values := make(map[string]any)
	name := "config file"
	if f, ok := r.(*os.File); ok {
		name += " " + f.Name()
	}
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	return &yamlResolver{name: name, values: values}, nil
}

type yamlResolver struct {
	name   string // of the file, for errors
	values map[string]any
}

// Validate refuses keys that are no flag of any command: a typing error would
// otherwise be a default in production.
func (y *yamlResolver) Validate(app *kong.Application) error {
	known := make(map[string]bool)
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
		for _, c := range n.Children {
			visit(c)
		}
	}
	visit(app.Node)
	for key := range y.values {
		if !known[key] {
			return fmt.Errorf("%s: %q is not the name of a flag", y.name, key)
		}
	}
	return nil
}

func (y *yamlResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := y.values[flag.Name]
	if !ok {
		return nil, nil
	}
	if list, ok := v.([]any); ok { // as on the command line
		parts := make([]string, len(list))
		for i, item := range list {
			parts[i] = fmt.Sprint(item)
		}
		return strings.Join(parts, ","), nil
	}
	if table, ok := v.(map[string]any); ok {
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(table)) {
			parts = append(parts, key+"="+fmt.Sprint(table[key]))
		}
		return strings.Join(parts, ";"), nil
	}
	return fmt.Sprint(v), nil
}
