package station_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/fleet/identity"
	fleetreport "holdfast/fleet/report"
)

// seenByServer is what server.mjs says at the end.
type seenByServer struct {
	Identities int            `json:"identities"`
	Calls      map[string]int `json:"calls"`
	Started    int            `json:"started"`
	Ended      int            `json:"ended"`
	Bad        []string       `json:"bad"`
	Refused    int            `json:"refused"`
}

// TestForeignServer runs one scenario file against the npm package ocpp-rpc and
// against Holdfast. ocpp-rpc checks each message by its own schemas.
func TestForeignServer(t *testing.T) {
	needNPM(t)
	dir := t.TempDir()
	writeCA(t, dir)
	binary := e2e.Build(t, "holdfast/cmd/holdfast")
	file := func(name string) string { return filepath.Join(dir, name) }
	writeIdentities(t, file("ca.crt"), file("ca.key"), file("stations"))
	withCA := []string{"--profiles", "3", "--ca-cert", file("ca.crt"), "--ca-key", file("ca.key")}
	for _, tt := range []struct {
		name   string
		mutual bool
		runs   [][]string // processes at the same time, 12 stations each
	}{
		{"TLS", false, [][]string{{"--profiles", "2", "--password", "secret-{id}", "--ca", file("ca.crt")}}},
		{"mutual TLS", true, [][]string{withCA}},
		{"two processes", true, [][]string{append(withCA, "--stations", "24", "--shard", "1/2"), append(withCA, "--stations", "24", "--shard", "2/2")}},
		{"a folder", true, [][]string{{"--profiles", "3", "--identities", file("stations")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, end := startServer(t, dir, tt.mutual)
			results := make([]fleetreport.Result, len(tt.runs))
			var running sync.WaitGroup
			for i, args := range tt.runs {
				running.Go(func() {
					results[i] = runFleet(t, binary, append(args[:len(args):len(args)], "--target", "wss://"+address+"/ocpp")...)
				})
			}
			running.Wait()
			seen, transactions := end(), 0
			for _, res := range results {
				transactions += res.Transactions
				if res.Stations != 12 || res.Compared || res.Counts.Probes == 0 || res.Counts.Admitted > 0 {
					t.Errorf("%d stations, %+v, compared: %t", res.Stations, res.Counts, res.Compared)
				}
			}
			if len(seen.Bad) > 0 {
				t.Errorf("the server finds messages that break the schemas: %q", seen.Bad)
			}
			if seen.Calls["StartTransaction"] == 0 || seen.Calls["TransactionEvent"] == 0 {
				t.Errorf("not both versions charged: %v", seen.Calls)
			}
			if seen.Identities != 12*len(results) || seen.Started == 0 || seen.Started != seen.Ended || seen.Started != transactions {
				t.Errorf("the server saw %+v; the fleet has %d transactions", seen, transactions)
			}
			if !tt.mutual && seen.Refused == 0 {
				t.Error("the server was never given a wrong password")
			}
		})
	}
	t.Run("Holdfast", func(t *testing.T) {
		t.Parallel()
		node := e2e.All(t)
		res := runFleet(t, binary, "--profiles", "2,3", "--url", node.API, "--data", node.Data, "--targets", "2="+node.TLS+";3="+node.MTLS)
		if !res.Compared || res.Transactions == 0 || len(res.Problems) > 0 {
			t.Errorf("compared: %t, %d transactions, %v", res.Compared, res.Transactions, res.Problems)
		}
	})
}

// writeIdentities writes the credentials of 12 stations into a folder, and the CA
// that they trust.
func writeIdentities(t *testing.T, caCert, caKey, dir string) {
	t.Helper()
	ca, err := identity.LoadCA(caCert, caKey)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.Mint(t.Context(), identity.Plan{Stations: 12, ID: "FOLDER*%02d"}, identity.Leaf{})
	if err == nil {
		err = identity.Save(dir, list)
	}
	if err == nil {
		err = os.Link(caCert, filepath.Join(dir, "ca.crt"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// runFleet runs the scenario, which has to pass.
func runFleet(t *testing.T, binary string, args ...string) (res fleetreport.Result) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--json", "fleet", "run", "--scenario", filepath.Join("testdata", "anywhere.yaml")}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v", cmd.Args, err)
	}
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for _, v := range res.Verdicts {
		if v.Failed() {
			t.Errorf("%s: %s", v.Text, v.Figure())
		}
	}
	return res
}

// startServer starts server.mjs; end stops it and returns what it saw.
func startServer(t *testing.T, dir string, mutual bool) (address string, end func() seenByServer) {
	t.Helper()
	cmd := exec.Command("node", "server.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := map[string]any{"cert": read("server.crt"), "key": read("server.key"), "ca": read("ca.crt"), "mutual": mutual}
	if err := json.NewEncoder(in).Encode(first); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(io.LimitReader(out, 1<<20))
	decode := func(v any) {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, v)
		}
		if err != nil {
			t.Fatalf("the server says %q: %v", line, err)
		}
	}
	var listening struct{ Port int }
	decode(&listening)
	return fmt.Sprintf("127.0.0.1:%d", listening.Port), func() (seen seenByServer) {
		in.Close()
		decode(&seen)
		return seen
	}
}

// writeCA writes a CA that the stations and the server trust, and the server's
// certificate.
func writeCA(t *testing.T, dir string) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	write := func(name, kind string, der []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, serverKey := newKey(), newKey()
	begin, end := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Foreign CA"}, NotBefore: begin, NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	write("ca.crt", "CERTIFICATE", der, err)
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: begin, NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err = x509.CreateCertificate(rand.Reader, server, ca, &serverKey.PublicKey, caKey)
	write("server.crt", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(caKey)
	write("ca.key", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(serverKey)
	write("server.key", "PRIVATE KEY", der, err)
}
