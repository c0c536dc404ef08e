package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/api"
)

type certExternal struct {
	Out string `short:"o" help:"Write the certificates to this file, for holdfast cert trust. Compare their fingerprints with what the CA's operator says first." type:"path" placeholder:"FILE"`
}

func (c *certExternal) Run(e *env, parent *certCommands) error {
	cl, err := parent.client()
	if err != nil {
		return err
	}
	var ca api.ExternalCA
	if err := cl.do(e.ctx, http.MethodGet, "/api/v1/external-ca", nil, nil, &ca); err != nil {
		return err
	}
	if c.Out != "" {
		var text strings.Builder
		for _, cert := range ca.CAs {
			text.WriteString(cert.PEM)
		}
		if err := os.WriteFile(c.Out, []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("CA certificates: %w", err)
		}
	}
	return e.print(ca, func(w io.Writer) {
		fmt.Fprintln(w, plain(ca.Address))
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		defer tw.Flush()
		fmt.Fprintln(tw, "FINGERPRINT\tTRUSTED\tSUBJECT\tNOT AFTER")
		for _, cert := range ca.CAs {
			trusted := "no"
			if cert.Trusted {
				trusted = "yes"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", cert.Fingerprint, trusted, plain(cert.Subject), cert.NotAfter.Local().Format(time.DateOnly))
		}
	})
}
