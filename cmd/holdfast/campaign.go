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

type campaignCommands struct {
	clientFlags
	Start  campaignStart  `cmd:"" help:"Start an operation on many stations, at a pace."`
	List   campaignList   `cmd:"" help:"List campaigns, newest first."`
	Show   campaignShow   `cmd:"" help:"Show how far a campaign is."`
	Cancel campaignCancel `cmd:"" help:"Begin no more operations; those under way go on."`
	Resume campaignResume `cmd:"" help:"Go on with a campaign that halted."`
}

type campaignStart struct {
	Kind        string            `arg:"" help:"renew-certificate, rotate-password, change-profile or install-root." enum:"renew-certificate,rotate-password,change-profile,install-root"`
	Station     []string          `help:"These stations. Default: those that the other flags choose." placeholder:"ID,..."`
	Profile     int               `help:"Only stations that are registered for this security profile. Default: 3 for renew-certificate, else all." enum:"0,1,2,3" default:"0"`
	Search      string            `help:"Only stations with this in their identity or serial number." placeholder:"TEXT"`
	Label       map[string]string `help:"Only stations with all of these labels." placeholder:"NAME=VALUE"`
	Expiring    span              `help:"renew-certificate: only stations whose certificate expires within this time: 30d." placeholder:"TIME"`
	PerMinute   int               `help:"How many operations begin per minute." default:"60" placeholder:"N"`
	MaxFailures int               `help:"The campaign halts when more operations than this have failed." default:"10" placeholder:"N"`
	To          int               `help:"change-profile: the security profile to change to." enum:"0,2,3" default:"0"`
	StationURL  string            `name:"station-url" help:"change-profile: address of the server for the new profile, without the identity. Default: the server's own setting." placeholder:"wss://HOST:PORT/PATH"`
	URLKey      string            `name:"url-key" help:"change-profile, OCPP 1.6: the maker's configuration key that holds the server's address." placeholder:"KEY"`
	Roots       string            `help:"install-root: root certificates, PEM. Default: those that servers' certificates rest on now." type:"existingfile" placeholder:"FILE"`
	Wait        bool              `help:"Wait for the end; exit status 1 unless all operations are done."`
}

func (c *campaignStart) Run(e *env, parent *campaignCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	k := csms.NewCampaign{Kind: c.Kind, Profile: ocpp.SecurityProfile(c.Profile), Search: c.Search, Labels: c.Label, PerMinute: c.PerMinute, MaxFailures: &c.MaxFailures,
		Params: csms.OperationParams{Profile: ocpp.SecurityProfile(c.To), URL: c.StationURL, URLKey: c.URLKey}}
	for _, id := range c.Station {
		k.Stations = append(k.Stations, ocpp.StationID(id))
	}
	if c.Expiring > 0 {
		const day = 24 * time.Hour
		k.Expiring = int((time.Duration(c.Expiring) + day - 1) / day)
	}
	if c.Roots != "" {
		text, err := os.ReadFile(c.Roots)
		if err != nil {
			return fmt.Errorf("root certificates: %w", err)
		}
		k.Params.Certificates = string(text)
	}
	var state csms.CampaignState
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/campaigns", nil, k, &state); err != nil {
		return err
	}
	if c.Wait {
		return waitCampaign(e, cl, state)
	}
	return e.print(state, func(w io.Writer) {
		fmt.Fprintf(e.stderr, "%s on %d stations, %d per minute\n", state.Kind, state.Stations, state.PerMinute)
		fmt.Fprintln(w, state.ID)
	})
}

// waitCampaign shows how far a campaign is, until it is over or halts.
func waitCampaign(e *env, cl *client, k csms.CampaignState) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	shown := ""
	for {
		if line := progressLine(k); line != shown && !e.json {
			fmt.Fprintln(e.stdout, line)
			shown = line
		}
		if k.Status != store.CampaignChoosing && k.Status != store.CampaignRunning {
			break
		}
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
		k.Progress = nil // JSON would add to it
		if err := cl.do(e.ctx, http.MethodGet, campaignURL(k.ID, ""), nil, nil, &k); err != nil {
			return err
		}
	}
	if e.json {
		if err := e.print(k, nil); err != nil {
			return err
		}
	}
	if k.Status != store.CampaignDone || k.Progress[string(store.OperationDone)] != k.Stations {
		return errSilent
	}
	return nil
}

func campaignURL(id, below string) string { return "/api/v1/campaigns/" + url.PathEscape(id) + below }

func progressLine(k csms.CampaignState) string {
	line := fmt.Sprintf("%s: %d of %d stations done", k.Status, k.Progress[string(store.OperationDone)], k.Stations)
	for _, s := range []store.OperationStatus{store.OperationRunning, store.OperationWaiting, store.OperationQueued, store.OperationFailed, store.OperationCancelled} {
		if n := k.Progress[string(s)]; n > 0 {
			line += fmt.Sprintf(", %d %s", n, s)
		}
	}
	return line
}

func printCampaign(w io.Writer, k csms.CampaignState) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	row("Campaign", k.ID)
	row("Kind", k.Kind)
	row("Progress", progressLine(k))
	row("Cause", k.Cause)
	row("Pace", fmt.Sprintf("%d per minute, halts after %d failures", k.PerMinute, k.MaxFailures))
	row("Asked for by", k.By+", "+since(k.CreatedAt))
	if !k.ExpectEnd.IsZero() {
		row("Last begins", k.ExpectEnd.Local().Format(time.DateTime))
	}
}

type campaignList struct {
	Max int `help:"The most to list." default:"100"`
}

func (c *campaignList) Run(e *env, parent *campaignCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	campaigns, err := list[store.Campaign](e.ctx, cl, "/api/v1/campaigns", nil, c.Max)
	if err != nil {
		return err
	}
	return e.print(campaigns, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "ID\tKIND\tSTATUS\tPER MINUTE\tBEGAN\tCAUSE")
		for _, k := range campaigns {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\n", k.ID, k.Kind, k.Status, k.PerMinute, since(k.CreatedAt), plain(k.Cause))
		}
	})
}

// campaignArg is the argument of commands about one campaign.
type campaignArg struct {
	ID string `arg:"" help:"Id of the campaign."`
}

func (c campaignArg) request(e *env, parent *campaignCommands, method, below string) (*client, csms.CampaignState, error) {
	var k csms.CampaignState
	cl, err := parent.client()
	if err == nil {
		err = cl.do(e.ctx, method, campaignURL(c.ID, below), nil, nil, &k)
	}
	return cl, k, err
}

type campaignShow struct {
	campaignArg
	Wait bool `help:"Wait for the end; exit status 1 unless all operations are done."`
}

func (c *campaignShow) Run(e *env, parent *campaignCommands) error {
	cl, k, err := c.request(e, parent, http.MethodGet, "")
	if err != nil {
		return err
	}
	if c.Wait {
		return waitCampaign(e, cl, k)
	}
	var failed []api.OperationView
	if !e.json && k.Progress[string(store.OperationFailed)] > 0 {
		query := url.Values{"campaign": {k.ID}, "status": {string(store.OperationFailed)}}
		if failed, err = list[api.OperationView](e.ctx, cl, "/api/v1/operations", query, 10); err != nil {
			return err
		}
	}
	return e.print(k, func(w io.Writer) {
		printCampaign(w, k)
		for _, o := range failed {
			fmt.Fprintf(w, "%s  %s  %s\n", o.ID, plain(string(o.Station)), plain(o.Cause))
		}
		if n := k.Progress[string(store.OperationFailed)]; n > len(failed) {
			fmt.Fprintf(w, "… holdfast operation list --campaign %s --status failed has all %d\n", k.ID, n)
		}
	})
}

type campaignCancel struct{ campaignArg }

func (c *campaignCancel) Run(e *env, parent *campaignCommands) error {
	_, k, err := c.request(e, parent, http.MethodPost, "/cancel")
	if err != nil {
		return err
	}
	return e.print(k, func(w io.Writer) { printCampaign(w, k) })
}

type campaignResume struct{ campaignArg }

func (c *campaignResume) Run(e *env, parent *campaignCommands) error {
	_, k, err := c.request(e, parent, http.MethodPost, "/resume")
	if err != nil {
		return err
	}
	return e.print(k, func(w io.Writer) { printCampaign(w, k) })
}
