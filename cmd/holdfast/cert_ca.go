package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"holdfast/api"
	"holdfast/authority"
	"holdfast/pki"
	"holdfast/store"
)

// certCA are the commands about Holdfast's own CAs.
type certCA struct {
	List     caList     `cmd:"" help:"List Holdfast's own CAs and imported ones."`
	NewRoot  caNewRoot  `cmd:"" name:"new-root" help:"Make a new root beside the one that issues, with CAs below it. Nothing issues from it yet."`
	Request  caRequest  `cmd:"" help:"Make the signing request of a CA that a root kept elsewhere certifies."`
	Import   caImport   `cmd:"" help:"Import what a root kept elsewhere signed."`
	Activate caActivate `cmd:"" help:"Let CAs issue in the place of those that do; the old ones stay trusted."`
	Retire   caRetire   `cmd:"" help:"Stop trusting one of Holdfast's own CAs; with a root, all that is below it."`
	Encrypt  caEncrypt  `cmd:"" help:"Encrypt CA keys in files that are not encrypted yet. On the server's machine."`
}

type caList struct{}

func (c *caList) Run(e *env, parent *certCommands) error { return (&certCAs{}).Run(e, parent) }

type caNewRoot struct {
	Algorithm string `help:"Kind of key: ecdsa or rsa." enum:"ecdsa,rsa" default:"ecdsa"`
	Out       string `short:"o" help:"Write the new root, and its cross certificate beside it, to this file and FILE.cross." type:"path" placeholder:"FILE"`
}

func (c *caNewRoot) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var made api.PreparedRoot
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/cas/roots", nil, map[string]string{"algorithm": c.Algorithm}, &made); err != nil {
		return err
	}
	if c.Out != "" {
		err := os.WriteFile(c.Out, []byte(made.Root.PEM), 0o644)
		if err == nil && made.Cross != nil {
			err = os.WriteFile(c.Out+".cross", []byte(made.Cross.PEM), 0o644)
		}
		if err != nil {
			return fmt.Errorf("new root: %w (it is made: holdfast cert ca list --json shows it)", err)
		}
	}
	return e.print(made, func(w io.Writer) {
		cas := []store.CA{made.Root, made.Station, made.Server}
		if made.Cross != nil {
			cas = append(cas, *made.Cross)
		}
		printCAs(w, cas)
	})
}

// offlineFlags let a command work on the CA directory of a server that does not
// run yet.
type offlineFlags struct {
	Offline  bool   `help:"Before the first start: work on the CA directory in --data itself."`
	Operator string `help:"With --offline: organization name (O), as the server will have it." default:"Holdfast"`
	caKeyFlags
}

// config is the authority's, as far as the CA directory needs it.
func (f *offlineFlags) config(e *env, data string) (authority.Config, func() error, error) {
	if data == "" {
		data = "data"
	}
	if err := (&databaseFlags{Data: data}).prepare(); err != nil {
		return authority.Config{}, nil, err
	}
	cfg := authority.Config{Dir: filepath.Join(data, "ca"), Operator: f.Operator, Logger: e.log}
	done, err := f.caKeyFlags.open(e.ctx, data, &cfg)
	return cfg, done, err
}

type caRequest struct {
	Role      string `help:"Which CA: station or server." enum:"station,server" required:""`
	Algorithm string `help:"Kind of key: ecdsa or rsa." enum:"ecdsa,rsa" default:"ecdsa"`
	Out       string `short:"o" help:"Write the request to this file instead of printing it." type:"path" placeholder:"FILE"`
	offlineFlags
}

func (c *caRequest) Run(e *env, parent *certCommands) (err error) {
	var made api.RequestedCA
	if c.Offline {
		cfg, done, err := c.config(e, parent.Data)
		if err != nil {
			return err
		}
		requested, err := authority.RequestCAOffline(cfg, c.Role, pki.Algorithm(c.Algorithm))
		if err := errors.Join(err, done()); err != nil {
			return err
		}
		made = api.RequestedCA(requested)
	} else {
		cl, err := parent.client()
		if err != nil {
			return err
		}
		body := map[string]string{"role": c.Role, "algorithm": c.Algorithm}
		if err := cl.do(e.ctx, http.MethodPost, "/api/v1/cas/requests", nil, body, &made); err != nil {
			return err
		}
	}
	if c.Out != "" {
		if err := os.WriteFile(c.Out, []byte(made.CSR), 0o644); err != nil {
			return fmt.Errorf("signing request: %w", err)
		}
	}
	return e.print(made, func(w io.Writer) {
		if c.Out == "" {
			fmt.Fprint(w, made.CSR)
		} else {
			fmt.Fprintf(w, "request of %s written to %s; its key is in %s\n", made.Kind, c.Out, made.File)
		}
	})
}

type caImport struct {
	File string `arg:"" type:"existingfile" help:"File with the CA's certificate, those between it and its root, and the root, PEM."`
	offlineFlags
}

func (c *caImport) Run(e *env, parent *certCommands) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("signed CA: %w", err)
	}
	if c.Offline {
		cfg, done, err := c.config(e, parent.Data)
		if err != nil {
			return err
		}
		files, err := authority.ImportSignedOffline(cfg, string(text))
		if err := errors.Join(err, done()); err != nil {
			return err
		}
		return e.print(map[string][]string{"files": files}, func(w io.Writer) {
			for _, f := range files {
				fmt.Fprintln(w, f)
			}
		})
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var added struct {
		Items []store.CA `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/cas/signed", nil, map[string]string{"pem": string(text)}, &added); err != nil {
		return err
	}
	return e.print(added.Items, func(w io.Writer) { printCAs(w, added.Items) })
}

type caActivate struct {
	Fingerprints []string `arg:"" name:"fingerprint" help:"SHA-256 fingerprints, hex. With a root come the CAs below it, with a CA its root."`
}

func (c *caActivate) Run(e *env, parent *certCommands) error {
	return changeCAs(e, parent, "/api/v1/cas/activate", map[string]any{"fingerprints": c.Fingerprints})
}

type caRetire struct {
	Fingerprint string `arg:"" help:"SHA-256 fingerprint, hex."`
	Force       bool   `help:"Even if stations have active certificates of it: they are locked out."`
}

func (c *caRetire) Run(e *env, parent *certCommands) error {
	return changeCAs(e, parent, "/api/v1/cas/"+url.PathEscape(c.Fingerprint)+"/retire", map[string]any{"force": c.Force})
}

// changeCAs posts a change and prints the CAs that it was made to.
func changeCAs(e *env, parent *certCommands, path string, body any) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var changed struct {
		Items []store.CA `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodPost, path, nil, body, &changed); err != nil {
		return err
	}
	return e.print(changed.Items, func(w io.Writer) { printCAs(w, changed.Items) })
}

type caEncrypt struct {
	caKeyFlags
}

func (c *caEncrypt) Run(e *env, parent *certCommands) error {
	o := offlineFlags{caKeyFlags: c.caKeyFlags}
	cfg, done, err := o.config(e, parent.Data)
	if err != nil {
		return err
	}
	files, err := authority.EncryptKeys(e.ctx, cfg)
	if err := errors.Join(err, done()); err != nil {
		return err
	}
	if files == nil {
		files = []string{}
	}
	return e.print(map[string][]string{"encrypted": files}, func(w io.Writer) {
		if len(files) == 0 {
			fmt.Fprintln(w, "every CA key in "+cfg.Dir+" is encrypted, or kept elsewhere")
		}
		for _, f := range files {
			fmt.Fprintln(w, "encrypted", f)
		}
	})
}

func printCAs(w io.Writer, cas []store.CA) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	fmt.Fprintln(tw, "FINGERPRINT\tKIND\tSTATE\tSUBJECT\tNOT AFTER")
	for _, ca := range cas {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", ca.Fingerprint, ca.Kind, ca.State, plain(ca.Subject), ca.NotAfter.Local().Format(time.DateOnly))
	}
}
