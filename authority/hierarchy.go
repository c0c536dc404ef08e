package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/pki"
	"holdfast/store"
)

// hierarchy is our own PKI: a root that signs a station CA and a server CA, once
// with ECDSA and once with RSA keys; beside them, during an overlap, those that
// are to come and those that were. The database says which CAs there are and
// what each does; their keys are in the files of the CA directory (caFile).
//
// What is missing at the first start is made. A root's key is needed only to
// make the CAs below it: its file can be reduced to the certificate and the key
// kept elsewhere; or CAs are certified by a root elsewhere (RequestCA), before
// the first start or later. A file of the first name, such as root-ecdsa.pem,
// that was replaced by hand starts an overlap, too: its CA issues from the next
// start on, and the old one stays trusted.
type hierarchy struct {
	generation int64
	cas        map[string]*issuer // ours that are trusted, by fingerprint
	issuing    map[caName]*issuer
}

// issuer is a CA of ours.
type issuer struct {
	*pki.CA
	name   caName
	record store.CA
	certs  []*x509.Certificate // its own, then the CAs between it and its root
}

// key is the CA's key identifier in hex, as it stands in what it issued.
func (i *issuer) key() string { return fmt.Sprintf("%x", i.Cert.SubjectKeyId) }

type caName struct {
	role      string
	algorithm pki.Algorithm
}

const (
	roleRoot    = "root"
	roleStation = "station"
	roleServer  = "server"
	roleCross   = "cross" // another root's certificate by one of ours; has no file
)

func (n caName) String() string { return n.role + "-" + string(n.algorithm) }

func (n caName) file(dir string) string { return filepath.Join(dir, n.String()+".pem") }

func (n caName) profile(cfg Config) pki.Profile {
	p := map[string]pki.Profile{roleRoot: pki.Root, roleStation: pki.StationCA, roleServer: pki.ServerCA}[n.role]
	p.Backdate = max(p.Backdate, cfg.Backdate)
	return p
}

// subject names the CA that is the nth of its kind.
func (n caName) subject(cfg Config, nth int) pki.Subject {
	role := map[string]string{roleRoot: "Root CA", roleStation: "Station CA", roleServer: "Server CA"}[n.role]
	kind := map[pki.Algorithm]string{pki.ECDSA: "ECDSA", pki.RSA: "RSA"}[n.algorithm]
	s := pki.Subject{CommonName: role + " " + kind, Organization: cfg.Operator}
	if nth > 1 { // two roots of one name would be taken for each other
		s.CommonName = fmt.Sprintf("%s %d", s.CommonName, nth)
	}
	return s
}

func nameOf(kind string) caName {
	role, algorithm, _ := strings.Cut(kind, "-")
	return caName{role, pki.Algorithm(algorithm)}
}

// prepareCAs makes the CAs that are missing at the first start and returns those
// that the database does not know. One that is missing although the database
// says that it issues is an error: it was lost, or this is another directory.
func prepareCAs(ctx context.Context, cfg Config, keys *keyring, recorded []store.CA) ([]store.CA, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("CA directory: %w", err)
	}
	files, err := readCADir(cfg)
	if err != nil {
		return nil, err
	}
	if err := keys.open(ctx, cfg, files); err != nil {
		return nil, err
	}
	d := &caDirectory{cfg: cfg, keys: keys, recorded: recorded, files: files}
	eg, ctx := errgroup.WithContext(ctx)
	for _, algorithm := range pki.Algorithms {
		eg.Go(func() error { return d.chain(ctx, algorithm) })
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.fresh, func(a, b store.CA) int { return slices.Index(caOrder, a.Kind) - slices.Index(caOrder, b.Kind) })
	return d.fresh, nil
}

var caOrder = []string{"root-ecdsa", "root-rsa", "station-ecdsa", "station-rsa", "server-ecdsa", "server-rsa"}

// caDirectory is the CA directory while prepareCAs looks at it.
type caDirectory struct {
	cfg      Config
	keys     *keyring
	recorded []store.CA
	files    []*caFile // as they were found

	mu    sync.Mutex
	fresh []store.CA // guarded by mu
}

// chain sees to the CAs of one kind of key.
func (d *caDirectory) chain(ctx context.Context, algorithm pki.Algorithm) error {
	var root *pki.CA // made only if one of those below it has none
	roots := func() (*pki.CA, error) {
		var err error
		if root == nil {
			root, err = d.ca(ctx, caName{roleRoot, algorithm}, nil)
		}
		return root, err
	}
	signed := true // by roots that are here
	for _, role := range []string{roleStation, roleServer} {
		f := d.file(caName{role, algorithm})
		signed = signed && f != nil && len(f.certs) > 0 && d.rootOf(f) != nil
	}
	if f := d.file(caName{roleRoot, algorithm}); !signed || f != nil || d.issuing(caName{roleRoot, algorithm}) != nil {
		if _, err := roots(); err != nil {
			return err
		}
	}
	for _, role := range []string{roleStation, roleServer} {
		name := caName{role, algorithm}
		ca, err := d.ca(ctx, name, roots)
		if err != nil {
			return err
		}
		if ca.Key == nil {
			return fmt.Errorf("CA file %s: has no private key: append it as PEM (PKCS#8), as this CA signs here", name.file(d.cfg.Dir))
		}
		f := d.file(name)
		if f != nil && len(f.certs) > 0 && d.rootOf(f) == nil && (root == nil || f.certs[len(f.certs)-1].CheckSignatureFrom(root.Cert) != nil) {
			return fmt.Errorf("CA file %s: not signed by the root in %s: put the two that belong together there", f.path, caName{roleRoot, algorithm}.file(d.cfg.Dir))
		}
	}
	return nil
}

// ca returns the CA that issues as name, and makes it if it never was there.
func (d *caDirectory) ca(ctx context.Context, name caName, root func() (*pki.CA, error)) (*pki.CA, error) {
	f, rec := d.file(name), d.issuing(name)
	path := name.file(d.cfg.Dir)
	switch {
	case f != nil && len(f.certs) == 0:
		return nil, fmt.Errorf("CA file %s: this CA was requested and its signed certificate is not there yet: holdfast cert ca import FILE --offline", f.path)
	case f != nil && (rec == nil || !d.known(f)):
		d.add(name, f.certs)
	case rec != nil:
		certs, err := pki.ParseCertificates([]byte(rec.PEM))
		if err != nil {
			return nil, fmt.Errorf("CA %s in the database: %w", rec.Fingerprint, err)
		}
		public := pki.KeyFingerprint(certs[0].RawSubjectPublicKeyInfo)
		i := slices.IndexFunc(d.files, func(f *caFile) bool { return f.public() == public })
		if i < 0 {
			return nil, fmt.Errorf("CA file %s is missing, although the database knows this CA: restore it from a backup, or mount the CA directory that belongs to this database", path)
		}
		return d.open(certs[0], name), nil
	default:
		return d.make(ctx, name, root)
	}
	return d.open(f.certs[0], name), nil
}

func (d *caDirectory) open(cert *x509.Certificate, name caName) *pki.CA {
	return &pki.CA{Cert: cert, Key: d.keys.get(pki.KeyFingerprint(cert.RawSubjectPublicKeyInfo)), PSS: d.cfg.PSS && name.algorithm == pki.RSA}
}

// file returns the file of the first name, nil if there is none.
func (d *caDirectory) file(name caName) *caFile {
	path := name.file(d.cfg.Dir)
	for _, f := range d.files {
		if f.path == path {
			return f
		}
	}
	return nil
}

func (d *caDirectory) issuing(name caName) *store.CA {
	for _, c := range d.recorded {
		if c.Kind == name.String() && c.State == store.CAIssuing {
			return &c
		}
	}
	return nil
}

func (d *caDirectory) known(f *caFile) bool {
	fingerprint := pki.Fingerprint(f.certs[0].Raw)
	return slices.ContainsFunc(d.recorded, func(c store.CA) bool { return c.Fingerprint == fingerprint })
}

// rootOf returns the root in the directory that signed the CA of a file, or the
// last of the CAs between.
func (d *caDirectory) rootOf(f *caFile) *x509.Certificate {
	for _, r := range d.files {
		if r.name.role == roleRoot && len(r.certs) > 0 && f.certs[len(f.certs)-1].CheckSignatureFrom(r.certs[0]) == nil {
			return r.certs[0]
		}
	}
	return nil
}

// add records a CA that the database does not know, and its root with it.
func (d *caDirectory) add(name caName, certs []*x509.Certificate) {
	list := []store.CA{caRecord(name, store.CAIssuing, d.cfg.Now(), certs...)}
	for _, r := range d.files {
		if name.role != roleRoot && r.name.role == roleRoot && len(r.certs) > 0 && !d.known(r) && certs[len(certs)-1].CheckSignatureFrom(r.certs[0]) == nil {
			list = append(list, caRecord(r.name, store.CAIssuing, d.cfg.Now(), r.certs...))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range list {
		if !slices.ContainsFunc(d.fresh, func(f store.CA) bool { return f.Fingerprint == c.Fingerprint }) {
			d.fresh = append(d.fresh, c)
		}
	}
}

// caRecord is a CA as the database keeps it.
func caRecord(name caName, state store.CAState, now time.Time, certs ...*x509.Certificate) store.CA {
	return store.CA{
		Fingerprint: pki.Fingerprint(certs[0].Raw), Kind: name.String(), State: state, Subject: certs[0].Subject.String(),
		NotAfter: certs[0].NotAfter, Created: now, PEM: pki.EncodeCertificates(certs...),
	}
}

// make makes a CA and writes its file. If another process was faster, its CA is
// the one.
func (d *caDirectory) make(ctx context.Context, name caName, root func() (*pki.CA, error)) (*pki.CA, error) {
	path := name.file(d.cfg.Dir)
	var parent *pki.CA
	if root != nil {
		var err error
		if parent, err = root(); err != nil {
			return nil, err
		}
		if parent.Key == nil {
			return nil, fmt.Errorf("CA file %s is missing and the root's key is not in %s: request the CA and import what the root signed (holdfast cert ca request), or put the root's key back for one start",
				path, caName{roleRoot, name.algorithm}.file(d.cfg.Dir))
		}
	}
	ca, text, err := makeCA(d.cfg, name, 1, parent)
	if err != nil {
		return nil, err
	}
	if err := writeOnce(path, text); err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	f, err := readCAFile(path, name)
	if err != nil {
		return nil, err
	}
	d.add(name, f.certs)
	if !f.certs[0].Equal(ca.Cert) {
		if err := d.keys.open(ctx, d.cfg, []*caFile{f}); err != nil {
			return nil, err
		}
		return d.open(f.certs[0], name), nil
	}
	d.keys.put(f.public(), ca.Key)
	return ca, nil
}

// makeCA makes a key and a certificate for the nth CA of its kind, and the text
// of its file. Without a parent it is a root.
func makeCA(cfg Config, name caName, nth int, parent *pki.CA) (*pki.CA, string, error) {
	key, text, err := makeKey(cfg, name, nth)
	if err != nil {
		return nil, "", fmt.Errorf("make CA %s: %w", name, err)
	}
	ca := &pki.CA{Key: key}
	if parent == nil {
		ca, err = pki.NewRoot(name.profile(cfg), name.subject(cfg, nth), key, cfg.Now())
	} else {
		ca.Cert, err = parent.Issue(name.profile(cfg), name.subject(cfg, nth), key.Public(), cfg.Now())
	}
	if err != nil {
		return nil, "", fmt.Errorf("make CA %s: %w", name, err)
	}
	ca.PSS = cfg.PSS && name.algorithm == pki.RSA
	return ca, pki.EncodeCertificates(ca.Cert) + text, nil
}

// laterFile is the file of a CA that is not the first of its kind.
func laterFile(dir string, name caName, public string) string {
	return filepath.Join(dir, name.String()+"-"+public[:8]+".pem")
}

// hierarchy returns the CAs as the database has them now.
func (a *Authority) hierarchy(ctx context.Context) (*hierarchy, error) {
	generation, err := a.store.Generation(ctx)
	if err != nil {
		return nil, err
	}
	a.casMu.Lock()
	defer a.casMu.Unlock()
	if a.cas != nil && a.cas.generation >= generation {
		return a.cas, nil
	}
	recorded, generation, err := a.store.CAs(ctx)
	if err != nil {
		return nil, err
	}
	h := &hierarchy{generation: generation, cas: make(map[string]*issuer), issuing: make(map[caName]*issuer)}
	missing := false
	for _, c := range recorded {
		if c.Kind == store.KindImported || c.State == store.CARetired {
			continue
		}
		certs, err := pki.ParseCertificates([]byte(c.PEM))
		if err != nil {
			return nil, fmt.Errorf("CA %s in the database: %w", c.Fingerprint, err)
		}
		i := &issuer{name: nameOf(c.Kind), record: c, certs: certs, CA: &pki.CA{Cert: certs[0]}}
		h.cas[c.Fingerprint] = i
		if i.name.role == roleCross {
			continue
		}
		i.PSS = a.cfg.PSS && i.name.algorithm == pki.RSA
		if i.Key = a.keys.get(pki.KeyFingerprint(certs[0].RawSubjectPublicKeyInfo)); i.Key == nil {
			missing = true
		}
		if c.State == store.CAIssuing {
			h.issuing[i.name] = i
		}
		if a.cfg.PublicURL != "" && i.name.role != roleRoot {
			base := strings.TrimRight(a.cfg.PublicURL, "/") + "/pki/"
			i.CRLURL, i.OCSPURL, i.IssuerURL = base+"crl/"+i.key()+".crl", base+"ocsp", base+"ca/"+i.key()+".crt"
		}
	}
	if missing && a.cas != nil { // another replica may have made it
		a.openLater(ctx, h)
	}
	a.cas = h
	return h, nil
}

// openLater looks in the CA directory for keys that were not there at the start.
func (a *Authority) openLater(ctx context.Context, h *hierarchy) {
	files, err := readCADir(a.cfg)
	if err == nil {
		err = a.keys.open(ctx, a.cfg, files)
	}
	if err != nil {
		a.log.Error("open keys of new CAs", "dir", a.cfg.Dir, "err", err)
	}
	for _, i := range h.cas {
		if i.name.role != roleCross && i.Key == nil {
			i.Key = a.keys.get(pki.KeyFingerprint(i.Cert.RawSubjectPublicKeyInfo))
		}
	}
}

// issuer returns the CA that issues as name.
func (a *Authority) issuer(ctx context.Context, name caName) (*issuer, error) {
	h, err := a.hierarchy(ctx)
	if err != nil {
		return nil, err
	}
	i := h.issuing[name]
	if i == nil {
		return nil, fmt.Errorf("there is no CA %s", name)
	}
	if i.Key == nil {
		return nil, fmt.Errorf("CA %s: its key is not in %s: replicas share one CA directory", name, a.cfg.Dir)
	}
	return i, nil
}

// root returns the root that signed a CA of ours, nil if it is not trusted.
func (h *hierarchy) root(i *issuer) *issuer {
	last := i.certs[len(i.certs)-1]
	for _, r := range h.cas {
		if r.name.role == roleRoot && last.CheckSignatureFrom(r.Cert) == nil {
			return r
		}
	}
	return nil
}

// presented are the certificates that follow one of i's in a chain: i, what is
// between it and its root, and while the root's predecessors are trusted, the
// cross certificates with which stations that know only those can verify.
func (h *hierarchy) presented(i *issuer) []*x509.Certificate {
	list := slices.Clone(i.certs)
	root := h.root(i)
	if root == nil {
		return list
	}
	for _, c := range h.crosses(root) {
		list = append(list, c.Cert)
	}
	return list
}

// crosses are the cross certificates of a root by others that are trusted and
// allow two CAs more below them, the oldest first.
func (h *hierarchy) crosses(root *issuer) []*issuer {
	var list []*issuer
	for _, c := range h.cas {
		if c.name.role != roleCross || !slices.Equal(c.Cert.RawSubjectPublicKeyInfo, root.Cert.RawSubjectPublicKeyInfo) {
			continue
		}
		for _, by := range h.cas {
			if by.name.role == roleRoot && (by.Cert.MaxPathLen < 0 || by.Cert.MaxPathLen > 1) && c.Cert.CheckSignatureFrom(by.Cert) == nil {
				list = append(list, c)
				break
			}
		}
	}
	slices.SortFunc(list, func(a, b *issuer) int { return a.record.Created.Compare(b.record.Created) })
	return list
}

// roots are our trusted roots: those that issue first, and ECDSA before RSA.
func (h *hierarchy) roots() []*x509.Certificate {
	var list []*issuer
	for _, i := range h.cas {
		if i.name.role == roleRoot {
			list = append(list, i)
		}
	}
	order := func(i *issuer) int {
		n := 2 * slices.Index([]store.CAState{store.CAIssuing, store.CANext, store.CAPrevious}, i.record.State)
		if i.name.algorithm == pki.RSA {
			n++
		}
		return n
	}
	slices.SortFunc(list, func(a, b *issuer) int {
		if n := order(a) - order(b); n != 0 {
			return n
		}
		return strings.Compare(a.record.Fingerprint, b.record.Fingerprint)
	})
	certs := make([]*x509.Certificate, len(list))
	for n, i := range list {
		certs[n] = i.Cert
	}
	return certs
}

// expires is when the first of the CAs that issue expires.
func (h *hierarchy) expires() (name caName, at time.Time) {
	for n, i := range h.issuing {
		if at.IsZero() || i.Cert.NotAfter.Before(at) {
			name, at = n, i.Cert.NotAfter
		}
	}
	return name, at
}

// randomName makes a name unique among the keys of a KMS.
func randomName(name caName) string {
	b := make([]byte, 4)
	rand.Read(b) // does not fail
	return fmt.Sprintf("%s-%x", name, b)
}
