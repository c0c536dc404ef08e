package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"holdfast/csms"
	"holdfast/csms/iso15118"
	"holdfast/pki"
)

// iso15118Flags name who answers stations' questions for EVs.
type iso15118Flags struct {
	URL            string        `name:"iso15118-url" help:"URL of the provider of contract certificates: Get15118EVCertificate is posted there. Default: EVs that ask for one are answered Failed." placeholder:"URL"`
	TokenFile      string        `name:"iso15118-token-file" help:"File with the bearer token for the provider; read once." type:"path" placeholder:"FILE"`
	CA             string        `name:"iso15118-ca" help:"PEM file with the CA of the provider's certificate. Default: the system's." type:"path" placeholder:"FILE"`
	Timeout        time.Duration `name:"iso15118-timeout" help:"How long the provider may take; an EV waits less than 5 seconds." default:"4s"`
	OCSPResponders []string      `name:"ocsp-responders" help:"Hosts, HOST or HOST:PORT, that may be asked for the status of certificates: stations name the URL, and no other host is ever asked. Default: none, and stations are answered Failed." placeholder:"HOST"`
	OCSPIssuers    string        `name:"ocsp-issuers" help:"PEM file with the CAs whose certificates stations ask about, to check responses that do not bring them along." type:"path" placeholder:"FILE"`
}

// maxIssuers is the longest file of --ocsp-issuers, in bytes.
const maxIssuers = 1 << 20

// connect fills in the questions that others answer; it connects to nobody yet.
func (f *iso15118Flags) connect(p *process, cfg *csms.Config) error {
	if f.URL == "" && len(f.OCSPResponders) == 0 {
		return nil
	}
	metrics := iso15118.NewMetrics()
	p.admin.register(metrics.Collectors())
	if f.URL != "" {
		provider, err := f.provider(metrics)
		if err != nil {
			return err
		}
		p.services.closing("provider of contract certificates", func() error { provider.Close(); return nil })
		cfg.EVCertificate = provider.Ask
	}
	if len(f.OCSPResponders) == 0 {
		return nil
	}
	var issuers []*x509.Certificate
	if f.OCSPIssuers != "" {
		text, err := readBounded(f.OCSPIssuers, maxIssuers)
		if err == nil {
			issuers, err = pki.ParseCertificates(text)
		}
		if err != nil {
			return fmt.Errorf("CAs of OCSP responses: %w (see --ocsp-issuers)", err)
		}
	}
	responders, err := iso15118.NewResponders(f.OCSPResponders, issuers, metrics, time.Now)
	if err != nil {
		return &usageError{"--ocsp-responders: " + err.Error()}
	}
	p.services.closing("OCSP responders", func() error { responders.Close(); return nil })
	cfg.OCSP = responders.Ask
	return nil
}

func (f *iso15118Flags) provider(metrics *iso15118.Metrics) (*iso15118.Provider, error) {
	cfg := iso15118.ProviderConfig{URL: f.URL, Timeout: f.Timeout}
	if f.TokenFile != "" {
		text, err := readBounded(f.TokenFile, 64<<10)
		if err != nil {
			return nil, fmt.Errorf("token for the provider of contract certificates: %w (see --iso15118-token-file)", err)
		}
		cfg.Token = strings.TrimSpace(string(text))
	}
	if f.CA != "" {
		text, err := readBounded(f.CA, maxIssuers)
		if err != nil {
			return nil, fmt.Errorf("CA of the provider of contract certificates: %w (see --iso15118-ca)", err)
		}
		cfg.Roots = x509.NewCertPool()
		if !cfg.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("CA of the provider of contract certificates: %s holds no certificate as PEM (see --iso15118-ca)", f.CA)
		}
	}
	provider, err := iso15118.NewProvider(cfg, metrics)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--iso15118-url: %v", err)}
	}
	return provider, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}
