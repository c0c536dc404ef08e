package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"holdfast/api"
	"holdfast/leak"
	"holdfast/store"
)

type leakCommands struct {
	Status   leakStatus   `cmd:"" help:"Show what leaks, of all processes or of one."`
	Evidence leakEvidence `cmd:"" help:"Show or fetch the profiles that a process took at its verdicts, and what grew between them."`
	Watch    leakWatch    `cmd:"" help:"Show the memory of a running process by class: of Holdfast, Go, Node.js or any other."`
	Bench    leakBench    `cmd:"" help:"Try the leak detector on simulated gateways, beside others."`
	Diff     leakDiff     `cmd:"" help:"Say what grew between two or three profiles of a Go program, or V8 heap snapshots."`
	Hunt     leakHunt     `cmd:"" help:"Find out by experiment what leaks in an OCPP server, and how much per event."`
}

// leakStatus shows verdicts of the record, or the states of one process.
type leakStatus struct {
	clientFlags
	adminTokenFlag
	Admin string `help:"Ask this process's admin port instead: the state of each class, such as http://127.0.0.1:8801." placeholder:"URL"`
	Ended bool   `help:"Show verdicts that ended, too."`
	Limit int    `help:"Verdicts at most." default:"100"`
}

// Run exits with status 1 if something leaks.
func (c *leakStatus) Run(e *env) error {
	if c.Admin != "" {
		return c.process(e)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	if !c.Ended {
		query.Set("open", "true")
	}
	var page api.Page[store.LeakVerdict]
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/verdicts", query, nil, &page); err != nil {
		return err
	}
	leaking := false
	for _, v := range page.Items {
		leaking = leaking || v.Ended.IsZero()
	}
	err = e.print(page.Items, func(w io.Writer) {
		if len(page.Items) == 0 {
			fmt.Fprintln(w, "nothing leaks")
			return
		}
		for _, v := range page.Items {
			fmt.Fprintf(w, "%s  %-6s  %s\n", v.Changed.Format(time.RFC3339), v.State, plain(v.Summary))
		}
	})
	if err == nil && leaking {
		return errSilent
	}
	return err
}

func (c *leakStatus) process(e *env) error {
	var s leak.Status
	token, err := c.adminToken()
	if err != nil {
		return err
	}
	if err := getJSON(e.ctx, c.Admin+"/debug/leak", token, &s); err != nil {
		return err
	}
	err = e.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s  %.1f h old\n", s.Process, s.State, s.Age)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "CLASS\tSTATE\tNOW\tPER CONNECTION\tVERDICT")
		for _, cs := range s.Classes {
			verdict := ""
			if cs.Verdict != nil {
				verdict = cs.Verdict.String()
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s ± %s\t%s\n", cs.Class, cs.State, cs.Class.Amount(cs.Value),
				cs.Class.Amount(cs.PerConnection), cs.Class.Amount(cs.Error), verdict)
		}
		tw.Flush()
	})
	if err == nil && s.State.Leak() {
		return errSilent
	}
	return err
}

// maxStatus is the largest answer of an admin port that is read, in bytes.
const maxStatus = 4 << 20

// adminTokenFlag is of commands that ask an admin port.
type adminTokenFlag struct {
	AdminTokenFile string `help:"File with the token that the admin port asks for." type:"path" placeholder:"FILE"`
}

// adminToken is empty if there is no file.
func (f *adminTokenFlag) adminToken() (string, error) {
	if f.AdminTokenFile == "" {
		return "", nil
	}
	return readToken(f.AdminTokenFile)
}

// getJSON asks an admin port, with a token unless that is empty.
func getJSON(ctx context.Context, target, token string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return &usageError{fmt.Sprintf("%s: %v", target, err)}
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("no answer from %s: %w (is that the admin port of a process of Holdfast?)", target, err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return fmt.Errorf("%s answers %s (give its token with --admin-token-file)", target, answer.Status)
	default:
		return fmt.Errorf("%s answers %s", target, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxStatus)).Decode(out); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return nil
}
