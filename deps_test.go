package holdfast

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the architecture: which of our packages a package may import.
// ocpp holds the shared words and is open to all. Tests may import more.
var mayImport = map[string][]string{
	"":                     {},
	"cmd/holdfast":         {"*"},
	"ocpp":                 {},
	"ocpp/v16":             {"ocpp"},
	"ocpp/v201":            {"ocpp"},
	"ocpp/v21":             {"ocpp"},
	"ws":                   {"ws/record"},
	"ws/record":            {},
	"gateway":              {"ocpp", "ws"},
	"bus":                  {"ocpp"},
	"pki":                  {},
	"est":                  {},
	"authority":            {"est", "ocpp", "pki", "store"},
	"store":                {"ocpp"},
	"store/storetest":      {"store"},
	"csms":                 {"ocpp", "ocpp/v16", "ocpp/v201", "ocpp/v21", "store"},
	"csms/action16":        {"ocpp", "ocpp/v16", "csms", "store"},
	"csms/action201":       {"ocpp", "ocpp/v201", "csms", "store"},
	"csms/action21":        {"ocpp", "ocpp/v21", "csms", "store"},
	"csms/iso15118":        {"ocpp", "csms", "pki"},
	"api":                  {"ocpp", "csms", "store"},
	"fleet":                {"ocpp"},
	"fleet/identity":       {"fleet", "ocpp"},
	"fleet/scenario":       {"fleet", "ocpp"},
	"fleet/report":         {"fleet", "fleet/scenario"},
	"memory":               {},
	"leak":                 {"memory"},
	"leak/bench":           {"leak"},
	"leak/hunt":            {"leak", "memory"},
	"internal/browsertest": {},
	"internal/ocppgen":     {},
	"e2e":                  {},
}

// TestImports fails on an import between our packages that the table does not
// have, and on a package that it does not know.
func TestImports(t *testing.T) {
	seen := make(map[string]bool)
	for file, imports := range ourFiles(t) {
		dir := path.Dir(file)
		if dir == "." {
			dir = ""
		}
		seen[dir] = true
		allowed, ok := mayImport[dir]
		if !ok {
			t.Errorf("%s: package %q is not in the table of deps_test.go", file, dir)
			continue
		}
		for _, imp := range imports {
			ours, ok := strings.CutPrefix(imp, "holdfast/")
			if !ok || slices.Contains(allowed, "*") || slices.Contains(allowed, ours) {
				continue
			}
			t.Errorf("%s imports %s: %s may import only %v", file, imp, dir, allowed)
		}
	}
	for dir := range mayImport {
		if !seen[dir] && dir != "" {
			t.Errorf("the table has %q, which holds no package", dir)
		}
	}
}

// TestPackageComments fails on a package without a comment that says its job.
func TestPackageComments(t *testing.T) {
	documented := make(map[string]bool)
	for file := range ourFiles(t) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(file)
		documented[dir] = documented[dir] || f.Doc != nil && len(f.Doc.Text()) > 60
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// ourFiles returns the files of this module that are not tests, with their imports.
func ourFiles(t *testing.T) map[string][]string {
	t.Helper()
	files := make(map[string][]string)
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (p == "bench" || p == "e2e/estserver" || name == "testdata" || name == "node_modules" || p != "." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		imports := make([]string, len(f.Imports))
		for i, s := range f.Imports {
			imports[i], _ = strconv.Unquote(s.Path.Value)
		}
		files[filepath.ToSlash(p)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
