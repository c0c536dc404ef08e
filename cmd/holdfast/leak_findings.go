package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"holdfast/leak"
)

// leakEvidence shows and fetches the profiles that a process took of itself at
// its verdicts.
type leakEvidence struct {
	adminTokenFlag
	Admin   string `help:"The process's admin port." default:"http://127.0.0.1:8801" placeholder:"URL"`
	Verdict string `arg:"" optional:"" help:"Show what grew between the moments of this verdict (holdfast leak status --json has the ids)."`
	Out     string `help:"Fetch the files into this directory: all, or those of the verdict." type:"path" placeholder:"DIR"`
	Rows    int    `help:"Stacks at most of each kind of profile." default:"5"`
	Frames  int    `help:"Frames of each stack." default:"8"`
}

// maxBundleFile bounds a file that is fetched, in bytes: more than a process
// keeps.
const maxBundleFile = 256 << 20

func (c *leakEvidence) Run(e *env) error {
	token, err := c.adminToken()
	if err != nil {
		return err
	}
	var bundles []leak.BundleInfo
	if err := getJSON(e.ctx, c.Admin+"/debug/leak/evidence", token, &bundles); err != nil {
		return err
	}
	if c.Out != "" {
		return c.fetch(e, token, bundles)
	}
	if c.Verdict != "" {
		return c.findings(e, token)
	}
	return e.print(bundles, func(w io.Writer) {
		if len(bundles) == 0 {
			fmt.Fprintln(w, "no evidence: there was no verdict")
			return
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "VERDICT\tMOMENT\tSIZE\tFILES")
		for _, b := range bundles {
			verdict, stage := b.Verdict()
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\n", verdict, leak.StageName(stage), leak.Bytes(float64(b.Size)), len(b.Files))
		}
		tw.Flush()
	})
}

// findings shows what grew.
func (c *leakEvidence) findings(e *env, token string) error {
	var f leak.Findings
	if err := getJSON(e.ctx, c.Admin+"/debug/leak/findings/"+url.PathEscape(c.Verdict), token, &f); err != nil {
		return err
	}
	return e.print(f, func(w io.Writer) {
		for _, m := range f.Moments {
			fmt.Fprintf(w, "%s  %-14s  %s of %s leaked, %d connections\n", m.Time.Format(time.RFC3339), leak.StageName(m.Stage), m.Class.Amount(m.Kept), m.Class, m.Connections)
		}
		for _, d := range []leak.Difference{f.Heap, f.Goroutines} {
			fmt.Fprintln(w)
			d.Rows = d.Rows[:min(len(d.Rows), max(0, c.Rows))]
			printDifference(w, d, c.Frames)
		}
	})
}

// fetch writes the files under the names that the process has for them.
func (c *leakEvidence) fetch(e *env, token string, bundles []leak.BundleInfo) error {
	var written []string
	for _, b := range bundles {
		verdict, _ := b.Verdict()
		if verdict == "" || c.Verdict != "" && c.Verdict != verdict {
			continue
		}
		dir := filepath.Join(c.Out, b.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for _, file := range b.Files {
			if !filepath.IsLocal(file) || file != filepath.Base(file) {
				return fmt.Errorf("%s names a file %q, which cannot be one of evidence", c.Admin, file)
			}
			path := filepath.Join(dir, file)
			if err := getFile(e.ctx, c.Admin+"/debug/leak/evidence/"+url.PathEscape(b.Name)+"/"+url.PathEscape(file), token, path); err != nil {
				return err
			}
			written = append(written, path)
		}
	}
	if len(written) == 0 {
		return fmt.Errorf("%s has no evidence of that (holdfast leak evidence --admin %s)", c.Admin, c.Admin)
	}
	return e.print(written, func(w io.Writer) {
		for _, path := range written {
			fmt.Fprintln(w, path)
		}
	})
}

// getFile writes an answer of an admin port to a file.
func getFile(ctx context.Context, target, token, path string) (err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", target, answer.Status)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	n, err := io.Copy(f, io.LimitReader(answer.Body, maxBundleFile+1))
	if err == nil && n > maxBundleFile {
		err = fmt.Errorf("%s: more than %d MB", target, maxBundleFile>>20)
	}
	return err
}
