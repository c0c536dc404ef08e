package bus

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// A credentials file lets a process into NATS: a line that names its role, an
// nkey seed, and, for a server that is embedded in another process, that
// server's certificate. The server knows only the public key, so its
// configuration holds no secret.
//
// A directory of such files is all that is known of who may connect:
// authorization.conf, which an external server includes, is written from it.

const (
	credentialsExt   = ".creds"
	authorizationTo  = "authorization.conf"
	serverFile       = "server.pem" // certificate and key of an embedded server that listens
	maxCredentials   = 64 << 10     // bytes of a file
	maxUsers         = 1000         // files of a directory
	rolePrefix       = "role: "
	serverCertExpiry = 20 * 365 * 24 * time.Hour // it is pinned, not trusted for its dates

	// replyTime is how long a request may be answered: as long as a CALL may take.
	replyTime = time.Hour
)

// User is one who may connect to NATS.
type User struct {
	Name string `json:"name"` // of the file, without its ending
	Role Role   `json:"role"`
	Key  string `json:"key"` // public
	File string `json:"file"`

	seed []byte
	pins []*x509.Certificate // the server must have one of these; none: as TLS has it
}

// credentialsName matches the names of credentials: they become file names.
var credentialsName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// MakeCredentials makes the credentials of one more user in dir, unless a file
// of that name is there: an existing one is left alone if it has the same role.
func MakeCredentials(dir, name string, role Role) error {
	if !slices.Contains(Roles, role) {
		return fmt.Errorf("NATS credentials: no role %q", role)
	}
	if !credentialsName.MatchString(name) {
		return fmt.Errorf("NATS credentials: name %q: letters, digits, dots, dashes and underscores, at most 64", name)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	path := filepath.Join(dir, name+credentialsExt)
	if have, err := readCredentials(path); err == nil {
		if have.Role != role {
			return fmt.Errorf("NATS credentials: %s is there with role %s: choose another name", path, have.Role)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Holdfast's NATS credentials: who has this file can do what the role can.\n%s%s\n\n", rolePrefix, role)
	fmt.Fprintf(&b, "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", seed)
	if cert, _, err := readServer(dir); err == nil {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeNew(path, b.Bytes())
}

// writeNew writes a file that only its owner can read. One that appeared
// meanwhile is left alone.
func writeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("NATS credentials: %w", err)
	}
	return nil
}

// readCredentials reads a file that MakeCredentials wrote, or one that holds
// nothing but a user's nkey seed.
func readCredentials(path string) (User, error) {
	u := User{Name: strings.TrimSuffix(filepath.Base(path), credentialsExt), File: path}
	data, err := readSmall(path)
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if role, ok := strings.CutPrefix(line, rolePrefix); ok {
			u.Role = Role(role)
		}
		if strings.HasPrefix(line, "SU") && u.seed == nil {
			u.seed = []byte(line)
		}
	}
	key, err := nkeys.FromSeed(u.seed)
	if err == nil {
		u.Key, err = key.PublicKey()
	}
	if err != nil {
		return u, fmt.Errorf("NATS credentials: %s holds no user's nkey seed (SU…): make it with holdfast nats credentials", path)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return u, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return u, fmt.Errorf("NATS credentials: %s: certificate of the server: %w", path, err)
		}
		u.pins = append(u.pins, cert)
	}
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("NATS credentials: %w", err)
	}
	if info.Size() > maxCredentials {
		return nil, fmt.Errorf("NATS credentials: %s has %d bytes, at most %d are read", path, info.Size(), maxCredentials)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("NATS credentials: %w", err)
	}
	return data, nil
}

// Users are all who have credentials in dir, by name.
func Users(dir string) ([]User, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+credentialsExt))
	if err != nil || len(paths) > maxUsers {
		return nil, fmt.Errorf("NATS credentials: %s: %d files, at most %d are read", dir, len(paths), maxUsers)
	}
	var users []User
	for _, path := range paths {
		u, err := readCredentials(path)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(Roles, u.Role) {
			return nil, fmt.Errorf("NATS credentials: %s names no role of Holdfast (a line %sgateway, say)", path, rolePrefix)
		}
		users = append(users, u)
	}
	return users, nil
}

// WriteAuthorization writes dir/authorization.conf, which an external NATS
// server includes: the public keys of the users of dir and what each may do.
func WriteAuthorization(dir string) (path string, err error) {
	users, err := Users(dir)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	b.WriteString("# Written by holdfast nats credentials from the files beside it. Holds no secret.\n" +
		"# Include it in the configuration of every NATS server and reload them.\nauthorization {\n  users = [\n")
	list := func(subjects []string) string { return `["` + strings.Join(subjects, `", "`) + `"]` }
	for _, u := range users {
		p := u.Role.permissions()
		fmt.Fprintf(&b, "    { # %s, role %s\n      nkey: %s\n      permissions {\n        publish { allow: %s }\n        subscribe { allow: %s }\n"+
			"        allow_responses { max: 1, expires: \"%s\" }\n      }\n    }\n", u.Name, u.Role, u.Key, list(p.publish), list(p.subscribe), replyTime)
	}
	b.WriteString("  ]\n}\n")
	path = filepath.Join(dir, authorizationTo)
	temporary := path + ".new"
	if err := os.WriteFile(temporary, b.Bytes(), 0o644); err != nil {
		return "", fmt.Errorf("NATS authorization: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", fmt.Errorf("NATS authorization: %w", err)
	}
	return path, nil
}

// natsPermissions is p for an embedded server.
func (p permissions) natsPermissions() *server.Permissions {
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: p.publish}, Subscribe: &server.SubjectPermission{Allow: p.subscribe},
		Response: &server.ResponsePermission{MaxMsgs: 1, Expires: replyTime},
	}
}

// clientOptions are what a credentials file says on how to connect.
func clientOptions(path string) ([]nats.Option, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte("BEGIN NATS USER JWT")) { // of a NATS that an operator runs with JWTs
		return []nats.Option{nats.UserCredentials(path)}, nil
	}
	u, err := readCredentials(path)
	if err != nil {
		return nil, err
	}
	options := []nats.Option{nats.Nkey(u.Key, func(nonce []byte) ([]byte, error) {
		key, err := nkeys.FromSeed(u.seed)
		if err != nil {
			return nil, err
		}
		return key.Sign(nonce)
	})}
	if len(u.pins) > 0 {
		options = append(options, nats.Secure(&tls.Config{
			MinVersion: tls.VersionTLS13,
			// Not by name but by the very certificate: the server is known, and its
			// address may be any.
			InsecureSkipVerify: true,
			VerifyConnection: func(cs tls.ConnectionState) error {
				if len(cs.PeerCertificates) > 0 && slices.ContainsFunc(u.pins, cs.PeerCertificates[0].Equal) {
					return nil
				}
				return fmt.Errorf("the NATS server is not the one that %s was made for", path)
			},
		}))
	}
	return options, nil
}

// ensureServer makes the certificate of an embedded server that listens, unless
// it is there.
func ensureServer(dir string) (tls.Certificate, error) {
	_, pair, err := readServer(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the embedded NATS: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the embedded NATS: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Holdfast NATS"}, DNSNames: []string{"holdfast-nats"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(serverCertExpiry), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the embedded NATS: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the embedded NATS: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the embedded NATS: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := writeNew(filepath.Join(dir, serverFile), text); err != nil {
		return tls.Certificate{}, err
	}
	_, pair, err = readServer(dir)
	return pair, err
}

func readServer(dir string) (*x509.Certificate, tls.Certificate, error) {
	path := filepath.Join(dir, serverFile)
	data, err := readSmall(path)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, pair, fmt.Errorf("certificate of the embedded NATS: %s: %w (delete it and the .creds files beside it to have new ones)", path, err)
	}
	return pair.Leaf, pair, nil
}
