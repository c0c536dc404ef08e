package leak

import (
	"bytes"
	"debug/elf"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/e2e"
)

// leastText is the length from which a text in the source is looked for in a
// binary: shorter ones are there by chance.
const leastText = 16

// TestNoFaultsInRelease proves that the product holds no code of the benchmark's
// faults: neither a function nor a text that only files with the tag leakfaults
// have. The benchmark's build, which has them all, shows that the search finds.
func TestNoFaultsInRelease(t *testing.T) {
	functions, texts := faultsOnly(t)
	if len(functions) < 20 || len(texts) < 20 {
		t.Fatalf("%d functions and %d texts of the faults: too few to look for", len(functions), len(texts))
	}
	found := func(binary string) (names, strings []string) {
		f, err := elf.Open(binary)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		section := f.Section(".gopclntab") // the names of all functions, inlined ones too
		if section == nil {
			section = f.Section(".data.rel.ro.gopclntab")
		}
		if section == nil {
			t.Fatalf("%s has no table of functions", binary)
		}
		table, err := section.Data()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range functions {
			if bytes.Contains(table, []byte("\x00"+name+"\x00")) {
				names = append(names, name)
			}
		}
		whole, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if bytes.Contains(whole, []byte(text)) {
				strings = append(strings, text)
			}
		}
		return names, strings
	}
	names, strings := found(e2e.Build(t, "holdfast/cmd/holdfast"))
	if len(names)+len(strings) > 0 {
		t.Errorf("the release has functions %q and texts %q of the faults", names, strings)
	}
	names, strings = found(faulty(t))
	if len(strings) != len(texts) || len(names) < len(functions)*9/10 { // few are gone by optimisation
		t.Errorf("the benchmark's build has %d of %d functions and %d of %d texts", len(names), len(functions), len(strings), len(texts))
	}
}

// TestReleaseServesNoFaults asks a released process for what the benchmark
// drives.
func TestReleaseServesNoFaults(t *testing.T) {
	n := e2e.All(t)
	for _, path := range []string{"/debug/faults", "/debug/clock", "/debug/step"} {
		for _, method := range []string{"GET", "POST"} {
			r, err := http.NewRequest(method, n.Admin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", method, path, answer.Status)
			}
		}
	}
}

// faultsOnly returns the functions, and the texts, that only files of the tag
// have.
func faultsOnly(t *testing.T) (functions, texts []string) {
	root := filepath.Join("..", "..")
	var rest []byte // the source of the release
	declared := make(map[string]bool)
	for _, dir := range []string{"cmd/holdfast", "gateway"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			syntax, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			pkg := "main"
			if dir != "cmd/holdfast" {
				pkg = "holdfast/" + dir
			}
			only := needsFaults(syntax)
			if !only {
				rest = append(rest, source...)
			}
			for _, d := range syntax.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Type.TypeParams != nil { // generic ones have other names
					continue
				}
				name := pkg + "." + f.Name.Name
				if f.Recv != nil {
					switch recv := f.Recv.List[0].Type.(type) {
					case *ast.StarExpr:
						of, ok := recv.X.(*ast.Ident)
						if !ok { // of a generic type
							continue
						}
						name = pkg + ".(*" + of.Name + ")." + f.Name.Name
					case *ast.Ident:
						name = pkg + "." + recv.Name + "." + f.Name.Name
					default:
						continue
					}
				}
				if only {
					functions = append(functions, name)
				} else {
					declared[name] = true
				}
			}
			if !only {
				continue
			}
			ast.Inspect(syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ImportSpec, *ast.StructType:
					return false
				case *ast.BasicLit:
					if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && len(text) >= leastText {
						texts = append(texts, text)
					}
				}
				return true
			})
		}
	}
	functions = slices.DeleteFunc(functions, func(name string) bool { return declared[name] })
	texts = slices.DeleteFunc(texts, func(text string) bool { return bytes.Contains(rest, []byte(text)) })
	return functions, texts
}

// needsFaults reports whether a file is only built with the tag.
func needsFaults(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil {
				return expr.Eval(func(tag string) bool { return true }) && !expr.Eval(func(tag string) bool { return tag != "leakfaults" })
			}
		}
	}
	return false
}
