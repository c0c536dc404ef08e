// Package browsertest lets a test look at a page as its reader does: in a real
// browser, light or dark, wide or narrow.
package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// View is how a page is looked at.
type View struct {
	Dark  bool
	Width int // of the window, in pixels; Chromium has none below 500
}

// Look opens page, a whole HTML document, and reads into v what script found: the
// JSON of its constant found. The script runs when the page is laid out.
func Look(t *testing.T, page, script string, view View, v any) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	script = "<script>" + script + `
const output = document.createElement('output');
output.textContent = JSON.stringify(found);
document.body.append(output);
</script></body>`
	if err := os.WriteFile(file, []byte(strings.Replace(page, "</body>", script, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	scheme := 1
	if view.Dark {
		scheme = 0
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir="+filepath.Join(dir, "profile"),
		fmt.Sprintf("--blink-settings=preferredColorScheme=%d", scheme), fmt.Sprintf("--window-size=%d,1200", view.Width), "--dump-dom", "file://"+file).Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	text := output.FindSubmatch(out)
	if text == nil {
		t.Fatalf("the browser did not get to the end of the page: %.2000s", out)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(string(text[1]))), v); err != nil {
		t.Fatal(err)
	}
}

var output = regexp.MustCompile(`<output>(.*)</output>`)

// chromium is the path of a browser. Without one the test is skipped, in CI it
// fails.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("chromium is missing: .ci/run installs it")
	}
	t.Skip("no chromium")
	return ""
}
