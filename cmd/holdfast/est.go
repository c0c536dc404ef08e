package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"holdfast/est"
)

// estFlags name a CA elsewhere that issues stations' certificates.
type estFlags struct {
	EST             string `name:"est" help:"CA that issues stations' certificates in the place of the station CAs here, by EST (RFC 7030): https://HOST/.well-known/est/LABEL." placeholder:"URL"`
	ESTCA           string `name:"est-ca" help:"PEM file with the CA of its TLS certificate. Default: the system's." type:"path" placeholder:"FILE"`
	ESTUser         string `name:"est-user" help:"User name that it asks for." placeholder:"NAME"`
	ESTPasswordFile string `name:"est-password-file" help:"File with the password of that user, read for each request." type:"path" placeholder:"FILE"`
	ESTCert         string `name:"est-cert" help:"PEM file with the client certificate that it asks for, and the CAs below its root; read for each connection." type:"path" placeholder:"FILE"`
	ESTKey          string `name:"est-key" help:"PEM file with its key." type:"path" placeholder:"FILE"`
}

func (f *estFlags) check() error {
	for _, pair := range [][2]string{{f.ESTUser, f.ESTPasswordFile}, {f.ESTCert, f.ESTKey}} {
		if (pair[0] == "") != (pair[1] == "") {
			return &usageError{"--est-user needs --est-password-file, and --est-cert needs --est-key"}
		}
	}
	if f.EST == "" && f.ESTCA+f.ESTUser+f.ESTCert != "" {
		return &usageError{"--est-ca, --est-user and --est-cert are about the CA of --est, which is not given"}
	}
	return nil
}

// open returns the client; nil without --est. The CA need not be there.
func (f *estFlags) open() (*est.Client, error) {
	if f.EST == "" {
		return nil, nil
	}
	cfg := est.Config{URL: f.EST, Proxy: http.ProxyFromEnvironment}
	if f.ESTCA != "" {
		text, err := os.ReadFile(f.ESTCA)
		if err != nil {
			return nil, fmt.Errorf("CA of the EST server: %w (see --est-ca)", err)
		}
		cfg.Roots = x509.NewCertPool()
		if !cfg.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("CA of the EST server: %s holds no certificate as PEM (see --est-ca)", f.ESTCA)
		}
	}
	if f.ESTUser != "" {
		cfg.Credentials = f.credentials
		if _, _, err := f.credentials(); err != nil {
			return nil, err
		}
	}
	if f.ESTCert != "" {
		cfg.Certificate = f.certificate
		if _, err := f.certificate(); err != nil {
			return nil, err
		}
	}
	c, err := est.New(cfg)
	if err != nil {
		return nil, &usageError{"--est: " + err.Error()}
	}
	return c, nil
}

func (f *estFlags) credentials() (user, password string, err error) {
	text, err := os.ReadFile(f.ESTPasswordFile)
	if err != nil {
		return "", "", fmt.Errorf("password of the EST server: %w (see --est-password-file)", err)
	}
	return f.ESTUser, string(bytes.TrimRight(text, "\r\n")), nil
}

func (f *estFlags) certificate() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.ESTCert, f.ESTKey)
	if err != nil {
		return nil, fmt.Errorf("client certificate for the EST server, %s with key %s: %w (both must be PEM and belong together)", f.ESTCert, f.ESTKey, err)
	}
	return &c, nil
}
