package hunt

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/leak"
)

// TestPage: the document is well-formed, whole in itself, and what came from
// outside cannot become markup.
func TestPage(t *testing.T) {
	const hostile = `<script>alert("1")</script>`
	r := &Report{
		Started: time.Unix(1e9, 0).UTC(), Took: 60, Verdict: VerdictLeak, Rounds: 1,
		Summary:  []string{"leak", "each mutual-TLS reconnect keeps 3.4 KB (3.1–3.7) off-heap"},
		Warnings: []string{hostile},
		Activities: []ActivityReport{
			{Cohort: "mutual-TLS", Event: "reconnect", Events: 100, Verdict: VerdictLeak,
				Effects:  map[Quantity]Effect{Kept: {Value: 3400, Low: 3100, High: 3700}, "off_heap": {Value: 3400, Low: 3100, High: 3700}},
				Findings: []Finding{{Quantity: "off_heap", Verdict: VerdictLeak}}},
			{Cohort: "TLS", Event: "reconnect", Verdict: VerdictNone},
		},
		Blocks: []Block{
			{Activity: -1, Readings: map[Quantity]float64{Resident: 5e7, Kept: 4e7, "off_heap": 1e7}},
			{Activity: 0, Events: 100, At: 1, Readings: map[Quantity]float64{Resident: 5.1e7, Kept: 4.1e7, "off_heap": 1.1e7}},
			{Phase: PhaseEvidence, Activity: 0, Events: 100, At: 99, Readings: map[Quantity]float64{Resident: 777 << 20, Kept: 777 << 20, "off_heap": 777 << 20}},
			{Activity: 1, Events: 100, At: 2, Readings: map[Quantity]float64{Resident: 5.1e7, Kept: 4.1e7, "off_heap": 1.1e7}},
		},
	}
	page := Page{Report: r, Settings: [][2]string{{"target", hostile}}, Evidence: []Evidence{{Activity: "mutual-TLS reconnect", Difference: leak.Difference{
		Kind: "heap", Unit: "bytes", Totals: []int64{1, 2, 3}, Rows: []leak.Grown{{Name: hostile, Growth: 4096, Stack: []string{hostile}}},
	}}}}
	var out bytes.Buffer
	if err := page.Write(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, part := range []string{"each mutual-TLS reconnect keeps 3.4 KB", "three heap profiles (1 B, 2 B, 3 B) over mutual-TLS reconnects", "<polyline", "off-heap per event"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in the page", part)
		}
	}
	for _, part := range []string{"<script", "src=", "href=", "NaN", "Inf", "%!", "777.0 MB"} {
		if strings.Contains(text, part) {
			t.Errorf("%q in the page", part)
		}
	}
	d := xml.NewDecoder(&out)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		bytes     bool
		want      int
	}{{0, 10, false, 6}, {-3, 5000, true, 5}, {0, 50 << 20, true, 6}, {0, 1, false, 6}} {
		if got := ticks(tt.low, tt.high, 6, tt.bytes); len(got) < tt.want-2 || len(got) > tt.want+2 {
			t.Errorf("ticks from %g to %g: %v", tt.low, tt.high, got)
		}
	}
}
