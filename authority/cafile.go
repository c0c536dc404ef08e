package authority

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"
	"golang.org/x/sync/errgroup"

	"holdfast/pki"
)

// caFile is one file of the CA directory: a CA of ours, as PEM with its
// certificate first, then the CAs between it and its root, if there are any;
// and its private key. The key is PKCS#8, encrypted or not; or a line
//
//	Key: pkcs11:object=station-ecdsa
//
// that names one in the key management system of Config.KMS; or not there: a
// root's can be kept elsewhere. A CA that somebody else is asked to certify has
// its signing request instead of the certificate.
//
// The name is role, kind of key and, but for the first ones, the beginning of
// the key's fingerprint: station-ecdsa.pem, root-rsa-1f20c3d4.pem.
type caFile struct {
	path    string
	name    caName
	text    []byte
	certs   []*x509.Certificate      // empty: not certified yet
	request *x509.CertificateRequest // without certs
	keyName string                   // in the KMS; empty: the key is in the file, or elsewhere
	hasKey  bool
}

var (
	caFileName = regexp.MustCompile(`^(root|station|server)-(ecdsa|rsa)(-[0-9a-f]{8})?\.pem$`)
	keyLine    = regexp.MustCompile(`(?m)^Key: *(\S.*?)\s*$`)
	keyBlock   = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)
)

const (
	maxCAFile  = 256 << 10 // bytes that are read of one
	maxCAFiles = 100
)

const restoreCA = "restore it from a backup (certificate and private key as PEM)"

// readCADir reads the files of a CA directory; others are left alone. No key is
// opened yet.
func readCADir(cfg Config) ([]*caFile, error) {
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("CA directory: %w", err)
	}
	var files []*caFile
	for _, e := range entries {
		m := caFileName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		if len(files) == maxCAFiles {
			return nil, fmt.Errorf("CA directory %s: more than %d CA files: move those of retired CAs elsewhere", cfg.Dir, maxCAFiles)
		}
		f, err := readCAFile(filepath.Join(cfg.Dir, e.Name()), caName{m[1], pki.Algorithm(m[2])})
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced at this moment
		}
		if err != nil {
			return nil, err
		}
		if info, err := e.Info(); err == nil && info.Mode().Perm()&0o077 != 0 && f.hasKey {
			cfg.Logger.Warn("CA file can be read by others than its owner: chmod 600", "file", f.path, "mode", info.Mode().Perm().String())
		}
		files = append(files, f)
	}
	return files, nil
}

func readCAFile(path string, name caName) (*caFile, error) {
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
	f := &caFile{path: path, name: name, text: text, hasKey: keyBlock.Match(text)}
	if m := keyLine.FindSubmatch(text); m != nil {
		f.keyName, f.hasKey = string(m[1]), true
	}
	f.certs, err = pki.ParseCertificates(text)
	if err != nil {
		if f.request, _ = pki.ParseCSR(text); f.request != nil && f.hasKey {
			return f, nil
		}
		return nil, fmt.Errorf("CA file %s: %w: %s", path, err, restoreCA)
	}
	if c := f.certs[0]; !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("CA file %s: its certificate is not of a CA: %s", path, restoreCA)
	}
	return f, nil
}

// public is the fingerprint of the CA's public key.
func (f *caFile) public() string {
	if len(f.certs) > 0 {
		return pki.KeyFingerprint(f.certs[0].RawSubjectPublicKeyInfo)
	}
	return pki.KeyFingerprint(f.request.RawSubjectPublicKeyInfo)
}

func (f *caFile) publicKey() crypto.PublicKey {
	if len(f.certs) > 0 {
		return f.certs[0].PublicKey
	}
	return f.request.PublicKey
}

// openKey opens the private key; nil if it is kept elsewhere.
func (f *caFile) openKey(ctx context.Context, cfg Config) (crypto.Signer, error) {
	if !f.hasKey {
		return nil, nil
	}
	key, err := f.signer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w", f.path, err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(f.publicKey()) {
		return nil, fmt.Errorf("CA file %s: private key and certificate do not belong together: %s", f.path, restoreCA)
	}
	return key, nil
}

func (f *caFile) signer(ctx context.Context, cfg Config) (crypto.Signer, error) {
	if f.keyName != "" {
		if cfg.KMS == nil {
			return nil, fmt.Errorf("its key is %q of a key management system, and none is configured: say which with --kms", f.keyName)
		}
		key, err := cfg.KMS.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: f.keyName})
		if err != nil {
			return nil, fmt.Errorf("key %q of the key management system: %w", f.keyName, err)
		}
		return key, nil
	}
	key, err := pki.ParseKey(f.text)
	if !errors.Is(err, pki.ErrEncryptedKey) {
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, restoreCA)
		}
		return key, nil
	}
	if len(cfg.Passphrase) == 0 {
		return nil, fmt.Errorf("%w, and there is none: %s", err, wantPassphrase)
	}
	soft, err := softkms.New(ctx, apiv1.Options{})
	if err != nil {
		return nil, err
	}
	key, err = soft.CreateSigner(&apiv1.CreateSignerRequest{SigningKeyPEM: encryptedBlock(f.text), Password: cfg.Passphrase})
	if err != nil {
		return nil, fmt.Errorf("private key does not open with the passphrase (%w): %s", err, wantPassphrase)
	}
	return key, nil
}

const wantPassphrase = "give the passphrase with which it was encrypted (--ca-passphrase-file)"

// encryptedBlock returns the PEM block of the encrypted key alone.
func encryptedBlock(text []byte) []byte {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return nil
		}
		if b.Type == pki.TypeEncryptedKey {
			return pem.EncodeToMemory(b)
		}
	}
}

// encodeKey writes a key for a file, encrypted if there is a passphrase.
func encodeKey(cfg Config, key crypto.Signer) (string, error) {
	if len(cfg.Passphrase) == 0 {
		return pki.EncodeKey(key)
	}
	b, err := pemutil.Serialize(key, pemutil.WithPKCS8(true), pemutil.WithPassword(cfg.Passphrase))
	if err != nil {
		return "", fmt.Errorf("encrypt private key: %w", err)
	}
	return string(pem.EncodeToMemory(b)), nil
}

// makeKey makes a key for a CA, and the text that stands for it in its file.
func makeKey(cfg Config, name caName, nth int) (crypto.Signer, string, error) {
	if cfg.KMS == nil {
		key, err := pki.GenerateKey(name.algorithm)
		if err != nil {
			return nil, "", err
		}
		text, err := encodeKey(cfg, key)
		return key, text, err
	}
	label := name.String()
	if nth > 1 {
		label = randomName(name)
	}
	r := apiv1.CreateKeyRequest{Name: cfg.KMSKeyName(label), SignatureAlgorithm: apiv1.ECDSAWithSHA256}
	if name.algorithm == pki.RSA {
		r.SignatureAlgorithm, r.Bits = apiv1.SHA256WithRSA, 3072
		if cfg.PSS {
			r.SignatureAlgorithm = apiv1.SHA256WithRSAPSS
		}
	}
	made, err := cfg.KMS.CreateKey(&r)
	if err != nil {
		return nil, "", fmt.Errorf("make key %q in the key management system: %w", r.Name, err)
	}
	if made.CreateSignerRequest.SigningKey == "" {
		made.CreateSignerRequest.SigningKey = made.Name
	}
	key, err := cfg.KMS.CreateSigner(&made.CreateSignerRequest)
	if err != nil {
		return nil, "", fmt.Errorf("key %q of the key management system: %w", made.Name, err)
	}
	return key, "Key: " + made.CreateSignerRequest.SigningKey + "\n", nil
}

// keyring holds the opened private keys of CAs, by the fingerprint of the
// public key: opening one can take a tenth of a second or a call to an HSM.
type keyring struct {
	mu   sync.Mutex
	keys map[string]crypto.Signer // guarded by mu; as many as CA files
}

func newKeyring() *keyring { return &keyring{keys: make(map[string]crypto.Signer)} }

func (k *keyring) get(public string) crypto.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[public]
}

func (k *keyring) put(public string, key crypto.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[public] = key
}

// open opens the keys of files that are not open yet.
func (k *keyring) open(ctx context.Context, cfg Config, files []*caFile) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(4)
	for _, f := range files {
		if k.get(f.public()) != nil || !f.hasKey {
			continue
		}
		eg.Go(func() error {
			key, err := f.openKey(ctx, cfg)
			if err != nil {
				return err
			}
			k.put(f.public(), key)
			return nil
		})
	}
	return eg.Wait()
}

// writeOnce writes a file that only its owner can read, unless it is there. The
// file appears whole or not at all, and survives a power cut.
func writeOnce(path, text string) error {
	return place(path, text, func(from, to string) error {
		if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// replaceFile writes a file that only its owner can read, in the place of the one
// that is there, whole or not at all.
func replaceFile(path, text string) error { return place(path, text, os.Rename) }

func place(path, text string, put func(from, to string) error) error {
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
	if err := put(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// EncryptKeys encrypts the CA keys in dir that are not encrypted yet with a
// passphrase, and returns the files that it changed. A process that runs has
// its keys open and is not disturbed. Keys in a KMS are left alone.
func EncryptKeys(ctx context.Context, cfg Config) ([]string, error) {
	if len(cfg.Passphrase) == 0 {
		return nil, errors.New("encrypt CA keys: no passphrase")
	}
	files, err := readCADir(cfg)
	if err != nil {
		return nil, err
	}
	var changed []string
	for _, f := range files {
		key, err := pki.ParseKey(f.text)
		if errors.Is(err, pki.ErrEncryptedKey) {
			if _, err := f.openKey(ctx, cfg); err != nil { // it must open with this passphrase
				return changed, err
			}
			continue
		}
		if errors.Is(err, pki.ErrNoKey) {
			continue
		}
		if err != nil {
			return changed, fmt.Errorf("CA file %s: %w", f.path, err)
		}
		text, err := encodeKey(cfg, key)
		if err != nil {
			return changed, fmt.Errorf("CA file %s: %w", f.path, err)
		}
		if err := replaceFile(f.path, pemBlocks(f.text, false)+text); err != nil {
			return changed, fmt.Errorf("CA file: %w", err)
		}
		changed = append(changed, f.path)
	}
	slices.Sort(changed)
	return changed, nil
}

// pemBlocks returns the PEM blocks of text that are private keys, or the others.
func pemBlocks(text []byte, keys bool) string {
	var b strings.Builder
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return b.String()
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") == keys {
			pem.Encode(&b, block) // a Builder does not fail
		}
	}
}
