package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// npmPackage is a source of schemas. Its content is fixed by its sum: another
// version has to be looked at before it is believed.
type npmPackage struct{ name, version, sha256 string }

var (
	typedPackage = npmPackage{"typed-ocpp", "1.6.2", "060bdd629e762a2ebf3b4bfe570073ad1fb66370df2f051a662018ef0bded004"}
	otherPackage = npmPackage{"ocpp-rpc", "2.2.1", "ee86d86cb583223c22737ef23e19a092bb2f8c55b4b7270bd688ca7938adbd7e"}
)

// maxPackage is more than either package unpacks to, in bytes.
const maxPackage = 16 << 20

// fetch gets both packages with npm and unpacks each into dir under its name.
func fetch(dir string) error {
	for _, p := range []npmPackage{typedPackage, otherPackage} {
		cmd := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, p.name+"@"+p.version)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if _, err := cmd.Output(); err != nil {
			return fmt.Errorf("npm pack %s@%s: %w\n%s", p.name, p.version, err, stderr.Bytes())
		}
		archive, err := os.ReadFile(filepath.Join(dir, p.name+"-"+p.version+".tgz"))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(archive); hex.EncodeToString(sum[:]) != p.sha256 {
			return fmt.Errorf("%s@%s: sha256 %x, want %s", p.name, p.version, sum, p.sha256)
		}
		if err := unpack(filepath.Join(dir, p.name), archive); err != nil {
			return fmt.Errorf("%s@%s: %w", p.name, p.version, err)
		}
	}
	return nil
}

// unpack writes the files of an npm package, which are all under "package/".
func unpack(dir string, archive []byte) error {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	for r := tar.NewReader(io.LimitReader(z, maxPackage)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(head.Name, "package/")
		if head.Typeflag != tar.TypeReg || !ok || !filepath.IsLocal(name) {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			return err
		}
	}
}
