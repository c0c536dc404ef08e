package authority

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/pki"
	"holdfast/store"
)

// hierarchy is our own PKI: a root that signs a station CA and a server CA, once
// with ECDSA and once with RSA keys.
//
// Each CA is one PEM file with its certificate and its private key, readable by
// its owner only: root-ecdsa.pem, station-ecdsa.pem, server-ecdsa.pem and the
// same for rsa. What is missing is made at the first start. A root's key is
// needed only to make the CAs below it: once they are there, its file can be
// reduced to the certificate and the key kept elsewhere; or CAs that a root
// elsewhere signed are put there before the first start.
type hierarchy map[caName]*pki.CA

type caName struct {
	role      string
	algorithm pki.Algorithm
}

const (
	roleRoot    = "root"
	roleStation = "station"
	roleServer  = "server"
)

func (n caName) String() string { return n.role + "-" + string(n.algorithm) }

func (n caName) file(dir string) string { return filepath.Join(dir, n.String()+".pem") }

func (n caName) profile() pki.Profile {
	switch n.role {
	case roleRoot:
		return pki.Root
	case roleStation:
		return pki.StationCA
	}
	return pki.ServerCA
}

func (n caName) subject(operator string) pki.Subject {
	role := map[string]string{roleRoot: "Root CA", roleStation: "Station CA", roleServer: "Server CA"}[n.role]
	kind := map[pki.Algorithm]string{pki.ECDSA: "ECDSA", pki.RSA: "RSA"}[n.algorithm]
	return pki.Subject{CommonName: role + " " + kind, Organization: operator}
}

// openHierarchy loads the CAs and makes those that are missing. One that is
// missing although the database knows one of its name is an error: it was lost,
// or this is another directory.
func openHierarchy(cfg Config, recorded []store.CA) (hierarchy, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("CA directory: %w", err)
	}
	h := make([]hierarchy, len(pki.Algorithms))
	var eg errgroup.Group
	for i, algorithm := range pki.Algorithms {
		eg.Go(func() (err error) {
			h[i], err = openChain(cfg, algorithm, recorded)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	all := make(hierarchy)
	for _, part := range h {
		for name, ca := range part {
			all[name] = ca
		}
	}
	return all, nil
}

func openChain(cfg Config, algorithm pki.Algorithm, recorded []store.CA) (hierarchy, error) {
	h := make(hierarchy)
	var root *pki.CA
	for _, role := range []string{roleRoot, roleStation, roleServer} {
		name := caName{role, algorithm}
		path := name.file(cfg.Dir)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			cfg.Logger.Warn("CA file can be read by others than its owner: chmod 600", "file", path, "mode", info.Mode().Perm().String())
		}
		ca, err := loadCA(path)
		if errors.Is(err, fs.ErrNotExist) {
			if slices.ContainsFunc(recorded, func(c store.CA) bool { return c.Kind == name.String() }) {
				return nil, fmt.Errorf("CA file %s is missing, although the database knows this CA: restore it from a backup, or mount the CA directory that belongs to this database", path)
			}
			ca, err = makeCA(cfg, name, root)
		}
		if err != nil {
			return nil, err
		}
		if role == roleRoot {
			root = ca
		} else {
			if err := ca.Cert.CheckSignatureFrom(root.Cert); err != nil {
				return nil, fmt.Errorf("CA file %s: not signed by the root in %s: put the two that belong together there", path, caName{roleRoot, algorithm}.file(cfg.Dir))
			}
			if ca.Key == nil {
				return nil, fmt.Errorf("CA file %s: has no private key: append it as PEM (PKCS#8), as this CA signs here", path)
			}
		}
		ca.PSS = cfg.PSS && algorithm == pki.RSA
		h[name] = ca
	}
	return h, nil
}

// makeCA makes a CA and writes its file. If another process was faster, its CA
// is the one.
func makeCA(cfg Config, name caName, root *pki.CA) (*pki.CA, error) {
	path := name.file(cfg.Dir)
	key, err := pki.GenerateKey(name.algorithm)
	if err != nil {
		return nil, err
	}
	ca := &pki.CA{Key: key}
	now, subject := cfg.Now(), name.subject(cfg.Operator)
	profile := name.profile()
	profile.Backdate = max(profile.Backdate, cfg.Backdate)
	if root == nil {
		ca, err = pki.NewRoot(profile, subject, key, now)
	} else {
		if root.Key == nil {
			return nil, fmt.Errorf("CA file %s is missing and the root's key is not in %s: put a CA certificate signed by the root there, with its key, or the root's key back for one start",
				path, caName{roleRoot, name.algorithm}.file(cfg.Dir))
		}
		root.PSS = cfg.PSS && name.algorithm == pki.RSA
		ca.Cert, err = root.Issue(profile, subject, key.Public(), now)
	}
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	if err := writeOnce(path, pki.EncodeCertificates(ca.Cert)+text); err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	return loadCA(path)
}

// writeOnce writes a file that only its owner can read, unless it is there. The
// file appears whole or not at all, and survives a power cut.
func writeOnce(path, text string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxCAFile is the largest CA file that is read, in bytes.
const maxCAFile = 256 << 10

// loadCA reads a CA's file. A missing key is not an error here, a wrong one is.
func loadCA(path string) (*pki.CA, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	if info.Size() > maxCAFile {
		return nil, fmt.Errorf("CA file %s: %d bytes, at most %d are read", path, info.Size(), maxCAFile)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("CA file: %w: make it readable for the user who runs Holdfast (mode 0600)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	const mend = "restore it from a backup (certificate and private key as PEM)"
	certs, err := pki.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w: %s", path, err, mend)
	}
	cert := certs[0]
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("CA file %s: its certificate is not of a CA: %s", path, mend)
	}
	key, err := pki.ParseKey(text)
	if errors.Is(err, pki.ErrNoKey) {
		return &pki.CA{Cert: cert}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w: %s", path, err, mend)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("CA file %s: private key and certificate do not belong together: %s", path, mend)
	}
	return &pki.CA{Cert: cert, Key: key}, nil
}

// records are our CAs as the database keeps them. All CAs that were ever recorded stay
// trusted until they expire: replacing a file starts an overlap, it does not
// lock out the stations of the old CA.
func (h hierarchy) records(now time.Time) []store.CA {
	var list []store.CA
	for name, ca := range h {
		list = append(list, store.CA{
			Fingerprint: pki.Fingerprint(ca.Cert.Raw), Kind: name.String(), Subject: ca.Cert.Subject.String(),
			NotAfter: ca.Cert.NotAfter, Created: now, PEM: pki.EncodeCertificates(ca.Cert),
		})
	}
	slices.SortFunc(list, func(a, b store.CA) int { return slices.Index(caOrder, a.Kind) - slices.Index(caOrder, b.Kind) })
	return list
}

var caOrder = []string{"root-ecdsa", "root-rsa", "station-ecdsa", "station-rsa", "server-ecdsa", "server-rsa"}
