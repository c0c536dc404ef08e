package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// Folder reads the stations of a directory: ID.crt with ID.key (PEM, leaf first)
// for profile 3, ID.password for profiles 1 and 2. A station that has both is of
// the profile that comes first in profiles. Files of other names, such as ca.crt
// without a key beside it, are left alone. The identities come in the order of
// their names; versions are given in turn.
func Folder(ctx context.Context, dir string, profiles []ocpp.SecurityProfile, versions []ocpp.Version) ([]fleet.Identity, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	has := make(map[string]bool, len(entries))
	for _, e := range entries {
		has[e.Name()] = true
	}
	var list []fleet.Identity
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".crt")
		if ok = ok && has[name+".key"]; !ok {
			name, ok = strings.CutSuffix(e.Name(), ".password")
			ok = ok && !(has[name+".crt"] && has[name+".key"]) // seen with its certificate
		}
		if !ok {
			continue
		}
		id := fleet.Identity{ID: ocpp.StationID(name), Version: ocpp.V16}
		if err := id.ID.Check(); err != nil {
			return nil, fmt.Errorf("identities: %s: %w", filepath.Join(dir, e.Name()), err)
		}
		for _, p := range profiles {
			if p == ocpp.ProfileMTLS && has[name+".crt"] && has[name+".key"] || p != ocpp.ProfileMTLS && has[name+".password"] {
				id.Profile = p
				break
			}
		}
		if id.Profile == 0 {
			continue
		}
		if n := len(versions); n > 0 {
			id.Version = versions[len(list)%n]
		}
		list = append(list, id)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("identities: %s holds no ID.crt with ID.key and no ID.password for the security profiles asked for", dir)
	}
	if len(list) > MaxStations {
		return nil, fmt.Errorf("identities: %s holds %d stations, at most %d", dir, len(list), MaxStations)
	}
	return list, Fill(ctx, list, 0, func(_ context.Context, _ int, id *fleet.Identity) error { return readCredentials(dir, id) })
}

func readCredentials(dir string, id *fleet.Identity) error {
	base := filepath.Join(dir, string(id.ID))
	if id.Profile != ocpp.ProfileMTLS {
		text, err := readFile(base + ".password")
		id.Password = string(bytes.TrimRight(text, "\r\n"))
		return err
	}
	chain, err := readFile(base + ".crt")
	if err != nil {
		return err
	}
	key, err := readFile(base + ".key")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("%s.crt and .key: %w", base, err)
	}
	if cn := pair.Leaf.Subject.CommonName; cn != "" {
		id.Serial = cn // B01.FR.11: what BootNotification says must be what the certificate says
	}
	pair.Leaf = nil // parsed again when it is needed
	id.Certificate = &pair
	return nil
}

// Save writes identities into a directory, as Folder reads them. Files that are
// there already are an error: a key that is overwritten is lost.
func Save(dir string, list []fleet.Identity) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identities: %w", err)
	}
	for _, id := range list {
		base := filepath.Join(dir, string(id.ID))
		type file struct {
			suffix string
			data   []byte
			mode   os.FileMode
		}
		files := []file{{".password", []byte(id.Password + "\n"), 0o600}}
		if id.Profile == ocpp.ProfileMTLS {
			key, err := x509.MarshalPKCS8PrivateKey(id.Certificate.PrivateKey)
			if err != nil {
				return fmt.Errorf("key of station %s: %w", id.ID, err)
			}
			files = []file{{".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600},
				{".crt", encodeCertificates(id.Certificate.Certificate), 0o644}}
		}
		for _, f := range files {
			if err := writeNew(base+f.suffix, f.data, f.mode); err != nil {
				return fmt.Errorf("identities: %w", err)
			}
		}
	}
	return nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Take returns the part of list that a shard runs, counted from 1; zero shards
// means all.
func Take(list []fleet.Identity, shard, shards int) []fleet.Identity {
	if shards == 0 {
		return list
	}
	return slices.Clone(list[len(list)*(shard-1)/shards : len(list)*shard/shards])
}
