package certificates_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/store"
)

// walk is what a reader of docs/certificates.md types on one machine: its sh
// blocks, in order.
type walk struct {
	chapters []string
	script   strings.Builder
}

var shBlock = regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```")

// walks reads the page. What has no language is output, or an example.
func walks(t *testing.T) []*walk {
	t.Helper()
	text, err := os.ReadFile("../../docs/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains("\n"+m[1], "\nholdfast ") {
			t.Errorf("commands that nobody runs, in a block without sh:\n%s", m[1])
		}
	}
	var list []*walk
	for chapter := range strings.SplitSeq(string(text), "\n## ") {
		blocks := shBlock.FindAllStringSubmatch(chapter, -1)
		if len(blocks) == 0 {
			continue
		}
		title, _, _ := strings.Cut(chapter, "\n")
		if len(list) == 0 || strings.Contains(chapter, "On a new machine, ") {
			list = append(list, &walk{})
		}
		w := list[0]
		if strings.Contains(chapter, "On a new machine, ") {
			w = list[len(list)-1]
		}
		w.chapters = append(w.chapters, title)
		fmt.Fprintf(&w.script, "echo %q\n", "=== "+title)
		for _, b := range blocks {
			w.script.WriteString(strings.ReplaceAll("\n"+b[2], "\n"+b[1], "\n") + "\n")
		}
	}
	return list
}

// ownPorts is held by the walk that has the machine's own default ports.
var ownPorts sync.Mutex

// follow runs a walk in a namespace of its own, where the default ports are free
// and hosts are this machine; where that is not allowed, on the machine itself, if
// its ports are free. after is run when the reader is through.
func (w *walk) follow(t *testing.T, dir, hosts, before, after string) string {
	t.Helper()
	enter := []string{"unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"}
	prologue := "ip link set lo up\nmount --bind hosts /etc/hosts\n"
	if out, err := exec.Command(enter[0], append(enter[1:], "ip", "link", "set", "lo", "up")...).CombinedOutput(); err != nil {
		if hosts != "" {
			t.Skipf("no namespace in which %s is this machine: %v: %s", hosts, err, out)
		}
		ownPorts.Lock()
		t.Cleanup(ownPorts.Unlock)
		for _, port := range []string{"8800", "8801", "8881", "8882", "8883"} {
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				t.Skipf("neither a namespace nor the default ports: %v", err)
			}
			l.Close()
		}
		enter, prologue = []string{"env"}, ""
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 localhost "+hosts+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "set -eu -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + prologue + before + "\nset -x\n" + w.script.String() + "\nset +x\necho '=== after'\n" + after +
		"\nkill $(jobs -p)\nwait\ntrap - EXIT\necho '=== end'\n"
	cmd := exec.Command(enter[0], append(enter[1:], "timeout", "400", "bash", "-c", script)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(e2e.Build(t, "holdfast/cmd/holdfast"))+":"+os.Getenv("PATH"))
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if text := string(out); err != nil || !strings.Contains(text, "=== end\n") {
		log, _ := os.ReadFile(filepath.Join(dir, "holdfast.log"))
		t.Fatalf("%v: %v after %s\n%s\nholdfast.log: %s", w.chapters, err, time.Since(start), text[max(0, len(text)-6000):], log[max(0, len(log)-4000):])
	}
	return string(out)
}

// read decodes a file that a walk left.
func read[T any](t *testing.T, dir, name string) (v T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// What campaign start --wait shows: "running: 1 of 6 stations done, 2 waiting, 3 queued".
var (
	progress = regexp.MustCompile(`(?m)^ *\w+: \d+ of (\d+) stations done.*?$`)
	numbers  = regexp.MustCompile(`\d+ (of|running|waiting|queued|failed|cancelled)\b`)
)

func atoi(text string) int {
	n, _ := strconv.Atoi(strings.TrimRight(text, " abcdefghijklmnopqrstuvwxyz"))
	return n
}

// maker makes what the maker of stations gives: its CA and its list.
const maker = `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout maker.key -out maker.pem -subj "/O=Maker/CN=Maker CA" -addext keyUsage=critical,keyCertSign,cRLSign
printf '[ca]\ndefault_ca=m\n[m]\ndatabase=maker.index\ncrlnumber=maker.number\ndefault_md=sha256\ndefault_crl_days=30\n' > maker.cnf
touch maker.index
echo 01 > maker.number
openssl ca -gencrl -config maker.cnf -cert maker.pem -keyfile maker.key -out maker.crl`

// TestDocument follows docs/certificates.md word for word: from nothing to a fleet
// on security profile 3, and through the replacement of its root.
func TestDocument(t *testing.T) {
	t.Parallel()
	w := walks(t)[0]
	for _, want := range []string{"From nothing to a fleet on security profile 3", "CA keys", "Many stations: campaigns", "Replacing a root", "Revocation"} {
		if !slices.Contains(w.chapters, want) {
			t.Errorf("no commands under %q; there are some under %q", want, w.chapters)
		}
	}
	dir := t.TempDir()
	out := w.follow(t, dir, "", maker, `holdfast station list --json > stations.json
holdfast cert ca list --json > cas.json
holdfast cert list --kind station --json > certificates.json
holdfast operation list --kind change-profile --json > operations.json`)

	shown := progress.FindAllStringSubmatch(out, -1)
	for _, line := range shown {
		sum := 0
		for _, n := range numbers.FindAllString(line[0], -1) {
			sum += atoi(n)
		}
		if sum != atoi(line[1]) {
			t.Errorf("progress that does not add up: %s", line[0])
		}
	}
	if len(shown) < 20 {
		t.Errorf("progress was shown %d times", len(shown))
	}
	connected := 0
	for _, s := range read[[]struct {
		ID      string
		Profile int
		State   *store.StationState
	}](t, dir, "stations.json") {
		if s.ID == "CS-REV" { // its certificate was revoked
			continue
		}
		if s.Profile != 3 || s.State == nil || !s.State.Connected || s.State.Profile != 3 {
			t.Errorf("station %+v, %+v", s, s.State)
		}
		connected++
	}
	if connected != 7 {
		t.Errorf("%d stations are connected, want 7", connected)
	}
	var old, next store.CA
	for _, ca := range read[[]store.CA](t, dir, "cas.json") {
		switch {
		case ca.Kind == "root-ecdsa" && ca.State == store.CARetired:
			old = ca
		case ca.Kind == "station-ecdsa" && ca.State == store.CAIssuing:
			next = ca
		}
	}
	if old.Fingerprint == "" || next.Fingerprint == "" {
		t.Errorf("CAs: retired root %+v, issuing station CA %+v", old, next)
	}
	active := make(map[string]string)
	for _, c := range read[[]store.Certificate](t, dir, "certificates.json") {
		if c.Status == store.StatusActive {
			active[string(c.Station)] = c.Issuer
		}
	}
	if len(active) != 7 {
		t.Errorf("active certificates: %v", active)
	}
	for station, issuer := range active {
		if issuer != next.Subject {
			t.Errorf("the certificate of %s is of %q, want %q", station, issuer, next.Subject)
		}
	}
	if n := len(read[[]struct{ Status string }](t, dir, "operations.json")); n != 12 {
		t.Errorf("%d changes of the profile, want 12", n)
	}
}

// TestDocumentOtherCA follows the page on a new machine: with a root kept
// elsewhere, and with stations' certificates from another CA.
func TestDocumentOtherCA(t *testing.T) {
	t.Parallel()
	list := walks(t)
	if len(list) != 3 {
		t.Fatalf("the page has %d machines, want 3", len(list))
	}
	t.Run("root", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		list[1].follow(t, dir, "", "", "holdfast cert ca list --json > cas.json; holdfast station add CS-1 --profile 3 --out CS-1; openssl verify -CAfile root.crt -untrusted CS-1/CS-1.crt CS-1/CS-1.crt")
		issuing := make(map[string]string)
		for _, ca := range read[[]store.CA](t, dir, "cas.json") {
			if ca.State == store.CAIssuing {
				issuing[ca.Kind] = ca.Subject
			}
			if strings.HasPrefix(ca.Kind, "root-") && !strings.Contains(ca.Subject, "Our Root") {
				t.Errorf("a root of its own: %+v", ca)
			}
		}
		if len(issuing) != 5 { // the root, four CAs
			t.Errorf("CAs that issue: %v", issuing)
		}
	})
	t.Run("EST", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if out, err := exec.Command("go", "build", "-C", "../estserver", "-o", filepath.Join(dir, "estserver"), ".").CombinedOutput(); err != nil {
			t.Fatalf("build the EST server: %v\n%s", err, out)
		}
		out := list[2].follow(t, dir, "ca.example.com", `./estserver -listen 127.0.0.1:443 -user holdfast -password sesame > est.log 2>&1 &
until grep -q ready est.log; do sleep 0.1; done
cp root.crt est-server-ca.pem
echo sesame > est-password`, "openssl verify -CAfile root.crt -untrusted CS-30/CS-30.crt CS-30/CS-30.crt")
		if !strings.Contains(out, "CN = Elsewhere Issuing CA") {
			t.Errorf("the certificate is of another CA:\n%s", out)
		}
	})
}
