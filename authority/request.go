package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"holdfast/pki"
	"holdfast/store"
)

// CARequest is a CA of ours that a root kept elsewhere is asked to certify.
type CARequest struct {
	Kind string `json:"kind" enum:"station-ecdsa,station-rsa,server-ecdsa,server-rsa"`
	CSR  string `json:"csr" doc:"Signing request, PEM"`
	File string `json:"file" doc:"File in the CA directory that holds the CA's key"`
}

// maxRequested is how many CAs can wait to be certified.
const maxRequested = 8

// RequestCA makes a key for a station CA or a server CA, and the request with
// which a root elsewhere certifies it. ImportSigned brings in what it signed.
func (a *Authority) RequestCA(ctx context.Context, by, role string, algorithm pki.Algorithm) (CARequest, error) {
	name, err := requested(role, algorithm)
	if err != nil {
		return CARequest{}, err
	}
	recorded, _, err := a.store.CAs(ctx)
	if err != nil {
		return CARequest{}, err
	}
	nth := 1
	for _, c := range recorded {
		if c.Kind == name.String() {
			nth++
		}
	}
	r, err := requestCA(a.cfg, name, nth, "")
	if err != nil {
		return CARequest{}, err
	}
	a.log.Info("signing request for a CA made", "kind", r.Kind, "file", r.File, "by", by)
	return r, nil
}

// RequestCAOffline is RequestCA on the CA directory alone, before the first
// start: the CA of the first name must not be there yet. Config.Store is not used.
func RequestCAOffline(cfg Config, role string, algorithm pki.Algorithm) (CARequest, error) {
	name, err := requested(role, algorithm)
	if err != nil {
		return CARequest{}, err
	}
	if cfg, err = cfg.offline(); err != nil {
		return CARequest{}, err
	}
	path := name.file(cfg.Dir)
	if f, err := readCAFile(path, name); err == nil && f.request != nil {
		return CARequest{Kind: name.String(), CSR: requestText(f), File: path}, nil // once more
	} else if err == nil {
		return CARequest{}, fmt.Errorf("CA file %s is there already: ask the running authority (leave out --offline)", path)
	}
	return requestCA(cfg, name, 1, path)
}

// offline completes what is needed of a Config without a store.
func (c Config) offline() (Config, error) {
	if c.Operator == "" {
		c.Operator = "Holdfast"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return c, fmt.Errorf("CA directory: %w", err)
	}
	return c, nil
}

func requested(role string, algorithm pki.Algorithm) (caName, error) {
	if role != roleStation && role != roleServer {
		return caName{}, invalid("role", "use station or server", "%.20q is not a CA that can be requested", role)
	}
	if !slices.Contains(pki.Algorithms, algorithm) {
		return caName{}, invalid("algorithm", "use ecdsa or rsa", "%.20q is not a kind of key", algorithm)
	}
	return caName{role, algorithm}, nil
}

func requestCA(cfg Config, name caName, nth int, path string) (CARequest, error) {
	files, err := readCADir(cfg)
	if err != nil {
		return CARequest{}, err
	}
	waiting := 0
	for _, f := range files {
		if f.request != nil {
			waiting++
		}
	}
	if waiting >= maxRequested {
		return CARequest{}, invalid("role", "import their certificates, or delete the files of requests that are no longer wanted",
			"%d CAs wait to be certified already", waiting)
	}
	key, text, err := makeKey(cfg, name, nth)
	if err != nil {
		return CARequest{}, err
	}
	csr, err := pki.NewCARequest(name.subject(cfg, nth), key)
	if err != nil {
		return CARequest{}, err
	}
	if path == "" {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return CARequest{}, err
		}
		path = laterFile(cfg.Dir, name, pki.KeyFingerprint(der))
	}
	if err := writeOnce(path, csr+text); err != nil {
		return CARequest{}, fmt.Errorf("CA file: %w", err)
	}
	f, err := readCAFile(path, name) // of another process, if it was faster
	if err != nil || f.request == nil {
		return CARequest{}, fmt.Errorf("CA file %s was made by another process: %w", path, err)
	}
	return CARequest{Kind: name.String(), CSR: requestText(f), File: path}, nil
}

// requestText is the signing request of a file, without the key beside it.
func requestText(f *caFile) string { return pki.EncodeRequest(f.request) }

// ImportSigned brings in CAs that a root elsewhere certified, as PEM: the
// certificate of a requested CA (or a new one for a CA that is there), the CAs
// between it and its root, and the root, unless it is known. A cross certificate
// of one of our roots can be brought in, too. They are trusted from now on, and
// issue after ActivateCAs.
func (a *Authority) ImportSigned(ctx context.Context, by, text string) ([]store.CA, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	files, err := readCADir(a.cfg)
	if err != nil {
		return nil, err
	}
	list, err := sortSigned(a.cfg, files, h.roots(), text)
	if err != nil {
		return nil, err
	}
	var records []store.CA
	now := a.cfg.Now()
	for _, s := range list {
		if s.file != nil {
			if key, err := s.file.openKey(ctx, a.cfg); err != nil {
				return nil, err
			} else {
				a.keys.put(s.file.public(), key)
			}
		}
		if err := s.write(a.cfg, laterFile(a.cfg.Dir, s.name, pki.KeyFingerprint(s.certs[0].RawSubjectPublicKeyInfo))); err != nil {
			return nil, err
		}
		state := store.CANext
		if s.name.role == roleCross {
			state = store.CATrusted
		}
		records = append(records, caRecord(s.name, state, now, s.certs...))
	}
	added, generation, err := a.store.AddCAs(ctx, records, func(c store.CA) store.AuditEntry {
		return a.entry(by, "ca.import", "", c.Fingerprint, c.Kind+" "+c.Subject)
	})
	if err != nil {
		return nil, err
	}
	a.publish(Change{Kind: ChangeTrust, Generation: generation})
	return added, nil
}

// ImportSignedOffline is ImportSigned on the CA directory alone, before the first
// start. It returns the files that it wrote.
func ImportSignedOffline(cfg Config, text string) ([]string, error) {
	cfg, err := cfg.offline()
	if err != nil {
		return nil, err
	}
	files, err := readCADir(cfg)
	if err != nil {
		return nil, err
	}
	var roots []*x509.Certificate
	for _, f := range files {
		if f.name.role == roleRoot && len(f.certs) > 0 {
			roots = append(roots, f.certs[0])
		}
	}
	list, err := sortSigned(cfg, files, roots, text)
	if err != nil {
		return nil, err
	}
	var written []string
	for _, s := range list {
		path := s.name.file(cfg.Dir)
		if f, err := readCAFile(path, s.name); err == nil && s.name.role == roleRoot {
			if f.certs[0].Equal(s.certs[0]) {
				continue
			}
			path = laterFile(cfg.Dir, s.name, pki.KeyFingerprint(s.certs[0].RawSubjectPublicKeyInfo))
		}
		if s.file != nil && s.file.request == nil {
			return written, fmt.Errorf("CA file %s has a certificate already: ask the running authority (leave out --offline)", s.file.path)
		}
		if s.name.role == roleCross {
			return written, errors.New("cross certificates come in through the running authority (leave out --offline)")
		}
		if err := s.write(cfg, path); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

// signedCA is a certificate that comes from elsewhere: of a CA whose key is in a
// file, of a root, or a cross certificate.
type signedCA struct {
	name  caName
	certs []*x509.Certificate // its own, then those between it and its root
	file  *caFile             // nil: a root, or a cross certificate
}

// write puts the certificates into the file, beside the key that is there.
func (s *signedCA) write(cfg Config, path string) error {
	var err error
	switch {
	case s.file != nil:
		err = replaceFile(s.file.path, pki.EncodeCertificates(s.certs...)+s.file.keyText())
	case s.name.role == roleRoot:
		err = writeOnce(path, pki.EncodeCertificates(s.certs...))
	}
	if err != nil {
		return fmt.Errorf("CA file: %w", err)
	}
	return nil
}

// keyText is what stands for the key in a file.
func (f *caFile) keyText() string {
	if f.keyName != "" {
		return "Key: " + f.keyName + "\n"
	}
	return pemBlocks(f.text, true)
}

// sortSigned finds out what the certificates in text are to us.
func sortSigned(cfg Config, files []*caFile, roots []*x509.Certificate, text string) ([]*signedCA, error) {
	certs, err := pki.ParseCertificates([]byte(text))
	if err != nil {
		return nil, invalid("pem", "give the signed certificate and its root as PEM", "%v", err)
	}
	now := cfg.Now()
	known, between := x509.NewCertPool(), x509.NewCertPool()
	isRoot := func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
	}
	for _, c := range roots {
		known.AddCert(c)
	}
	var list []*signedCA
	for _, c := range certs {
		switch {
		case !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0:
			return nil, invalid("pem", "it needs basic constraints CA:TRUE and key usage keyCertSign", "certificate %s is not of a CA", c.Subject)
		case now.After(c.NotAfter) || now.Before(c.NotBefore):
			return nil, invalid("pem", "", "certificate %s is valid from %s to %s", c.Subject, c.NotBefore.Format(time.DateTime), c.NotAfter.Format(time.DateTime))
		}
		if err := pki.CheckStrength(c); err != nil {
			return nil, invalid("pem", "use RSA of 2048 bits or more, or ECDSA, with SHA-256", "certificate %s: %v", c.Subject, err)
		}
		if isRoot(c) {
			algorithm, _ := pki.AlgorithmOf(c.PublicKey) // checked above
			known.AddCert(c)
			if !slices.ContainsFunc(roots, c.Equal) {
				list = append(list, &signedCA{name: caName{roleRoot, algorithm}, certs: []*x509.Certificate{c}})
			}
			roots = append(roots, c)
		} else {
			between.AddCert(c)
		}
	}
	used := make(map[string]bool)
	for _, c := range certs {
		if isRoot(c) {
			continue
		}
		public := pki.KeyFingerprint(c.RawSubjectPublicKeyInfo)
		cross := slices.ContainsFunc(roots, func(r *x509.Certificate) bool {
			return bytes.Equal(r.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		})
		i := slices.IndexFunc(files, func(f *caFile) bool { return f.name.role != roleRoot && f.public() == public })
		if i < 0 && !cross {
			continue
		}
		chains, err := c.Verify(x509.VerifyOptions{Roots: known, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			return nil, invalid("pem", "add the root, and the CAs between", "certificate %s: %v", c.Subject, err)
		}
		chain := chains[0][:len(chains[0])-1] // without the root
		for _, c := range chain {
			used[pki.Fingerprint(c.Raw)] = true
		}
		s := &signedCA{certs: chain}
		if cross {
			algorithm, _ := pki.AlgorithmOf(c.PublicKey)
			s.name = caName{roleCross, algorithm}
		} else {
			s.file, s.name = files[i], files[i].name
		}
		list = append(list, s)
	}
	for _, c := range certs {
		if !isRoot(c) && !used[pki.Fingerprint(c.Raw)] {
			return nil, invalid("pem", "request a CA first (holdfast cert ca request); CAs that others use for stations are imported with holdfast cert trust",
				"certificate %s is for a key that is not here", c.Subject)
		}
	}
	if len(list) == 0 {
		return nil, invalid("pem", "", "these roots are known already, and nothing that they signed is here")
	}
	return list, nil
}
