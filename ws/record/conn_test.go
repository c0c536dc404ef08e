package record

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

const waitTime = 20 * time.Second

// certificates are an ECDSA and an RSA one for the server.
var certificates = sync.OnceValue(func() []tls.Certificate {
	make := func(key any, public any) tls.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"server"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
		if err != nil {
			panic(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return []tls.Certificate{make(ec, &ec.PublicKey), make(rs, &rs.PublicKey)}
})

func serverConfig() *tls.Config {
	return &tls.Config{Certificates: certificates(), ClientAuth: tls.RequireAnyClientCert, CipherSuites: []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}
}

func clientConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: certificates()[:1]}
}

// site accepts connections, reads a head that ends with an empty line, answers
// it and hands the connection over.
type site struct {
	net.Listener
	taken chan *taken
}

type taken struct {
	*Conn // nil: refused
	stock *tls.Conn
	state tls.ConnectionState
	rest  []byte
	net   net.Conn
}

func serve(t testing.TB, cfg *tls.Config) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{l, make(chan *taken, 4)}
	watched := Config(cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.taken <- take(c, watched)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

func take(c net.Conn, cfg *tls.Config) *taken {
	_ = c.SetDeadline(time.Now().Add(waitTime))
	h := &Handshake{Conn: c}
	k := &taken{stock: tls.Server(h, cfg), net: c}
	var head []byte
	for b := make([]byte, 64); !bytes.Contains(head, []byte("\n\n")); {
		n, err := k.stock.Read(b)
		if err != nil {
			c.Close()
			return k
		}
		h.Took(n)
		head = append(head, b[:n]...)
	}
	if _, err := k.stock.Write([]byte("welcome\n\n")); err != nil {
		c.Close()
		return k
	}
	k.state = k.stock.ConnectionState()
	var rest []byte
	k.Conn, rest = h.Take(k.state, c)
	_, read, _ := bytes.Cut(head, []byte("\n\n"))
	k.rest = append(read, rest...)
	return k
}

// open connects a client of crypto/tls and returns both ends.
func (s *site) open(t testing.TB, cfg *tls.Config, head string) (*tls.Conn, *taken) {
	t.Helper()
	c, err := tls.Dial("tcp", s.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(waitTime))
	if _, err := c.Write([]byte(head)); err != nil {
		t.Fatal(err)
	}
	welcome := make([]byte, 9)
	if _, err := io.ReadFull(c, welcome); err != nil {
		t.Fatal(err)
	}
	k := <-s.taken
	t.Cleanup(func() { k.net.Close() })
	return c, k
}

// Every suite, full and resumed, carries content of every size both ways after
// the change, with what the client sent early.
func TestSuites(t *testing.T) {
	for _, tt := range []struct {
		version, suite uint16
		taken          bool
	}{
		{tls.VersionTLS13, 0, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true},
		{tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, true},
		{tls.VersionTLS12, tls.TLS_RSA_WITH_AES_256_GCM_SHA384, true},
		{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, false},
	} {
		t.Run(tls.VersionName(tt.version)+" "+tls.CipherSuiteName(tt.suite), func(t *testing.T) {
			s := serve(t, serverConfig())
			cfg := clientConfig()
			cfg.MaxVersion, cfg.ClientSessionCache = tt.version, tls.NewLRUClientSessionCache(1)
			if tt.suite != 0 {
				cfg.CipherSuites = []uint16{tt.suite}
			}
			for _, resumed := range []bool{false, true} {
				c, k := s.open(t, cfg, "head\n\nearly")
				if k.state.DidResume != resumed {
					t.Fatalf("resumed %v", k.state.DidResume)
				}
				if (k.Conn != nil) != tt.taken {
					t.Fatalf("taken %v (resumed %v)", k.Conn != nil, resumed)
				}
				var server io.ReadWriter = k.stock
				if k.Conn != nil {
					server = k.Conn
					if string(k.rest) != "early" {
						t.Errorf("early content %q", k.rest)
					}
				}
				for _, size := range []int{1, 100, 16 << 10, 16<<10 + 1, 100_000} {
					content := make([]byte, size)
					rand.Read(content)
					both(t, c, server, content)
					both(t, server, c, content)
				}
				c.Close()
				if _, err := server.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("after close_notify: %v", err)
				}
			}
		})
	}
}

// both writes content at one end and reads it at the other.
func both(t testing.TB, from io.Writer, to io.Reader, content []byte) {
	t.Helper()
	written := make(chan error, 1)
	go func() { _, err := from.Write(content); written <- err }()
	got := make([]byte, len(content))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Fatalf("%d bytes of content changed", len(content))
	}
}

// A client that sends ahead: whole records and parts of one lie in the socket
// when the connection is handed over.
func TestSentAhead(t *testing.T) {
	s := serve(t, serverConfig())
	c, err := tls.Dial("tcp", s.Addr().String(), clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(waitTime))
	for _, part := range []string{"head\n\n" + strings.Repeat("e", 500), "one", "two"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	k := <-s.taken
	defer k.net.Close()
	if k.Conn == nil || string(k.rest) != strings.Repeat("e", 500) {
		t.Fatalf("taken %v, rest %q", k.Conn != nil, k.rest)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(k, got); err != nil || string(got) != "onetwo" {
		t.Errorf("%q, %v", got, err)
	}
}

// wait is an error like that of a socket that has nothing to read.
type wait struct{}

func (wait) Error() string   { return "nothing" }
func (wait) Timeout() bool   { return true }
func (wait) Temporary() bool { return true }

// wire is a stream in memory that does not block.
type wire struct{ in, out bytes.Buffer }

func (w *wire) Read(b []byte) (int, error) {
	if w.in.Len() == 0 {
		return 0, wait{}
	}
	return w.in.Read(b)
}

func (w *wire) Write(b []byte) (int, error) { return w.out.Write(b) }

// pair is a server's connection and the keys of its client.
type pair struct {
	t       testing.TB
	c       *Conn
	w       *wire
	out, in half // the client's
}

func newPair(t testing.TB, s *suite) *pair {
	p := &pair{t: t, w: &wire{}}
	p.c = &Conn{under: p.w, suite: s}
	if s.tls13 {
		for i, secret := range []byte{1, 2} {
			a, b := []*half{&p.out, &p.in}[i], []*half{&p.c.in, &p.c.out}[i]
			if err := errors.Join(a.set(s, bytes.Repeat([]byte{secret}, s.hash().Size())), b.set(s, bytes.Repeat([]byte{secret}, s.hash().Size()))); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	keyBlock(s, []byte("master"), []byte("client"), []byte("server"), &p.out, &p.in)
	keyBlock(s, []byte("master"), []byte("client"), []byte("server"), &p.c.in, &p.c.out)
	return p
}

// seal is a record of the client.
func (p *pair) seal(typ byte, plain []byte) []byte {
	a, err := p.c.suite.aead(p.out.key[:p.c.suite.keySize])
	if err != nil {
		p.t.Fatal(err)
	}
	return p.out.seal(p.c.suite, a, nil, typ, plain)
}

// received opens the server's next record.
func (p *pair) received() (typ byte, plain []byte) {
	p.t.Helper()
	n := lengthOf(p.w.out.Bytes())
	if n == 0 {
		p.t.Fatal("the server sent nothing")
	}
	a, err := p.c.suite.aead(p.in.key[:p.c.suite.keySize])
	if err != nil {
		p.t.Fatal(err)
	}
	typ, plain, err = p.in.open(p.c.suite, a, bytes.Clone(p.w.out.Next(n)))
	if err != nil {
		p.t.Fatal(err)
	}
	return typ, plain
}

// turn reads all there is, with a buffer that is lent for the time.
func (p *pair) turn(lent []byte) (content []byte, err error) {
	p.c.Lend(lent)
	for b := make([]byte, 64); err == nil; {
		var n int
		n, err = p.c.Read(b)
		content = append(content, b[:n]...)
	}
	if p.c.Return() {
		p.t.Error("a buffer is kept although everything was read")
	}
	if errors.Is(err, wait{}) {
		err = nil
	}
	return content, err
}

var suites = map[string]*suite{"TLS 1.3": &aes128, "TLS 1.3 AES-256": &aes256, "TLS 1.3 ChaCha20": &chacha,
	"TLS 1.2": &aes128TLS12, "TLS 1.2 AES-256": &aes256TLS12, "TLS 1.2 ChaCha20": &chachaTLS12}

// Records are cut at every byte, and the rest comes in another turn.
func TestSplitEverywhere(t *testing.T) {
	lent := make([]byte, 0, BufferSize)
	for name, s := range suites {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, s)
			for cut := 0; ; cut++ {
				two := append(p.seal(typeApplicationData, []byte("content")), p.seal(typeApplicationData, []byte("more"))...)
				if cut > len(two) {
					break
				}
				var got []byte
				for _, part := range [][]byte{two[:cut], two[cut:]} {
					p.w.in.Write(part)
					content, err := p.turn(lent)
					if err != nil {
						t.Fatalf("cut at %d: %v", cut, err)
					}
					got = append(got, content...)
					clear(lent[:cap(lent)])
				}
				if string(got) != "contentmore" || p.c.reading != nil {
					t.Fatalf("cut at %d: %q, kept %+v", cut, got, p.c.reading)
				}
			}
		})
	}
}

// Content that nobody has read yet keeps the buffer that was lent.
func TestContentWaits(t *testing.T) {
	p := newPair(t, &aes128)
	lent := make([]byte, 0, BufferSize)
	p.w.in.Write(p.seal(typeApplicationData, []byte("content")))
	p.c.Lend(lent)
	if n, err := p.c.Read(make([]byte, 3)); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if !p.c.Return() || p.c.Incomplete() {
		t.Error("the buffer went although content waits in it")
	}
	if p.c.Lend(make([]byte, 0, BufferSize)) {
		t.Error("another buffer was taken")
	}
	rest := make([]byte, 10)
	if n, err := p.c.Read(rest); string(rest[:n]) != "tent" || err != nil {
		t.Errorf("%q %v", rest[:n], err)
	}
	if p.c.Return() || p.c.reading != nil {
		t.Error("something is kept")
	}
}

// What a peer may send, and what ends the connection.
func TestRecords(t *testing.T) {
	update := []byte{typeKeyUpdate, 0, 0, 1, 0}
	asking := []byte{typeKeyUpdate, 0, 0, 1, 1}
	type step struct {
		typ   byte
		plain []byte
	}
	data := step{typeApplicationData, []byte("x")}
	raw := func(b ...byte) step { return step{0, b} }
	useless := func(s step, n int) (list []step) {
		for range n {
			list = append(list, s)
		}
		return append(list, data)
	}
	for _, tt := range []struct {
		name    string
		tls13   bool
		tls12   bool
		steps   []step
		content string
		alert   tls.AlertError // 0: none
		err     error
	}{
		{"content", true, true, []step{data, data}, "xx", 0, nil},
		{"empty content", true, true, useless(step{typeApplicationData, nil}, maxUseless), "x", 0, nil},
		{"too much of it", true, true, useless(step{typeApplicationData, nil}, maxUseless+1), "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"close_notify", true, true, []step{data, {typeAlert, []byte{levelWarning, 0}}, data}, "x", 0, io.EOF},
		{"fatal alert", true, true, []step{{typeAlert, []byte{levelFatal, 40}}}, "", 0, tls.AlertError(40)},
		{"short alert", true, true, []step{{typeAlert, []byte{levelFatal}}}, "", alertDecodeError, alertDecodeError},
		{"user_canceled", true, false, []step{{typeAlert, []byte{levelWarning, 90}}, data}, "x", 0, nil},
		{"warning", false, true, []step{{typeAlert, []byte{levelWarning, 100}}, data}, "x", 0, nil},
		{"warnings without end", false, true, useless(step{typeAlert, []byte{levelWarning, 100}}, maxUseless+1), "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"renegotiation", false, true, []step{{typeHandshake, []byte{1, 0, 0, 0}}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"change_cipher_spec", true, true, []step{{typeChangeCipherSpec, []byte{1}}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"unknown type", true, true, []step{{99, []byte{1}}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"key update", true, false, []step{data, {typeHandshake, update}, data, {typeHandshake, update}, data}, "xxx", 0, nil},
		{"key update in parts", true, false, []step{{typeHandshake, update[:1]}, {typeHandshake, update[1:4]}, {typeHandshake, update[4:]}, data}, "x", 0, nil},
		{"content between the parts", true, false, []step{{typeHandshake, update[:1]}, data}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"key update with more behind it", true, false, []step{{typeHandshake, append(bytes.Clone(update), 1)}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"key update of another length", true, false, []step{{typeHandshake, []byte{typeKeyUpdate, 0, 0, 2, 0}}}, "", alertDecodeError, alertDecodeError},
		{"key update that asks for something else", true, false, []step{{typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 2}}}, "", alertDecodeError, alertDecodeError},
		{"key updates without end", true, false, useless(step{typeHandshake, asking}, maxUseless+1), "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"certificate request", true, false, []step{{typeHandshake, []byte{13, 0, 0, 0}}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"empty handshake message", true, false, []step{{typeHandshake, nil}}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"in the clear", true, true, []step{raw(typeApplicationData, 3, 3, 0, 3, 1, 2, 3)}, "", alertBadRecordMAC, alertBadRecordMAC},
		{"forged", true, true, []step{raw(append([]byte{typeApplicationData, 3, 3, 0, 40}, make([]byte, 40)...)...)}, "", alertBadRecordMAC, alertBadRecordMAC},
		{"another version", true, true, []step{raw(typeApplicationData, 3, 1, 0, 3, 1, 2, 3)}, "", alertProtocolVersion, alertProtocolVersion},
		{"another type outside", true, false, []step{raw(typeAlert, 3, 3, 0, 2, 1, 0)}, "", alertUnexpectedMessage, alertUnexpectedMessage},
		{"too long", true, false, []step{raw(typeApplicationData, 3, 3, 0x41, 1)}, "", alertRecordOverflow, alertRecordOverflow},
		{"too long", false, true, []step{raw(typeApplicationData, 3, 3, 0x48, 1)}, "", alertRecordOverflow, alertRecordOverflow},
		{"too much content", true, true, []step{{typeApplicationData, make([]byte, maxPlaintext+1)}}, "", alertRecordOverflow, alertRecordOverflow},
	} {
		for name, s := range suites {
			if s.tls13 && !tt.tls13 || !s.tls13 && !tt.tls12 {
				continue
			}
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				p := newPair(t, s)
				for _, step := range tt.steps {
					switch {
					case step.typ == 0:
						p.w.in.Write(step.plain)
						continue
					}
					p.w.in.Write(p.seal(step.typ, step.plain))
					if step.typ == typeHandshake && bytes.HasSuffix(step.plain, update[4:]) && s.tls13 {
						_ = p.out.update(s)
					}
					if bytes.Equal(step.plain, asking) {
						_ = p.out.update(s)
					}
				}
				lent := make([]byte, 0, BufferSize)
				content, err := p.turn(lent)
				if string(content) != tt.content || (tt.err == nil) != (err == nil) || tt.err != nil && !errors.Is(err, tt.err) {
					t.Errorf("%q, %v, want %q, %v", content, err, tt.content, tt.err)
				}
				var got tls.AlertError
				for p.w.out.Len() > 0 {
					typ, plain := p.received()
					switch typ {
					case typeAlert:
						got = tls.AlertError(plain[1])
					case typeHandshake:
						if !bytes.Equal(plain, update) {
							t.Errorf("the server sent % x", plain)
						}
						_ = p.in.update(s)
					}
				}
				if got != tt.alert {
					t.Errorf("told the peer %v, want %v", got, tt.alert)
				}
				if tt.err == nil {
					return
				}
				if _, again := p.turn(lent); !errors.Is(again, tt.err) {
					t.Errorf("then %v", again)
				}
				if tt.alert != 0 {
					if _, err := p.c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
						t.Errorf("writing after an alert: %v", err)
					}
				}
			})
		}
	}
}

// A key update that asks for ours is answered with the old keys, and what is
// written afterwards has the new ones.
func TestKeyUpdateAsked(t *testing.T) {
	p := newPair(t, &aes256)
	for range 3 {
		p.w.in.Write(p.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 1}))
		_ = p.out.update(p.c.suite)
		p.w.in.Write(p.seal(typeApplicationData, []byte("new")))
		if content, err := p.turn(make([]byte, 0, BufferSize)); string(content) != "new" || err != nil {
			t.Fatalf("%q %v", content, err)
		}
		if typ, plain := p.received(); typ != typeHandshake || plain[4] != 0 {
			t.Fatalf("answer %d % x", typ, plain)
		}
		_ = p.in.update(p.c.suite)
		if _, err := p.c.Write([]byte("ours")); err != nil {
			t.Fatal(err)
		}
		if typ, plain := p.received(); typ != typeApplicationData || string(plain) != "ours" {
			t.Fatalf("%d %q", typ, plain)
		}
	}
}

// What an idle connection costs is a size class of the allocator, docs/memory.md.
func TestConnSize(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); got > 256 {
		t.Errorf("Conn has %d bytes, which the allocator rounds up to the next class above 256", got)
	}
}

// The end of the stream inside of a record is not its end in order.
func TestTruncated(t *testing.T) {
	p := newPair(t, &aes128)
	record := p.seal(typeApplicationData, []byte("x"))
	for _, tt := range []struct {
		in   []byte
		want error
	}{{nil, io.EOF}, {record[:3], io.ErrUnexpectedEOF}, {record[:len(record)-1], io.ErrUnexpectedEOF}} {
		c := &Conn{under: struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(tt.in), io.Discard}, suite: &aes128, in: p.c.in}
		if _, err := c.Read(make([]byte, 1)); err != tt.want {
			t.Errorf("after %d bytes: %v", len(tt.in), err)
		}
	}
}

// CloseWrite and Write from many goroutines: whole records in order.
func TestConcurrentWrites(t *testing.T) {
	p := newPair(t, &aes128)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				_, _ = p.c.Write([]byte("message"))
			}
		})
	}
	for range 50 { // the reading side answers key updates meanwhile
		p.w.in.Write(p.seal(typeApplicationData, []byte("x")))
		if _, err := p.turn(make([]byte, 0, BufferSize)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if err := errors.Join(p.c.CloseWrite(), p.c.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for p.w.out.Len() > 0 {
		switch typ, plain := p.received(); {
		case typ == typeApplicationData && string(plain) == "message":
			n++
		case typ != typeAlert || p.w.out.Len() > 0:
			t.Fatalf("%d %q", typ, plain)
		}
	}
	if n != 400 {
		t.Errorf("%d messages", n)
	}
}

// openssl's client in the suites that it and this package have. Its key updates
// are in the tests of package ws.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	cfg := serverConfig()
	cfg.ClientAuth = tls.NoClientCert // tickets come with the first flight then
	s := serve(t, cfg)
	for _, flags := range [][]string{
		{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}, {"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}, {"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"},
		{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"}, {"-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"},
		{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, {"-tls1_2", "-cipher", "AES256-GCM-SHA384"}, {"-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"},
	} {
		t.Run(flags[2], func(t *testing.T) {
			cmd := exec.Command(openssl, append([]string{"s_client", "-connect", s.Addr().String(), "-quiet"}, flags...)...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			fmt.Fprint(in, "head\n\n")
			k := <-s.taken
			defer k.net.Close()
			if k.Conn == nil {
				t.Fatalf("refused: %s", tls.CipherSuiteName(k.state.CipherSuite))
			}
			buf := make([]byte, 100)
			for i := range 4 {
				fmt.Fprintf(in, "line %d\n", i)
				want := fmt.Sprintf("line %d\n", i)
				if n, err := io.ReadFull(k, buf[:len(want)]); string(buf[:n]) != want || err != nil {
					t.Fatalf("%q %v", buf[:n], err)
				}
				if _, err := k.Write(buf[:len(want)]); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Whatever comes after the handshake, reading ends and nothing panics.
func FuzzRead(f *testing.F) {
	seed := newPair(f, &aes128)
	f.Add(seed.seal(typeApplicationData, []byte("x")), false)
	f.Add(append(seed.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, 1}), 1, 2, 3), false)
	f.Add([]byte{23, 3, 3, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, tls12 bool) {
		s := &aes128
		if tls12 {
			s = &aes128TLS12
		}
		p := newPair(t, s)
		p.w.in.Write(b)
		_, _ = p.turn(make([]byte, 0, BufferSize))
		_, _ = p.turn(make([]byte, 0, BufferSize))
	})
}

// Records whose content a peer chooses, in any order and cut anywhere: what is
// read is what was sent, up to the first record that is not allowed.
func FuzzContent(f *testing.F) {
	f.Add([]byte{23, 3, 'a', 'b', 'c', 22, 5, 24, 0, 0, 1, 1, 23, 1, 'd'}, uint16(7))
	f.Add([]byte{21, 2, 1, 0, 23, 1, 'x'}, uint16(1))
	f.Fuzz(func(t *testing.T, script []byte, cut uint16) {
		p := newPair(t, &aes128)
		var stream, sent []byte
		for len(script) >= 2 {
			typ, n := script[0], min(int(script[1]), len(script)-2)
			plain := script[2 : 2+n]
			script = script[2+n:]
			stream = append(stream, p.seal(typ, plain)...)
			switch {
			case typ == typeHandshake && n == keyUpdateSize && bytes.Equal(plain[:4], []byte{typeKeyUpdate, 0, 0, 1}) && plain[4] < 2:
				_ = p.out.update(p.c.suite)
			case typ == typeApplicationData:
				sent = append(sent, plain...)
			}
		}
		at := min(int(cut), len(stream))
		var got []byte
		for _, part := range [][]byte{stream[:at], stream[at:]} {
			p.w.in.Write(part)
			content, _ := p.turn(make([]byte, 0, BufferSize))
			got = append(got, content...)
		}
		if !bytes.HasPrefix(sent, got) {
			t.Errorf("read %q of %q", got, sent)
		}
	})
}

// BenchmarkMessage is a message of 70 bytes read and one written, by a connection
// that is idle before and after.
func BenchmarkMessage(b *testing.B) {
	message := bytes.Repeat([]byte("x"), 70)
	for name, s := range map[string]*suite{"AES-128": &aes128, "TLS 1.2 AES-128": &aes128TLS12, "ChaCha20": &chacha} {
		b.Run(name, func(b *testing.B) {
			p := newPair(b, s)
			lent, buf := make([]byte, 0, BufferSize), make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				p.w.out.Reset()
				p.w.in.Write(p.seal(typeApplicationData, message))
				b.StartTimer()
				p.c.Lend(lent)
				if _, err := p.c.Read(buf); err != nil {
					b.Fatal(err)
				}
				p.c.Return()
				if _, err := p.c.Write(message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
