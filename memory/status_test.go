package memory

import (
	_ "embed"
	"strings"
	"testing"
)

var (
	//go:embed testdata/status
	statusSample string
	//go:embed testdata/smaps_rollup
	rollupSample string
)

func TestParseStatus(t *testing.T) {
	got, err := parseStatus(statusSample)
	want := status{rss: 68436 << 10, anon: 66776 << 10, file: 1660 << 10, peak: 68436 << 10, tables: 220 << 10, fdSize: 256, thread: 4}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, tt := range []struct{ name, text string }{
		{"empty", ""},
		{"kernel thread", "Name:\tkworker\nFDSize:\t64\nThreads:\t1\n"},
		{"not divided", "VmRSS:\t 12 kB\n"},
		{"negative", strings.Replace(statusSample, "66776", "-66776", 1)},
		{"no number", strings.Replace(statusSample, "66776", "much", 1)},
		{"other unit", strings.Replace(statusSample, "66776 kB", "66776 MB", 1)},
	} {
		if got, err := parseStatus(tt.text); err == nil {
			t.Errorf("%s: %+v, want an error", tt.name, got)
		}
	}
}

func TestParseRollup(t *testing.T) {
	got, err := parseRollup(rollupSample)
	if want := (rollup{hugePages: 2048 << 10, lazyFree: 16 << 10, pss: 328 << 10}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseRollup("no rollup"); err == nil {
		t.Error("want an error")
	}
}

func FuzzStatus(f *testing.F) {
	f.Add(statusSample)
	f.Add("VmRSS: 1 kB\nRssAnon: 18446744073709551615 kB\nRssFile: 1\nRssShmem: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStatus(text)
		if err == nil && (s.anon < 0 || s.file < 0 || s.shmem < 0 || s.rss < s.anon) {
			t.Errorf("%+v", s)
		}
		r, err := parseRollup(text)
		if err == nil && (r.pss < 0 || r.lazyFree < 0 || r.hugePages < 0) {
			t.Errorf("%+v", r)
		}
	})
}
