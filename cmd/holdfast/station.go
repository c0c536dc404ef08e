package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"holdfast/api"
	"holdfast/ocpp"
	"holdfast/store"
)

type stationCommands struct {
	clientFlags
	Add         stationAdd         `cmd:"" help:"Register a station: write its certificate and key, or print its password, once."`
	Import      stationImport      `cmd:"" help:"Register the stations of a CSV file."`
	List        stationList        `cmd:"" help:"List stations."`
	Show        stationShow        `cmd:"" help:"Show a station."`
	Update      stationUpdate      `cmd:"" help:"Change a station's registration."`
	Block       stationBlock       `cmd:"" help:"Refuse a station and close its connection."`
	Unblock     stationUnblock     `cmd:"" help:"Admit a blocked station again."`
	Disconnect  stationDisconnect  `cmd:"" help:"Close a station's connection; it may connect again."`
	Remove      stationRemove      `cmd:"" help:"Forget a station and revoke its certificates."`
	Password    stationPassword    `cmd:"" help:"Give a station a new password and print it, once."`
	Certificate stationCertificate `cmd:"" help:"Make a new key and certificate for a station."`
	Onboard     stationOnboard     `cmd:"" help:"Give a new station credentials of its own at its first connection."`
	Renew       stationRenew       `cmd:"" help:"Have a station get a new certificate over OCPP."`
	Rotate      stationRotate      `cmd:"" help:"Give a station a new password over OCPP."`
	Upgrade     stationUpgrade     `cmd:"" help:"Take a station to a higher security profile over OCPP."`
	Trust       stationTrust       `cmd:"" help:"Install root certificates on a station over OCPP."`
	Operations  stationOperations  `cmd:"" help:"List what was done to a station's credentials."`
	Attempts    stationAttempts    `cmd:"" help:"Show why a station does not connect: its last attempts."`
	Log         stationLog         `cmd:"" help:"Show a station's OCPP messages."`
}

type stationAdd struct {
	ID        string            `arg:"" help:"Identity: the last part of the URL that the station connects to."`
	Profile   int               `help:"Security profile: 1 plain, 2 TLS with a password, 3 TLS with client certificates." enum:"1,2,3" default:"2"`
	Serial    string            `help:"Serial number of the station, the CN of its certificates. Default: the identity." placeholder:"S"`
	Out       string            `short:"o" help:"Directory for ID.crt, ID.key and ca.crt (profile 3)." type:"path" default:"." placeholder:"DIR"`
	Version   string            `help:"The only OCPP version that it may speak." enum:",1.6,2.0.1,2.1" default:""`
	User      string            `help:"Basic user name, if it is not the identity." placeholder:"NAME"`
	Algorithm string            `help:"Kind of key to make: ecdsa or rsa." enum:"ecdsa,rsa" default:"ecdsa"`
	NoKey     bool              `help:"Make no key and certificate (profile 3): the station has one or sends a signing request."`
	Label     map[string]string `help:"Names and values of your own." placeholder:"NAME=VALUE"`
}

func (c *stationAdd) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	n := api.NewStation{ID: ocpp.StationID(c.ID), Serial: c.Serial, Profile: ocpp.SecurityProfile(c.Profile), Version: ocpp.Version(c.Version),
		User: c.User, Labels: c.Label}
	var files *credentialFiles
	if n.Profile == ocpp.ProfileMTLS {
		n.Algorithm, n.NoCertificate = c.Algorithm, c.NoKey
		if !c.NoKey { // a key that cannot be written is lost: look first
			if files, err = prepareFiles(c.Out, c.ID, false); err != nil {
				return err
			}
		}
	}
	var added api.AddedStation
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/stations", nil, n, &added); err != nil {
		return err
	}
	if added.Certificate != nil && files != nil {
		if err := files.write(*added.Certificate); err != nil {
			return fmt.Errorf("station %s is registered, but %w (holdfast station certificate makes another key)", c.ID, err)
		}
	}
	return e.print(added, func(w io.Writer) {
		fmt.Fprintf(e.stderr, "station %s registered, security profile %d\n", plain(c.ID), c.Profile)
		if added.Password != "" { // alone on standard output, for scripts
			fmt.Fprintln(e.stderr, "its password, shown only now:")
			fmt.Fprintln(w, added.Password)
		}
		if files != nil {
			fmt.Fprintf(w, "certificate %s\nkey         %s\nCA          %s\n", files.crt, files.key, files.ca)
		}
	})
}

// credentialFiles are what a station with profile 3 is given.
type credentialFiles struct{ crt, key, ca string }

// prepareFiles checks that the files can be written and, unless again is set,
// that no key is there already.
func prepareFiles(dir, id string, again bool) (*credentialFiles, error) {
	if err := ocpp.StationID(id).Check(); err != nil { // it becomes a file name
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory for the certificate: %w (choose another with --out)", err)
	}
	f := &credentialFiles{crt: filepath.Join(dir, id+".crt"), key: filepath.Join(dir, id+".key"), ca: filepath.Join(dir, "ca.crt")}
	if !again {
		for _, path := range []string{f.crt, f.key} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("%s exists already (move it, or choose another directory with --out)", path)
			}
		}
	}
	probe, err := os.CreateTemp(dir, ".holdfast-*")
	if err != nil {
		return nil, fmt.Errorf("directory for the certificate: %w (choose another with --out)", err)
	}
	return f, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func (f *credentialFiles) write(c api.IssuedCertificate) error {
	for _, file := range []struct {
		path, text string
		mode       os.FileMode
	}{{f.key, c.Key, 0o600}, {f.crt, c.Chain, 0o644}, {f.ca, c.CA, 0o644}} {
		// A new file, so that the mode is as given even if an old one was laxer.
		if err := os.Remove(file.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("write credentials: %w", err)
		}
		if err := os.WriteFile(file.path, []byte(file.text), file.mode); err != nil {
			return fmt.Errorf("write credentials: %w", err)
		}
	}
	return nil
}

type stationList struct {
	Search    string `arg:"" optional:"" help:"Part of the identity or serial number."`
	Connected bool   `help:"Only connected stations." xor:"connected"`
	Offline   bool   `help:"Only stations that are not connected." xor:"connected"`
	Blocked   bool   `help:"Only blocked stations."`
	Profile   string `help:"Only with this security profile." enum:",1,2,3" default:""`
}

func (c *stationList) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	set := func(name, value string, wanted bool) {
		if wanted {
			query.Set(name, value)
		}
	}
	set("search", c.Search, c.Search != "")
	set("profile", c.Profile, c.Profile != "")
	set("blocked", "true", c.Blocked)
	set("connected", "true", c.Connected)
	set("connected", "false", c.Offline)
	stations, err := list[api.StationView](e.ctx, cl, "/api/v1/stations", query, 0)
	if err != nil {
		return err
	}
	return e.print(stations, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "ID\tPROFILE\tSTATUS\tOCPP\tVENDOR\tMODEL\tFIRMWARE")
		for _, s := range stations {
			state := s.State
			if state == nil {
				state = &store.StationState{}
			}
			fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", plain(string(s.ID)), s.Profile, statusOf(s), state.Version, plain(state.Vendor), plain(state.Model), plain(state.Firmware))
		}
	})
}

// statusOf says in a few words how a station is.
func statusOf(s api.StationView) string {
	switch {
	case s.Blocked:
		return "blocked"
	case s.State == nil || s.State.Version == "":
		return "never connected"
	case !s.State.Connected:
		return "offline, " + since(s.State.Since)
	case s.State.Registration != store.Accepted:
		return "connected, " + string(s.State.Registration)
	}
	return "connected, " + since(s.State.Since)
}

// stationArg is the argument of commands about one station.
type stationArg struct {
	ID string `arg:"" help:"Identity of the station."`
}

// change makes a request that answers with the station.
func (c stationArg) change(e *env, parent *stationCommands, method, below string, body any, done string) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var s api.StationView
	if err := cl.do(e.ctx, method, stationURL(c.ID, below), nil, body, &s); err != nil {
		return err
	}
	return e.print(s, func(w io.Writer) { fmt.Fprintf(w, "station %s %s\n", plain(c.ID), done) })
}

type stationShow struct{ stationArg }

func (c *stationShow) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var s api.StationView
	if err := cl.do(e.ctx, http.MethodGet, stationURL(c.ID), nil, nil, &s); err != nil {
		return err
	}
	return e.print(s, func(w io.Writer) { printStation(w, s) })
}

func printStation(w io.Writer, s api.StationView) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	row := func(name, value string) {
		if strings.TrimSpace(value) != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	row("Station", string(s.ID))
	row("Status", statusOf(s))
	row("Blocked because", s.BlockedReason)
	row("Serial", s.Serial)
	row("Security profile", s.Profile.Label())
	if s.PreviousProfile != 0 {
		row("Changing from", s.PreviousProfile.Label())
	}
	row("Only OCPP", string(s.Version))
	row("User", s.User)
	for name, value := range s.Labels {
		row("Label "+name, value)
	}
	if s.PasswordPending {
		row("Password", "a new one waits for its first use")
	}
	if t := s.Last; t != nil {
		row("Last attempt", strings.TrimSpace(string(t.Reason)+", "+since(t.At)+", "+t.Remote+" "+t.Detail))
	}
	if r := s.State; r != nil {
		row("OCPP", string(r.Version))
		row("Registration", string(r.Registration))
		row("Vendor, model", r.Vendor+" "+r.Model)
		row("Firmware", r.Firmware)
		row("Gateway", r.Gateway)
		row("Remote", r.Remote)
		row("Last message", since(r.LastSeen))
		row("Disconnected", r.DisconnectReason)
	}
}

type stationUpdate struct {
	stationArg
	Serial  *string            `help:"Serial number; certificates with the old one stop working." placeholder:"S"`
	Profile *int               `help:"Security profile to change to; the old one is accepted until the new one was used." placeholder:"1|2|3"`
	Final   bool               `help:"Refuse the old security profile from now on."`
	Version *string            `help:"The only OCPP version that it may speak; empty: any." placeholder:"V"`
	User    *string            `help:"Basic user name; empty: the identity." placeholder:"NAME"`
	Label   *map[string]string `help:"Replaces all labels." placeholder:"NAME=VALUE"`
}

func (c *stationUpdate) Run(e *env, parent *stationCommands) error {
	change := api.StationChange{Serial: c.Serial, User: c.User, Labels: c.Label}
	if c.Profile != nil {
		p := ocpp.SecurityProfile(*c.Profile)
		if *c.Profile < 1 || !p.Valid() {
			return &usageError{fmt.Sprintf("--profile %d: security profiles are 1, 2 and 3", *c.Profile)}
		}
		change.Profile = &p
	}
	if c.Final {
		change.PreviousProfile = new(ocpp.SecurityProfile)
	}
	if c.Version != nil {
		v := ocpp.Version(*c.Version)
		change.Version = &v
	}
	if change == (api.StationChange{}) {
		return &usageError{"nothing to change: give at least one flag"}
	}
	return c.change(e, parent, http.MethodPatch, "", change, "changed")
}

type stationBlock struct {
	stationArg
	Reason string `help:"Why, for other operators." placeholder:"TEXT"`
}

func (c *stationBlock) Run(e *env, parent *stationCommands) error {
	return c.change(e, parent, http.MethodPost, "/block", map[string]string{"reason": c.Reason}, "blocked")
}

type stationUnblock struct{ stationArg }

func (c *stationUnblock) Run(e *env, parent *stationCommands) error {
	return c.change(e, parent, http.MethodPost, "/unblock", nil, "unblocked")
}

// finish makes a request that answers with nothing.
func (c stationArg) finish(e *env, parent *stationCommands, method, below, done string) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if err := cl.do(e.ctx, method, stationURL(c.ID, below), nil, nil, nil); err != nil {
		return err
	}
	return e.print(map[string]string{"station": c.ID, "done": done}, func(w io.Writer) { fmt.Fprintf(w, "station %s %s\n", plain(c.ID), done) })
}

type stationDisconnect struct{ stationArg }

func (c *stationDisconnect) Run(e *env, parent *stationCommands) error {
	return c.finish(e, parent, http.MethodPost, "/disconnect", "disconnected")
}

type stationRemove struct{ stationArg }

func (c *stationRemove) Run(e *env, parent *stationCommands) error {
	return c.finish(e, parent, http.MethodDelete, "", "removed")
}

type stationPassword struct {
	stationArg
	Cancel bool `help:"Forget a new password that the station did not take."`
}

func (c *stationPassword) Run(e *env, parent *stationCommands) error {
	if c.Cancel {
		return c.change(e, parent, http.MethodDelete, "/password", nil, "keeps its old password")
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var p api.NewPassword
	if err := cl.do(e.ctx, http.MethodPost, stationURL(c.ID, "/password"), nil, nil, &p); err != nil {
		return err
	}
	return e.print(p, func(w io.Writer) {
		fmt.Fprintf(e.stderr, "new password of station %s, shown only now:\n", plain(c.ID))
		fmt.Fprintln(w, p.Password)
		if p.Station.PasswordPending {
			fmt.Fprintln(e.stderr, "the old one is accepted until the new one was used")
		}
	})
}

type stationCertificate struct {
	stationArg
	Out       string `short:"o" help:"Directory for ID.crt, ID.key and ca.crt; files there are replaced." type:"path" default:"." placeholder:"DIR"`
	Algorithm string `help:"Kind of key to make: ecdsa or rsa." enum:"ecdsa,rsa" default:"ecdsa"`
}

func (c *stationCertificate) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	files, err := prepareFiles(c.Out, c.ID, true)
	if err != nil {
		return err
	}
	var issued api.IssuedCertificate
	if err := cl.do(e.ctx, http.MethodPost, stationURL(c.ID, "/certificate"), nil, map[string]string{"algorithm": c.Algorithm}, &issued); err != nil {
		return err
	}
	if err := files.write(issued); err != nil {
		return err
	}
	return e.print(issued, func(w io.Writer) {
		fmt.Fprintf(w, "certificate %s\nkey         %s\nCA          %s\n", files.crt, files.key, files.ca)
	})
}

type stationAttempts struct {
	ID string `arg:"" optional:"" help:"Identity of the station. Default: all that are not registered, or could not say who they are."`
}

func (c *stationAttempts) Run(e *env, parent *stationCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	path := "/api/v1/attempts"
	if c.ID != "" {
		path = stationURL(c.ID, "/attempts")
	}
	var page struct {
		Items []store.Attempt `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodGet, path, nil, nil, &page); err != nil {
		return err
	}
	return e.print(page.Items, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "LAST\tTIMES\tSTATION\tPROFILE\tREMOTE\tREASON\tDETAIL")
		for _, t := range page.Items {
			fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", since(t.At), t.Times, cmp.Or(plain(string(t.Station)), "-"), t.Profile.Label(), t.Remote, t.Reason, plain(t.Detail))
		}
	})
}
