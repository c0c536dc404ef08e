package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestVerdictsAreBounded: beyond the limit those go that changed first, and a text
// beyond its limit is cut.
func TestVerdictsAreBounded(t *testing.T) {
	defer func(n int) { maxLeakVerdicts = n }(maxLeakVerdicts)
	maxLeakVerdicts = 20
	c, err := OpenCSMS(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for i := range 30 {
		v := LeakVerdict{ID: fmt.Sprint("v", i), Changed: at.Add(time.Duration(i) * time.Hour), Summary: strings.Repeat("x", 2*maxLeakText)}
		if err := c.SaveLeakVerdict(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	l, err := c.LeakVerdicts(t.Context(), LeakVerdictFilter{}, Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.Items); n != maxLeakVerdicts || l.Items[0].ID != "v29" || l.Items[n-1].ID != "v10" {
		t.Errorf("%d verdicts are kept, from %s to %s", n, l.Items[0].ID, l.Items[n-1].ID)
	}
	if n := len(l.Items[0].Summary); n != maxLeakText {
		t.Errorf("a summary of %d bytes", n)
	}
}
