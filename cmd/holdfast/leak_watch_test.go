package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/memory"
)

// A watch shows this test's own admin port and process, as lines, as JSON and as
// the table of a terminal.
func TestLeakWatch(t *testing.T) {
	url := adminPort(t, adminFlags{ListenAdmin: "127.0.0.1:0"})
	for _, tt := range []struct {
		name string
		args []string
		want []string
		code int
	}{
		{"Holdfast", []string{"leak", "watch", "--admin", url, "--for", "1s", "--interval", "100ms"}, []string{"rss=", " heap_live=", " goroutines="}, exitDone},
		{"by pid", []string{"leak", "watch", "--pid", strconv.Itoa(os.Getpid()), "--for", "1s", "--interval", "100ms"}, []string{"rss=", " anonymous=", " threads="}, exitDone},
		{"JSON", []string{"--json", "leak", "watch", "--admin", url, "--for", "1s", "--interval", "100ms"}, []string{`"rss_bytes":`, `"heap_live":`}, exitDone},
		{"nobody", []string{"leak", "watch", "--admin", "http://127.0.0.1:1", "--for", "1s"}, []string{"admin port"}, exitFailed},
		{"no such process", []string{"leak", "watch", "--pid", "999999999"}, []string{"999999999"}, exitUsage},
		{"too often", []string{"leak", "watch", "--interval", "1ms"}, []string{"--interval"}, exitUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), tt.args, &out, &errs); code != tt.code {
				t.Fatalf("exit status %d, want %d: %s", code, tt.code, errs.String())
			}
			text := out.String() + errs.String()
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in %s", want, text)
				}
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if tt.code == exitDone && len(lines) < 2 {
				t.Errorf("one reading only: %s", text)
			}
			if tt.args[0] == "--json" {
				for _, line := range lines {
					var s memory.Sample
					if err := json.Unmarshal([]byte(line), &s); err != nil || s.RSS == 0 {
						t.Errorf("%s: %v", line, err)
					}
				}
			}
		})
	}
}

func TestLeakWatchTable(t *testing.T) {
	var out bytes.Buffer
	w := watching{head: "somewhere", w: &out, redraw: true, past: map[string][]int64{"rss": {1 << 20, 2 << 20}}}
	start := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	cohort := "profile 3, TLS 1.3, OCPP 2.0.1"
	for i := range int64(3) {
		err := w.show(memory.Sample{
			Time: start.Add(time.Duration(i) * time.Hour / 4), RSS: (3 + i) << 20,
			Classes:       map[memory.Class]int64{memory.HeapLive: 1 << 20, memory.OffHeap: (2 + i) << 20},
			Kernel:        map[memory.Class]int64{memory.Sockets: 3900, memory.SocketBuffers: 5 << 10},
			Counts:        map[memory.Count]int64{memory.SocketFiles: 1},
			Cohorts:       map[string]int64{cohort: 1},
			CohortBuffers: map[string]int64{cohort: 5 << 10},
			Zombies:       map[string]int64{"tls, " + cohort: i, "websocket, " + cohort: 0},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tables := strings.Split(out.String(), "somewhere")
	last := tables[len(tables)-1]
	var rows []string
	for _, line := range strings.Split(last, "\n") {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"watched for 30m0s", "rss 5 MB +2 MB +4 MB ▁▂▄▆█", "heap_live 1 MB 0 B 0 B ▁▁▁", "off_heap 4 MB +2 MB +4 MB ▁▄█",
		"kernel sockets 3.81 KB 0 B 0 B ▁▁▁", "sockets 1 0 0 ▁▁▁", "zombies 2 +2 +4 ▁▄█", cohort + " 1 5 KB buffered", "held: tls, " + cohort + " 2",
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no row %q in\n%s", want, last)
		}
	}
	if up := "\x1b[" + strconv.Itoa(strings.Count(last, "\n")) + "A\x1b[J"; !strings.Contains(out.String(), up) {
		t.Errorf("the table is not drawn over the last one: no %q", up)
	}
}

// An admin port with a token is watched by who has it.
func TestLeakWatchToken(t *testing.T) {
	dir := t.TempDir()
	file, wrong := filepath.Join(dir, "token"), filepath.Join(dir, "wrong")
	for name, token := range map[string]string{file: "a-token-of-twenty-characters", wrong: "another-one-of-twenty-characters"} {
		if err := os.WriteFile(name, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	url := adminPort(t, adminFlags{ListenAdmin: "127.0.0.1:0", AdminTokenFile: file})
	for _, tt := range []struct {
		name, want string
		args       []string
		code       int
	}{
		{"none", "it asks for a token", nil, exitFailed},
		{"wrong", "it asks for a token", []string{"--admin-token-file", wrong}, exitFailed},
		{"right", "rss=", []string{"--admin-token-file", file}, exitDone},
		{"metrics", "rss=", []string{"--admin-token-file", file, "--metrics", url + "/metrics"}, exitDone},
		{"no file", "no such file", []string{"--admin-token-file", file + "x"}, exitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"leak", "watch", "--admin", url, "--for", "500ms", "--interval", "100ms"}, tt.args...), &out, &errs)
			if text := out.String() + errs.String(); code != tt.code || !strings.Contains(text, tt.want) || strings.Contains(text, "twenty-characters") {
				t.Errorf("exit status %d, want %d with %q: %s", code, tt.code, tt.want, text)
			}
		})
	}
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"leak", "status", "--admin", url}, io.Discard, &errs); code != exitFailed || !strings.Contains(errs.String(), "--admin-token-file") {
		t.Errorf("leak status without the token: exit status %d: %s", code, errs.String())
	}
	errs.Reset()
	if code := run(t.Context(), []string{"leak", "status", "--admin", url, "--admin-token-file", file}, io.Discard, &errs); code != exitFailed || !strings.Contains(errs.String(), "503") {
		t.Errorf("leak status of a process that starts: exit status %d: %s", code, errs.String())
	}
}

// The picture is served and written.
func TestMemoryPicture(t *testing.T) {
	url := adminPort(t, adminFlags{ListenAdmin: "127.0.0.1:0"})
	answer, err := http.Get(url + "/debug/memory.svg")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	served, err := io.ReadAll(answer.Body)
	if err != nil || answer.Header.Get("Content-Type") != "image/svg+xml" {
		t.Errorf("%s, %v", answer.Header, err)
	}
	file := filepath.Join(t.TempDir(), "memory.svg")
	if code := run(t.Context(), []string{"leak", "watch", "--admin", url, "--for", "300ms", "--picture", file}, io.Discard, io.Discard); code != exitDone {
		t.Fatalf("exit status %d", code)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(served), string(written)} {
		if !strings.HasPrefix(text, "<svg ") || !strings.Contains(text, "resident set (RSS)") {
			t.Errorf("no picture: %.200s", text)
		}
	}
}

// An admin port serves the history, which the next process goes on with.
func TestMemoryHistory(t *testing.T) {
	dir := t.TempDir()
	for want := 1; want <= 2; want++ {
		t.Run(strconv.Itoa(want), func(t *testing.T) {
			url, p := adminProcess(t, adminFlags{ListenAdmin: "127.0.0.1:0"})
			if err := p.startHistory(&adminFlags{}, "test", dir); err != nil {
				t.Fatal(err)
			}
			var past memory.Past
			for len(past.Recent) < want { // the first point of a process is taken at once
				if t.Context().Err() != nil {
					t.Fatal("no point")
				}
				if err := getJSON(t.Context(), url+"/debug/memory/history?last=1h", "", &past); err != nil {
					t.Fatal(err)
				}
			}
			if p := past.Recent[want-1]; p.RSS == 0 || p.Goroutines == 0 {
				t.Errorf("%+v", p)
			}
			if err := getJSON(t.Context(), url+"/debug/memory/history?last=soon", "", &past); err == nil || !strings.Contains(err.Error(), http.StatusText(http.StatusBadRequest)) {
				t.Errorf("last=soon: %v", err)
			}
		})
	}
}
