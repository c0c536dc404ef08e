package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func openHistory(t *testing.T, path string) *History {
	t.Helper()
	h, err := OpenHistory(HistoryConfig{Account: NewAccount(), Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// fill adds n points from a time on, of which figure says RSS.
func fill(h *History, from time.Time, n int, figure func(i int) int64) (end time.Time) {
	for i := range n {
		v := figure(i)
		h.add(Point{Time: from, Started: h.started.UTC().Truncate(time.Millisecond), RSS: v, RSSMax: v, MTLS: 7})
		from = from.Add(recentStep)
	}
	return from
}

var morning = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

func TestHistorySteps(t *testing.T) {
	h := openHistory(t, "")
	fill(h, morning, 121, func(i int) int64 { return int64(i) }) // 20 minutes and the begin of the next ten
	past := h.Past(time.Time{})
	if len(past.Recent) != 121 || past.Recent[120].RSS != 120 {
		t.Fatalf("%d points, the last %+v", len(past.Recent), past.Recent[len(past.Recent)-1])
	}
	want := []Point{
		{Time: morning, Started: past.Recent[0].Started, RSS: 29, RSSMax: 59, MTLS: 7},
		{Time: morning.Add(longStep), Started: past.Recent[0].Started, RSS: 89, RSSMax: 119, MTLS: 7},
	}
	if !reflect.DeepEqual(past.Long, want) {
		t.Errorf("ten minutes: %+v\nwant %+v", past.Long, want)
	}
	if got := h.Past(morning.Add(19 * time.Minute)); len(got.Recent) != 7 || len(got.Long) != 0 {
		t.Errorf("since a time: %d and %d points, want 7 and 0", len(got.Recent), len(got.Long))
	}
}

// TestHistoryBound fills a history for nine days: memory, file and lengths have
// their ends, the oldest points make room for new ones, one for each, and are
// counted.
func TestHistoryBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h := openHistory(t, path)
	end := fill(h, morning, 9*24*360, func(i int) int64 { return int64(i) })
	past := h.Past(time.Time{})
	if len(past.Recent) != recentLen || len(past.Long) != longLen {
		t.Fatalf("%d and %d points, want %d and %d", len(past.Recent), len(past.Long), recentLen, longLen)
	}
	if first := past.Recent[0].Time; !first.Equal(end.Add(-time.Hour)) {
		t.Errorf("the first of the last hour is of %v, the end is %v", first, end)
	}
	if first := past.Long[0].Time; !first.Equal(end.Add(-longStep - 7*24*time.Hour)) {
		t.Errorf("the first of the last week is of %v, the end is %v", first, end)
	}
	// Every point counts as there or as gone.
	if want := (Gone{9*24*360 - uint64(recentLen), 9*24*6 - 1 - uint64(longLen)}); past.Gone != want {
		t.Errorf("gone %+v, want %+v", past.Gone, want)
	}
	// In the order of time, without a gap.
	for i, p := range past.Recent {
		if p.RSS != int64(9*24*360-recentLen+i) {
			t.Fatalf("point %d of the last hour is %d", i, p.RSS)
		}
	}
	for i := 1; i < len(past.Long); i++ {
		if d := past.Long[i].Time.Sub(past.Long[i-1].Time); d != longStep {
			t.Fatalf("%s between two of the last week", d)
		}
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	full := size()
	// One more: the oldest goes, and nothing grows.
	fill(h, end, 1, func(int) int64 { return 1e9 })
	now := h.Past(time.Time{})
	if !reflect.DeepEqual(now.Recent[:recentLen-1], past.Recent[1:]) || now.Recent[recentLen-1].RSS != 1e9 || now.Gone.Recent != past.Gone.Recent+1 {
		t.Errorf("after one more: %d points, gone %+v, before %+v", len(now.Recent), now.Gone, past.Gone)
	}
	if size() != full {
		t.Errorf("the full file grows from %d to %d bytes", full, size())
	}
	past = now
	const most = 512 << 10
	memory := (cap(h.recent.points) + cap(h.long.points)) * int(unsafe.Sizeof(Point{}))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes in memory, %d in the file", memory, info.Size())
	if memory > most || info.Size() > most {
		t.Errorf("%d bytes in memory, %d in the file, want at most %d", memory, info.Size(), most)
	}
	text, err := json.Marshal(past)
	if err != nil || len(text) > 2<<20 {
		t.Errorf("as JSON %d bytes, %v", len(text), err)
	}
}

// TestHistoryRestart reads what a process left that was killed: nothing of it
// was closed when the next one opens the file.
func TestHistoryRestart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		points int
	}{{"a few", 30}, {"an hour and more", 2*recentLen + 77}} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history")
			first := openHistory(t, path)
			end := fill(first, morning, tt.points, func(i int) int64 { return int64(i) })
			want := first.Past(time.Time{})
			if _, err := OpenHistory(HistoryConfig{Path: path}); !errors.Is(err, errLocked) {
				t.Errorf("a second process: %v, want %v", err, errLocked)
			}
			left, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}

			path += ".after"
			if err := os.WriteFile(path, left, 0o600); err != nil {
				t.Fatal(err)
			}
			second := openHistory(t, path)
			if got := second.Past(time.Time{}); !reflect.DeepEqual(got, want) {
				t.Fatalf("after the restart %d and %d points, want %d and %d as they were", len(got.Recent), len(got.Long), len(want.Recent), len(want.Long))
			}
			// It goes on, also over another restart.
			fill(second, end.Add(longStep), 61, func(i int) int64 { return 1000 })
			want = second.Past(time.Time{})
			if n := len(want.Long); want.Long[n-1].RSS != 1000 || !want.Recent[len(want.Recent)-1].Started.After(want.Recent[0].Started.Add(-time.Hour)) {
				t.Errorf("the last ten minutes: %+v", want.Long[n-1])
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			if got := openHistory(t, path).Past(time.Time{}); !reflect.DeepEqual(got, want) {
				t.Errorf("after the second restart %d and %d points, want %d and %d as they were", len(got.Recent), len(got.Long), len(want.Recent), len(want.Long))
			}
		})
	}
}

// TestHistoryDamage opens files that are torn, foreign or of another version.
func TestHistoryDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h := openHistory(t, path)
	fill(h, morning, 2*recentLen, func(i int) int64 { return int64(i) })
	h.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(whole)
	torn[headerSize+5*recordSize()+30] ^= 1
	other := bytes.Replace(bytes.Clone(whole), []byte("history 1"), []byte("history 0"), 1)
	for _, tt := range []struct {
		name string
		data []byte
		want int
	}{
		{"whole", whole, recentLen}, {"a torn record", torn, recentLen - 1}, {"cut off", whole[:headerSize+10*recordSize()+3], 10},
		{"another version", other, 0}, {"no history", []byte("something else"), 0}, {"empty", nil, 0}, {"only a header", whole[:headerSize], 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			h := openHistory(t, path)
			if got := len(h.Past(time.Time{}).Recent); got != tt.want {
				t.Errorf("%d points, want %d", got, tt.want)
			}
			fill(h, morning.Add(24*time.Hour), 2, func(int) int64 { return 5 })
			want := h.Past(time.Time{}).Recent
			h.Close()
			// The torn record's place is free in memory and not in the file.
			got := openHistory(t, path).Past(time.Time{}).Recent
			if n := len(want) - len(got); n < 0 || n > 1 || !reflect.DeepEqual(got, want[n:]) {
				t.Errorf("%d points after a restart, want %d", len(got), len(want))
			}
		})
	}
	if _, err := OpenHistory(HistoryConfig{Path: filepath.Join(path, "below a file")}); err == nil {
		t.Error("a path that cannot be: no error")
	}
}

// TestHistoryRun takes the account of this process for half an hour of
// simulated time.
func TestHistoryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openHistory(t, "")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute+time.Second)
		defer cancel()
		if err := h.Run(ctx); err != nil {
			t.Fatal(err)
		}
		past := h.Past(time.Time{})
		if len(past.Recent) != 181 || len(past.Long) != 3 {
			t.Errorf("%d and %d points, want 181 and 3", len(past.Recent), len(past.Long))
		}
		for _, p := range past.Recent {
			classes := p.HeapLive + p.HeapGarbage + p.HeapUnused + p.HeapFree + p.Stacks + p.Metadata + p.OffHeap + p.File + p.Shared
			if classes != p.RSS || p.Goroutines == 0 {
				t.Fatalf("classes add up to %d: %+v", classes, p)
			}
		}
	})
}

func FuzzHistoryRecord(f *testing.F) {
	r := ring{size: 3}
	_, record := r.add(Point{Time: morning, RSS: 5, OffHeap: -3})
	f.Add(record)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if number, p, ok := parseRecord(data); ok {
			again := ring{size: 3, number: number - 1}
			if _, record := again.add(p); !bytes.Equal(record, data) {
				t.Errorf("%x becomes %x", data, record)
			}
		}
	})
}
