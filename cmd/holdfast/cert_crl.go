package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	"holdfast/pki"
	"holdfast/store"
)

// certCRL are the commands about revocation lists of imported CAs.
type certCRL struct {
	Import crlImport `cmd:"" help:"Import a revocation list; it takes the place of the one before it."`
	List   crlList   `cmd:"" help:"List them: how fresh they are and what they revoke."`
	Remove crlRemove `cmd:"" help:"Forget one; what only it revoked is good again."`
}

type crlImport struct {
	File string `arg:"" help:"File with the list, PEM or DER; - for standard input."`
}

func (c *crlImport) Run(e *env, parent *certCommands) error {
	text, err := readCRL(c.File)
	if err != nil {
		return fmt.Errorf("revocation list: %w", err)
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var l store.CRL
	if err := cl.do(e.ctx, http.MethodPost, "/api/v1/crls", nil, map[string]string{"pem": text}, &l); err != nil {
		return err
	}
	return e.print(l, func(w io.Writer) { printCRLs(w, []store.CRL{l}) })
}

// readCRL returns a list as PEM.
func readCRL(name string) (string, error) {
	var in io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	const longest = 2 * pki.MaxCRL // as PEM, with text around it
	data, err := io.ReadAll(io.LimitReader(in, longest+1))
	if err != nil {
		return "", err
	}
	switch block, _ := pem.Decode(data); {
	case len(data) > longest:
		return "", fmt.Errorf("%s is longer than a list of %d bytes can be", name, pki.MaxCRL)
	case len(data) == 0:
		return "", errors.New(name + " is empty")
	case block != nil:
		return string(data), nil
	}
	return pki.EncodeCRL(data), nil
}

type crlList struct{}

func (c *crlList) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var lists struct {
		Items []store.CRL `json:"items"`
	}
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/crls", nil, nil, &lists); err != nil {
		return err
	}
	return e.print(lists.Items, func(w io.Writer) { printCRLs(w, lists.Items) })
}

func printCRLs(w io.Writer, lists []store.CRL) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	fmt.Fprintln(tw, "CA\tISSUER\tNUMBER\tENTRIES\tREVOKED HERE\tMADE\tNEXT")
	for _, l := range lists {
		next := "not said"
		if !l.NextUpdate.IsZero() {
			next = l.NextUpdate.Local().Format(time.DateTime)
		}
		if l.Overdue {
			next += " (overdue)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.CA, plain(l.Issuer), plain(l.Number), l.Entries, l.Revoked, l.ThisUpdate.Local().Format(time.DateTime), next)
	}
}

type crlRemove struct {
	CA string `arg:"" name:"fingerprint" help:"SHA-256 fingerprint of the CA's certificate, hex: holdfast cert crl list."`
}

func (c *crlRemove) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if err := cl.do(e.ctx, http.MethodDelete, "/api/v1/crls/"+url.PathEscape(c.CA), nil, nil, nil); err != nil {
		return err
	}
	return e.print(map[string]string{"removed": c.CA}, func(w io.Writer) { fmt.Fprintf(w, "revocation list of CA %s forgotten\n", c.CA) })
}
