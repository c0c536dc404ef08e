package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestQuirksPage: docs/quirks.md has every fault and quirk, and nothing that the
// fleet does not know; its rows are the observations of the field, without a gap.
func TestQuirksPage(t *testing.T) {
	text, err := os.ReadFile("../docs/quirks.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, f := range Faults() {
		if !strings.Contains(page, "`"+f.String()+"`") {
			t.Errorf("the page has no %s", f)
		}
	}
	tests := ""
	files, err := filepath.Glob("../e2e/faults/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(source)
	}
	for _, name := range regexp.MustCompile("Test[A-Z][A-Za-z0-9]+").FindAllString(page, -1) {
		if !strings.Contains(tests, "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
	row := 0
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || strings.Contains(cells[1], "#") || strings.HasPrefix(cells[1], "--") {
			continue
		}
		row++
		if want := fmt.Sprint(row); strings.TrimSpace(cells[1]) != want {
			t.Errorf("row %s, want %s", cells[1], want)
		}
		for _, name := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[3], -1) {
			others := []string{"ping", "duplicates", "storm"} // of scenarios
			if _, ok := FaultByName(name[1]); !ok && !slices.Contains(others, name[1]) {
				t.Errorf("row %d: the fleet has no %s", row, name[1])
			}
		}
	}
	if row != 30 {
		t.Errorf("%d rows, want 30", row)
	}
}
