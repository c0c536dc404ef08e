package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"holdfast/leak"
	"holdfast/leak/hunt"
	"holdfast/memory"
)

const (
	// evidenceRows of a difference are kept in a report, evidenceFrames of a stack
	// are printed.
	evidenceRows   = 8
	evidenceFrames = 12
	// maxSnapshot bounds a V8 heap snapshot, in bytes.
	maxSnapshot = 1 << 30
)

// evidence takes profiles or heap snapshots of what leaks: before, between and
// after two blocks of the leaking activity.
type evidence struct {
	dir    string // where they are kept; empty: nowhere, then temp is used
	temp   string
	source memory.Source
	v8     bool // heap snapshots rather than profiles
	found  []hunt.Evidence
}

// kinds are what there is to take.
func (v *evidence) kinds() []string {
	if v.v8 {
		return []string{"heapsnapshot"}
	}
	return []string{"heap", "goroutine"}
}

// take takes them for the at-th time, from 0; after the third it compares.
func (v *evidence) take(ctx context.Context, a *hunt.Activity, at int) error {
	dir := v.dir
	if dir == "" {
		if v.temp == "" {
			var err error
			if v.temp, err = os.MkdirTemp("", "holdfast-hunt-"); err != nil {
				return err
			}
		}
		dir = v.temp
	} else if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, kind := range v.kinds() {
		if err := v.write(ctx, v.path(dir, a, kind, at), kind); err != nil {
			return err
		}
		if at < 2 {
			continue
		}
		if err := v.compare(dir, a, kind); err != nil {
			return fmt.Errorf("compare %s: %w", kind, err)
		}
	}
	return nil
}

func (v *evidence) path(dir string, a *hunt.Activity, kind string, at int) string {
	name := fmt.Sprintf("%s-%d.%s", strings.ReplaceAll(a.Name(), " ", "-"), at+1, kind)
	if !v.v8 {
		name += ".pb.gz"
	}
	return filepath.Join(dir, name)
}

func (v *evidence) write(ctx context.Context, path, kind string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	if v.v8 {
		_, err = v.source.(memory.HeapSnapshotter).HeapSnapshot(ctx, f, maxSnapshot)
		return err
	}
	_, err = v.source.(memory.Profiler).Profile(ctx, kind, f)
	return err
}

func (v *evidence) compare(dir string, a *hunt.Activity, kind string) error {
	found := hunt.Evidence{Activity: a.Name()}
	var inputs []io.Reader
	for at := range 3 {
		path := v.path(dir, a, kind, at)
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		inputs = append(inputs, f)
		if v.dir != "" {
			found.Files = append(found.Files, path)
		}
	}
	var err error
	if found.Difference, err = leak.Diff(leak.DiffConfig{}, inputs...); err != nil {
		return err
	}
	found.Rows = found.Rows[:min(len(found.Rows), evidenceRows)]
	v.found = append(v.found, found)
	return nil
}

// close removes what is not kept.
func (v *evidence) close() {
	if v.temp != "" {
		os.RemoveAll(v.temp)
	}
}

// printEvidence shows what grew, the first stack whole.
func printEvidence(w io.Writer, f *hunt.Evidence) {
	fmt.Fprintf(w, "\n%s\n", f.Title())
	if len(f.Rows) == 0 {
		fmt.Fprintln(w, "  nothing grew in both intervals")
	}
	for i, row := range f.Rows {
		if i == 3 {
			break
		}
		fmt.Fprintf(w, "  +%s  %s\n", f.Amount(row.Growth), plain(row.Name))
		if i > 0 {
			continue
		}
		for _, frame := range row.Stack[:min(len(row.Stack), evidenceFrames)] {
			fmt.Fprintf(w, "      %s\n", plain(frame))
		}
	}
	for _, file := range f.Files {
		fmt.Fprintf(w, "  %s\n", file)
	}
}
