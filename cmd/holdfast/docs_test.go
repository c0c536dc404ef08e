package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	inlineRun  = regexp.MustCompile("`(holdfast [^`]+)`")
	substitute = regexp.MustCompile(`\$\([^)]*\)|\$[a-z]+|'[^']*'|"[^"]*"`)
)

// oneWord makes words of what a shell would: without spaces and operators.
func oneWord(text string) string {
	return substitute.ReplaceAllStringFunc(text, func(s string) string {
		if s[0] == '$' {
			return "X"
		}
		return strings.Join(strings.FieldsFunc(s[1:len(s)-1], func(r rune) bool { return strings.ContainsRune(" ;|&", r) }), "")
	})
}

// documented returns the commands of this program in a page, one a line.
func documented(page string) (list []string) {
	var code strings.Builder
	for _, m := range codeBlock.FindAllStringSubmatch(page, -1) {
		code.WriteString(oneWord(strings.ReplaceAll(m[1], "\\\n", " ")))
	}
	for line := range strings.Lines(code.String()) {
		for part := range strings.SplitSeq(strings.NewReplacer("; do ", ";", "&&", ";", "|", ";").Replace(line), ";") {
			part = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(part), "$ "), "bin/")
			if strings.HasPrefix(part, "holdfast ") {
				list = append(list, part)
			}
		}
	}
	for _, m := range inlineRun.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		list = append(list, m[1])
	}
	return list
}

// Every command that the documentation tells is one, and has the flags that it
// is told to have.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	total := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range documented(string(text)) {
			total++
			words := strings.Fields(oneWord(command))[1:]
			var args []string
			for _, w := range words {
				if strings.HasPrefix(w, "#") || strings.HasPrefix(w, ">") || strings.HasPrefix(w, "2>") || w == "&" {
					break
				}
				w, _, _ = strings.Cut(strings.Trim(w, "[]"), "|") // the first of several
				switch w {
				case "…", "...", "COMMAND":
				case "N":
					args = append(args, "2")
				default:
					args = append(args, w)
				}
			}
			var out, complaint bytes.Buffer
			code := run(t.Context(), append(args, "--help"), &out, &complaint)
			if code != exitDone && !strings.Contains(complaint.String(), "no such file") {
				t.Errorf("%s: %s\n  %s", filepath.Base(page), command, complaint.String())
			}
		}
	}
	if total < 100 {
		t.Errorf("only %d commands were found", total)
	}
}
