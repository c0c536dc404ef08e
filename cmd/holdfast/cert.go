package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"holdfast/api"
	"holdfast/store"
)

type certCommands struct {
	clientFlags
	List       certList     `cmd:"" help:"List certificates."`
	Show       certShow     `cmd:"" help:"Show a certificate."`
	Revoke     certRevoke   `cmd:"" help:"Revoke a certificate, for good."`
	Sign       certSign     `cmd:"" help:"Sign a station's certificate signing request and print the chain."`
	CAs        certCAs      `cmd:"" name:"cas" help:"List CAs: Holdfast's own and imported ones."`
	CA         certCA       `cmd:"" name:"ca" help:"Administer Holdfast's own CAs: request, import, replace, retire, encrypt."`
	Trust      certTrust    `cmd:"" help:"Trust other CAs for stations' certificates."`
	Distrust   certDistrust `cmd:"" help:"Stop trusting an imported CA."`
	ExternalCA certExternal `cmd:"" name:"external-ca" help:"Ask the external CA that issues stations' certificates (--est) for its CA certificates."`
	CRL        certCRL      `cmd:"" name:"crl" help:"Administer the revocation lists of imported CAs."`
}

type certList struct {
	Station  string `help:"Only of this station." placeholder:"ID"`
	Status   string `help:"Only active, superseded or revoked ones." enum:",active,superseded,revoked" default:""`
	Kind     string `help:"Only those of a station, a gateway (server) or a responder of ours (ocsp)." enum:",station,server,ocsp" default:""`
	Expiring span   `help:"Only those that expire within this time, 30d, and somebody has to renew: active ones of stations, unless --status or --kind says otherwise." placeholder:"TIME"`
}

func (c *certList) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if c.Expiring > 0 { // gateways and responders renew theirs every day by themselves
		c.Kind, c.Status = cmp.Or(c.Kind, store.KindStation), cmp.Or(c.Status, string(store.StatusActive))
	}
	query := url.Values{}
	for name, value := range map[string]string{"station": c.Station, "status": c.Status, "kind": c.Kind} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.Expiring > 0 {
		const day = 24 * time.Hour
		query.Set("expiring", strconv.FormatInt(int64((time.Duration(c.Expiring)+day-1)/day), 10))
	}
	certificates, err := list[store.Certificate](e.ctx, cl, "/api/v1/certificates", query, 0)
	if err != nil {
		return err
	}
	return e.print(certificates, func(w io.Writer) {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "SERIAL\tKIND\tSTATION\tSUBJECT\tSTATUS\tNOT AFTER")
		for _, c := range certificates {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Serial, c.Kind, plain(string(c.Station)), plain(c.Subject), c.Status, c.NotAfter.Local().Format(time.DateTime))
		}
	})
}

type certShow struct {
	Serial string `arg:"" help:"Serial number or fingerprint, hex."`
}

func (c *certShow) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var certificate store.Certificate
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/certificates/"+url.PathEscape(c.Serial), nil, nil, &certificate); err != nil {
		return err
	}
	return e.print(certificate, func(w io.Writer) { printCertificate(w, certificate) })
}

func printCertificate(w io.Writer, c store.Certificate) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, plain(value))
		}
	}
	row("Serial", c.Serial)
	row("Fingerprint", c.Fingerprint)
	row("Kind", c.Kind)
	row("Station", string(c.Station))
	row("Subject", c.Subject)
	row("Issuer", c.Issuer)
	row("External CA", c.ExternalCA)
	row("Valid", c.NotBefore.Local().Format(time.DateTime)+" to "+c.NotAfter.Local().Format(time.DateTime))
	row("First used", since(c.FirstUsed))
	status := string(c.Status)
	if c.Reason != "" {
		status += " (" + c.Reason + ")"
	}
	row("Status", status)
	tw.Flush()
	fmt.Fprint(w, c.PEM)
}

type certRevoke struct {
	Serial string `arg:"" help:"Serial number or fingerprint, hex."`
	Reason string `help:"unspecified, key_compromise, affiliation_changed, superseded, cessation_of_operation or privilege_withdrawn." default:"unspecified"`
}

func (c *certRevoke) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var certificate store.Certificate
	err = cl.do(e.ctx, http.MethodPost, "/api/v1/certificates/"+url.PathEscape(c.Serial)+"/revoke", nil, map[string]string{"reason": c.Reason}, &certificate)
	if err != nil {
		return err
	}
	return e.print(certificate, func(w io.Writer) {
		fmt.Fprintf(w, "certificate %s revoked (%s)\n", certificate.Serial, certificate.Reason)
	})
}

type certSign struct {
	CSR     string `arg:"" name:"csrfile" type:"existingfile" help:"File with the request, PEM."`
	Station string `required:"" help:"Identity of the station that it is for." placeholder:"ID"`
	Out     string `short:"o" type:"path" help:"Write the chain to this file instead of printing it." placeholder:"FILE"`
}

func (c *certSign) Run(e *env, parent *certCommands) error {
	csr, err := os.ReadFile(c.CSR)
	if err != nil {
		return fmt.Errorf("certificate signing request: %w", err)
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var signed api.SignedCertificate
	if err := cl.do(e.ctx, http.MethodPost, stationURL(c.Station, "/sign-csr"), nil, map[string]string{"csr": string(csr)}, &signed); err != nil {
		return err
	}
	if c.Out != "" {
		if err := os.WriteFile(c.Out, []byte(signed.Chain), 0o644); err != nil {
			return fmt.Errorf("certificate: %w (it is issued: signing the same request again returns it)", err)
		}
	}
	return e.print(signed, func(w io.Writer) {
		if c.Out == "" {
			fmt.Fprint(w, signed.Chain)
		} else {
			fmt.Fprintf(w, "certificate %s written to %s\n", signed.Certificate.Serial, c.Out)
		}
	})
}

type certCAs struct{}

func (c *certCAs) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var cas struct {
		Items []store.CA `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/cas", nil, nil, &cas); err != nil {
		return err
	}
	return e.print(cas.Items, func(w io.Writer) { printCAs(w, cas.Items) })
}

type certTrust struct {
	File string `arg:"" type:"existingfile" help:"File with one or more CA certificates, PEM."`
}

func (c *certTrust) Run(e *env, parent *certCommands) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("CA certificates: %w", err)
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var added struct {
		Items []store.CA `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/cas", nil, map[string]string{"pem": string(text)}, &added); err != nil {
		return err
	}
	return e.print(added.Items, func(w io.Writer) { printCAs(w, added.Items) })
}

type certDistrust struct {
	Fingerprint string `arg:"" help:"SHA-256 fingerprint of the CA certificate, hex."`
}

func (c *certDistrust) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if err := cl.do(e.ctx, http.MethodDelete, "/api/v1/cas/"+url.PathEscape(c.Fingerprint), nil, nil, nil); err != nil {
		return err
	}
	return e.print(map[string]string{"distrusted": c.Fingerprint}, func(w io.Writer) { fmt.Fprintf(w, "CA %s is not trusted any more\n", c.Fingerprint) })
}
