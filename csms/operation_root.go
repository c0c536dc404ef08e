package csms

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
)

// The steps by which a station learns to trust servers' certificates (OCPP 2.0.1
// M03, M05).
const (
	stepRoots   = "roots"   // what the station trusts already
	stepInstall = "install" // it gets the roots that are missing
	stepProof   = "proof"   // and lists them
)

// installRoot makes a station trust roots of servers' certificates, beside those
// that it trusts already.
var installRoot = &kind{
	first: stepRoots,
	steps: map[string]stepFunc{stepRoots: readRoots(stepInstall), stepInstall: installRoots(stepProof), stepProof: proveRoots("")},
	check: func(_ *CSMS, p *OperationParams) error {
		if *p != (OperationParams{Certificates: p.Certificates}) {
			return &InvalidOperation{"params", "install-root takes certificates only"}
		}
		if p.Certificates == "" {
			return nil
		}
		roots, err := parseRoots(p.Certificates)
		if err != nil {
			return &InvalidOperation{"params.certificates", err.Error()}
		}
		for _, r := range roots {
			if !r.IsCA || time.Now().After(r.NotAfter) {
				return &InvalidOperation{"params.certificates", fmt.Sprintf("%s is not a CA certificate that is good now", r.Subject)}
			}
		}
		return nil
	},
}

// maxRoots is how many roots one operation installs.
const maxRoots = 8

func parseRoots(text string) (roots []*x509.Certificate, err error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if roots = append(roots, c); len(roots) > maxRoots {
			return nil, fmt.Errorf("more than %d certificates", maxRoots)
		}
	}
	if len(roots) == 0 {
		return nil, errDamaged
	}
	return roots, nil
}

// certificateHash names a certificate to a station, as OCSP does.
type certificateHash struct {
	Algorithm  string `json:"hashAlgorithm"`
	IssuerName string `json:"issuerNameHash"`
	IssuerKey  string `json:"issuerKeyHash"`
	Serial     string `json:"serialNumber"`
}

// equal compares without regard to case and to leading zeros, which stations add.
func (h certificateHash) equal(o certificateHash) bool {
	return strings.EqualFold(h.IssuerName, o.IssuerName) && strings.EqualFold(h.IssuerKey, o.IssuerKey) &&
		strings.EqualFold(strings.TrimLeft(h.Serial, "0"), strings.TrimLeft(o.Serial, "0"))
}

// hashOf is the certificateHash of c, which issuer signed, for the algorithm that
// a station uses.
func hashOf(c, issuer *x509.Certificate, algorithm string) (certificateHash, bool) {
	hash, ok := map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512}[algorithm]
	if !ok {
		return certificateHash{}, false
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return certificateHash{}, false
	}
	sum := func(b []byte) string {
		h := hash.New()
		h.Write(b)
		return hex.EncodeToString(h.Sum(nil))
	}
	return certificateHash{algorithm, sum(c.RawIssuer), sum(key.Bits.RightAlign()), c.SerialNumber.Text(16)}, true
}

// rootUse is the certificateType of a root of servers' certificates.
func rootUse(v ocpp.Version) string {
	if v.Is2x() {
		return "CSMSRootCertificate"
	}
	return "CentralSystemRootCertificate"
}

type installedAnswer struct {
	Status string `json:"status"`
	// OCPP 1.6
	Hashes []certificateHash `json:"certificateHashData"`
	// OCPP 2.x
	Chains []struct {
		Use  string          `json:"certificateType"`
		Hash certificateHash `json:"certificateHashData"`
	} `json:"certificateHashDataChain"`
}

func (a *installedAnswer) hashes() []certificateHash {
	list := a.Hashes
	for _, c := range a.Chains {
		list = append(list, c.Hash)
	}
	return list
}

// askInstalled is the request for the roots that a station has.
func askInstalled(v ocpp.Version) any {
	if v.Is2x() {
		return &struct {
			Use []string `json:"certificateType"`
		}{[]string{rootUse(v)}}
	}
	return &struct {
		Use string `json:"certificateType"`
	}{rootUse(v)}
}

// wantedRoots are the roots that the operation installs.
func (w *work) wantedRoots(ctx context.Context) ([]*x509.Certificate, outcome, bool) {
	text := w.params.Certificates
	if text == "" {
		var err error
		if text, err = w.c.authority.ServerRoots(ctx); err != nil {
			return nil, w.authorityFault("roots of servers' certificates", err), false
		}
	}
	roots, err := parseRoots(text)
	if err != nil {
		return nil, failed("roots of servers' certificates: %v", err), false
	}
	return roots, outcome{}, true
}

// missingRoots splits the wanted roots into those that the station lists and others.
func missingRoots(wanted []*x509.Certificate, listed []certificateHash) (have, missing []*x509.Certificate) {
	for _, root := range wanted {
		found := false
		for _, h := range listed {
			own, ok := hashOf(root, root, h.Algorithm)
			found = found || ok && own.equal(h)
		}
		if found {
			have = append(have, root)
		} else {
			missing = append(missing, root)
		}
	}
	return have, missing
}

func names(certs []*x509.Certificate) string {
	var list []string
	for _, c := range certs {
		list = append(list, c.Subject.CommonName+" "+c.SerialNumber.Text(16))
	}
	return strings.Join(list, ", ")
}

// readRoots asks the station what it trusts.
func readRoots(next string) stepFunc {
	return func(ctx context.Context, w *work) outcome {
		wanted, stop, ok := w.wantedRoots(ctx)
		if !ok {
			return stop
		}
		var answer installedAnswer
		k, stop, _, ok := w.ask(ctx, "GetInstalledCertificateIds", askInstalled(w.station.Version), &answer)
		if !ok {
			return stop
		}
		have, missing := missingRoots(wanted, answer.hashes())
		if len(missing) == 0 {
			return goOn(stepProof, "the station has all of them already").by(k)
		}
		return goOn(next, "the station has %d roots, %d of %d that are wanted", len(answer.hashes()), len(have), len(wanted)).by(k)
	}
}

type installCertificate struct {
	Use         string `json:"certificateType"`
	Certificate string `json:"certificate"`
}

// installRoots sends the roots; a station that has one already accepts it again
// (M05). Stations need the root of one kind of key only, and may have no room for
// more: one is enough.
func installRoots(next string) stepFunc {
	return func(ctx context.Context, w *work) outcome {
		wanted, stop, ok := w.wantedRoots(ctx)
		if !ok {
			return stop
		}
		taken, told := 0, []string(nil)
		for _, root := range wanted {
			text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
			var answer statusOnly
			_, stop, _, ok := w.ask(ctx, "InstallCertificate", &installCertificate{rootUse(w.station.Version), text}, &answer)
			if !ok {
				return stop
			}
			if answer.Status == "Accepted" {
				taken++
			}
			told = append(told, root.Subject.CommonName+" "+answer.Status)
		}
		if taken == 0 {
			return failed("the station takes no root: %s", strings.Join(told, ", "))
		}
		return goOn(next, "%s", strings.Join(told, ", "))
	}
}

// proveRoots has the station list what it trusts; the operation ends if nothing
// is next.
func proveRoots(next string) stepFunc {
	return func(ctx context.Context, w *work) outcome {
		wanted, stop, ok := w.wantedRoots(ctx)
		if !ok {
			return stop
		}
		var answer installedAnswer
		k, stop, _, ok := w.ask(ctx, "GetInstalledCertificateIds", askInstalled(w.station.Version), &answer)
		if !ok {
			return stop
		}
		have, missing := missingRoots(wanted, answer.hashes())
		if len(have) == 0 {
			return again("the station does not list the roots that it accepted: %s", names(missing)).by(k)
		}
		detail := "the station trusts " + names(have)
		if len(missing) > 0 {
			detail += "; not " + names(missing)
		}
		if next == "" {
			return done("%s", detail).by(k)
		}
		return goOn(next, "%s", detail).by(k)
	}
}
