package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"holdfast/api"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
)

type operationCommands struct {
	clientFlags
	List   operationList   `cmd:"" help:"List operations, newest first."`
	Show   operationShow   `cmd:"" help:"Show an operation and its steps."`
	Cancel operationCancel `cmd:"" help:"Cancel an operation; what can be put back is put back."`
	Retry  operationRetry  `cmd:"" help:"Begin an operation that failed or was cancelled again."`
}

// operationStart starts an operation on a station and may wait for its end.
type operationStart struct {
	stationArg
	Wait bool `help:"Wait for the end; exit status 1 unless it is done."`
}

func (c *operationStart) start(e *env, parent *stationCommands, kind string, params csms.OperationParams) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	body := map[string]any{"kind": kind}
	if params != (csms.OperationParams{}) {
		body["params"] = params
	}
	var o api.OperationView
	if err := cl.do(e.ctx, http.MethodPost, stationURL(c.ID, "/operations"), nil, body, &o); err != nil {
		return err
	}
	if c.Wait {
		return waitOperation(e, cl, o)
	}
	return e.print(o, func(w io.Writer) {
		fmt.Fprintf(e.stderr, "station %s: %s %s\n", plain(string(o.Station)), o.Kind, o.Status)
		fmt.Fprintln(w, o.ID)
	})
}

// pollInterval is the time between two looks at something that goes on by itself.
const pollInterval = 500 * time.Millisecond

// waitOperation shows an operation's steps until it is over.
func waitOperation(e *env, cl *client, o api.OperationView) error {
	shown := 0
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		for ; shown < len(o.Steps) && !e.json; shown++ {
			printStep(e.stdout, o.Steps[shown])
		}
		if o.Status.Ended() {
			break
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
		if err := cl.do(e.ctx, http.MethodGet, "/api/v1/operations/"+url.PathEscape(o.ID), nil, nil, &o); err != nil {
			return err
		}
	}
	if err := e.print(o, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", o.Kind, o.Status) }); err != nil {
		return err
	}
	if o.Status != store.OperationDone {
		return errSilent
	}
	return nil
}

func printStep(w io.Writer, s store.OperationStep) {
	fmt.Fprintf(w, "%s  %-8s  %-9s  %s\n", s.At.Local().Format(time.TimeOnly), s.Step, s.Outcome, plain(s.Detail))
}

type stationRenew struct{ operationStart }

func (c *stationRenew) Run(e *env, parent *stationCommands) error {
	return c.start(e, parent, csms.RenewCertificate, csms.OperationParams{})
}

type stationRotate struct{ operationStart }

func (c *stationRotate) Run(e *env, parent *stationCommands) error {
	return c.start(e, parent, csms.RotatePassword, csms.OperationParams{})
}

type stationUpgrade struct {
	operationStart
	Profile    int    `help:"Security profile to change to: 2 or 3." enum:"2,3" required:""`
	StationURL string `name:"station-url" help:"Address of the server for the new profile, without the identity. Default: the server's own setting." placeholder:"wss://HOST:PORT/PATH"`
	URLKey     string `name:"url-key" help:"OCPP 1.6: the maker's configuration key that holds the server's address." placeholder:"KEY"`
}

func (c *stationUpgrade) Run(e *env, parent *stationCommands) error {
	return c.start(e, parent, csms.ChangeProfile, csms.OperationParams{Profile: ocpp.SecurityProfile(c.Profile), URL: c.StationURL, URLKey: c.URLKey})
}

type stationOnboard struct {
	operationStart
	Profile    int    `help:"Security profile to take it to: 2 or 3. Default: that with which it comes." enum:"0,2,3" default:"0"`
	StationURL string `name:"station-url" help:"Address of the server for that profile, without the identity. Default: the server's own setting." placeholder:"wss://HOST:PORT/PATH"`
	URLKey     string `name:"url-key" help:"OCPP 1.6: the maker's configuration key that holds the server's address." placeholder:"KEY"`
}

func (c *stationOnboard) Run(e *env, parent *stationCommands) error {
	return c.start(e, parent, csms.Onboard, csms.OperationParams{Profile: ocpp.SecurityProfile(c.Profile), URL: c.StationURL, URLKey: c.URLKey})
}

type stationTrust struct {
	operationStart
	File string `arg:"" optional:"" type:"existingfile" help:"Root certificates to install, PEM. Default: those that servers' certificates rest on now."`
}

func (c *stationTrust) Run(e *env, parent *stationCommands) error {
	p := csms.OperationParams{}
	if c.File != "" {
		text, err := os.ReadFile(c.File)
		if err != nil {
			return fmt.Errorf("root certificates: %w", err)
		}
		p.Certificates = string(text)
	}
	return c.start(e, parent, csms.InstallRoot, p)
}

type stationOperations struct{ stationArg }

func (c *stationOperations) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	return listOperations(e, cl, stationURL(c.ID, "/operations"), nil, 0)
}

func listOperations(e *env, cl *client, path string, query url.Values, max int) error {
	operations, err := list[api.OperationView](e.ctx, cl, path, query, max)
	if err != nil {
		return err
	}
	return e.print(operations, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "ID\tSTATION\tKIND\tSTATUS\tSTEP\tBEGAN\tCAUSE")
		for _, o := range operations {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.ID, plain(string(o.Station)), o.Kind, o.Status, o.Step, since(o.CreatedAt), plain(o.Cause))
		}
	})
}

type operationList struct {
	Station  string `help:"Only on this station." placeholder:"ID"`
	Kind     string `help:"Only of this kind: renew-certificate, rotate-password, change-profile, install-root or onboard." enum:",renew-certificate,rotate-password,change-profile,install-root,onboard" default:""`
	Status   string `help:"Only with this status: queued, running, waiting, done, failed or cancelled." enum:",queued,running,waiting,done,failed,cancelled" default:""`
	Campaign string `help:"Only of this campaign." placeholder:"ID"`
	Max      int    `help:"The most to list." default:"100"`
}

func (c *operationList) Run(e *env, parent *operationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{"station": c.Station, "kind": c.Kind, "status": c.Status, "campaign": c.Campaign} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return listOperations(e, cl, "/api/v1/operations", query, c.Max)
}

// operationArg is the argument of commands about one operation.
type operationArg struct {
	ID string `arg:"" help:"Id of the operation."`
}

type operationShow struct {
	operationArg
	Wait bool `help:"Wait for the end; exit status 1 unless it is done."`
}

func (c *operationShow) Run(e *env, parent *operationCommands) error {
	var o api.OperationView
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/operations/"+url.PathEscape(c.ID), nil, nil, &o); err != nil {
		return err
	}
	if c.Wait {
		return waitOperation(e, cl, o)
	}
	return e.print(o, func(w io.Writer) { printOperation(w, o) })
}

func printOperation(w io.Writer, o api.OperationView) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	row("Operation", o.ID)
	row("Station", string(o.Station))
	row("Kind", o.Kind)
	row("Status", string(o.Status))
	row("Cause", o.Cause)
	row("Asked for by", o.By+", "+since(o.CreatedAt))
	row("Campaign", o.Campaign)
	if !o.Status.Ended() {
		row("Until", o.Deadline.Local().Format(time.DateTime))
	}
	tw.Flush()
	for _, s := range o.Steps {
		printStep(w, s)
	}
}

type operationCancel struct{ operationArg }

func (c *operationCancel) Run(e *env, parent *operationCommands) error {
	return c.act(e, parent, "/cancel")
}

type operationRetry struct{ operationArg }

func (c *operationRetry) Run(e *env, parent *operationCommands) error {
	return c.act(e, parent, "/retry")
}

// act makes a request that answers with the operation.
func (c operationArg) act(e *env, parent *operationCommands, below string) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var o api.OperationView
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/operations/"+url.PathEscape(c.ID)+below, nil, nil, &o); err != nil {
		return err
	}
	return e.print(o, func(w io.Writer) {
		fmt.Fprintf(w, "%s of station %s: %s\n", o.Kind, plain(string(o.Station)), o.Status)
	})
}
