package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ocppgen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("ocppgen", flag.ExitOnError)
	out := flags.String("out", "ocpp", "`directory` that holds v16, v201 and v21")
	check := flags.Bool("check", false, "write nothing: print the sources' differences and fail if a file is not what would be written")
	typed := flags.String("typed", "", "unpacked typed-ocpp `directory`; empty: fetch it")
	other := flags.String("other", "", "unpacked ocpp-rpc `directory`; empty: fetch it")
	flags.Parse(args) // exits on error
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *typed == "" || *other == "" {
		dir, err := os.MkdirTemp("", "ocppgen")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := fetch(dir); err != nil {
			return err
		}
		*typed, *other = filepath.Join(dir, typedPackage.name), filepath.Join(dir, otherPackage.name)
	}
	for i := range versions {
		if err := generate(&versions[i], *typed, *other, *out, *check); err != nil {
			return err
		}
	}
	return nil
}

// generate writes or checks one version.
func generate(v *version, typed, other, out string, check bool) error {
	messages, differences, err := read(v, typed, other)
	if err != nil {
		return err
	}
	if check {
		for _, d := range differences {
			fmt.Printf("OCPP %s %s\n  typed-ocpp: %s\n  ocpp-rpc:   %s\n", v.name, d.Path, d.Typed, d.Other)
		}
	}
	if err := decide(v, messages, differences); err != nil {
		return err
	}
	m, err := build(v, messages)
	if err != nil {
		return err
	}
	files, err := m.files()
	if err != nil {
		return err
	}
	dir := filepath.Join(out, v.pkg)
	if check {
		return compare(dir, files)
	}
	return write(dir, files)
}

// read reads both sources of a version and compares them.
func read(v *version, typed, other string) ([]*Message, []Difference, error) {
	source, err := os.ReadFile(filepath.Join(typed, filepath.FromSlash(v.typed)))
	if err != nil {
		return nil, nil, err
	}
	messages, err := readModule(source)
	if err != nil {
		return nil, nil, fmt.Errorf("typed-ocpp, OCPP %s: %w", v.name, err)
	}
	if source, err = os.ReadFile(filepath.Join(other, filepath.FromSlash(v.other))); err != nil {
		return nil, nil, err
	}
	second, err := readList(source)
	if err != nil {
		return nil, nil, fmt.Errorf("ocpp-rpc, OCPP %s: %w", v.name, err)
	}
	return messages, crossCheck(messages, second), nil
}

// ours lists the files in dir that the generator wrote.
func ours(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(source, []byte(header)) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := ours(dir)
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, ok := files[name]; !ok {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name, source := range files {
		if err := os.WriteFile(filepath.Join(dir, name), source, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare reports files that are not what would be written.
func compare(dir string, files map[string][]byte) error {
	var wrong []string
	for name, source := range files {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(have, source) {
			wrong = append(wrong, name)
		}
	}
	old, err := ours(dir)
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, ok := files[name]; !ok {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("%s: not as generated: %s: run make generate", dir, strings.Join(wrong, ", "))
	}
	return nil
}
