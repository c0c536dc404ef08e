package ws

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
)

// exchange is one case of RFC 6455: what the client sends and what comes back.
type exchange struct {
	name   string
	send   [][]byte
	echo   []echoed
	code   uint16 // of the server's close frame; 0: none was due
	reason CloseReason
}

type echoed struct {
	first   byte
	payload []byte
}

func exchanges() []exchange {
	long := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	emoji := []byte("κόσμε \U0001F50C")
	t := func(s string) echoed { return echoed{bitFin | opText, []byte(s)} }
	pong := func(s string) echoed { return echoed{bitFin | opPong, []byte(s)} }
	bye := frame(bitFin|opClose, closePayload(1000, ""))
	violation := func(name string, frames ...[]byte) exchange {
		return exchange{name: name, send: frames, code: CloseProtocolError, reason: ReasonBadFrame}
	}
	list := []exchange{
		{"texts of each length form", [][]byte{text(""), text(string(long[:125])), text(string(long[:126])), text(string(long[:65535])), text(string(long[:65536])), bye},
			[]echoed{t(""), t(string(long[:125])), t(string(long[:126])), t(string(long[:65535])), t(string(long[:65536]))}, 1000, ReasonPeerClose},
		{"binary", [][]byte{frame(bitFin|opBinary, []byte{0xFF, 0, 1}), bye}, []echoed{{bitFin | opBinary, []byte{0xFF, 0, 1}}}, 1000, ReasonPeerClose},
		{"ping", [][]byte{frame(bitFin|opPing, nil), frame(bitFin|opPing, long[:125]), bye}, []echoed{pong(""), pong(string(long[:125]))}, 1000, ReasonPeerClose},
		{"unasked pong", [][]byte{frame(bitFin|opPong, []byte("x")), text("a"), bye}, []echoed{t("a")}, 1000, ReasonPeerClose},
		{"fragments", [][]byte{frame(opText, []byte("a")), frame(opContinuation, nil), frame(opContinuation, []byte("b")), frame(bitFin, []byte("c")), bye}, []echoed{t("abc")}, 1000, ReasonPeerClose},
		{"empty fragments", [][]byte{frame(opText, nil), frame(opContinuation, nil), frame(bitFin, nil), bye}, []echoed{t("")}, 1000, ReasonPeerClose},
		{"control frames between fragments", [][]byte{frame(opText, []byte("a")), frame(bitFin|opPing, []byte("1")), frame(opContinuation, []byte("b")), frame(bitFin|opPong, nil), frame(bitFin|opPing, []byte("2")), frame(bitFin, []byte("c")), text("d"), bye},
			[]echoed{pong("1"), pong("2"), t("abc"), t("d")}, 1000, ReasonPeerClose},
		{"character across fragments", [][]byte{frame(opText, emoji[:3]), frame(opContinuation, emoji[3:13]), frame(bitFin, emoji[13:]), bye}, []echoed{t(string(emoji))}, 1000, ReasonPeerClose},
		{"long fragments", [][]byte{frame(opBinary, long), frame(opContinuation, long), frame(bitFin, long), bye}, []echoed{{bitFin | opBinary, bytes.Repeat(long, 3)}}, 1000, ReasonPeerClose},
		{"close without code", [][]byte{frame(bitFin|opClose, nil)}, nil, 0, ReasonPeerClose},
		{"close with text", [][]byte{frame(bitFin|opClose, closePayload(3999, strings.Repeat("x", 123)))}, nil, 3999, ReasonPeerClose},
		{"nothing after close", [][]byte{bye, text("late")}, nil, 1000, ReasonPeerClose},

		violation("RSV1", frame(bitFin|bitRSV1|opText, []byte("a"))),
		violation("RSV2 on ping", frame(bitFin|0x20|opPing, nil)),
		violation("RSV3 on close", frame(bitFin|0x10|opClose, nil)),
		violation("opcode 3", frame(bitFin|3, nil)),
		violation("opcode 11", frame(bitFin|11, []byte("a"))),
		violation("unmasked", []byte{bitFin | opText, 1, 'a'}),
		violation("long ping", frame(bitFin|opPing, make([]byte, 126))),
		violation("fragmented ping", frame(opPing, nil), frame(bitFin, nil)),
		violation("fragmented close", frame(opClose, nil)),
		violation("continuation of nothing", frame(bitFin, []byte("a"))),
		violation("open continuation of nothing", frame(opContinuation, []byte("a"))),
		violation("text inside of text", frame(opText, []byte("a")), text("b")),
		violation("binary inside of text", frame(opText, []byte("a")), frame(opBinary, []byte("b"))),
		violation("close of one byte", frame(bitFin|opClose, []byte{3})),
		violation("64-bit length with top bit", []byte{bitFin | opText, bitMask | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}),
		{"invalid UTF-8 in close", [][]byte{frame(bitFin|opClose, []byte{0x03, 0xE8, 0xFF})}, nil, CloseInvalidData, ReasonBadUTF8},
		{"too big", [][]byte{frame(bitFin|opBinary, make([]byte, 1<<20+1))}, nil, CloseTooBig, ReasonTooBig},
		{"too big by its header", [][]byte{{bitFin | opText, bitMask | 127, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, nil, CloseTooBig, ReasonTooBig},
		{"too big in fragments", [][]byte{frame(opText, make([]byte, 1<<19)), frame(opContinuation, make([]byte, 1<<19)), frame(opContinuation, []byte("x"))}, nil, CloseTooBig, ReasonTooBig},
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		list = append(list, violation("close code", frame(bitFin|opClose, []byte{byte(code >> 8), byte(code)})))
	}
	for _, code := range []uint16{1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999} {
		list = append(list, exchange{"close code", [][]byte{frame(bitFin|opClose, closePayload(code, ""))}, nil, code, ReasonPeerClose})
	}
	for _, bad := range []string{"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFE", "κόσμε\xED\xA0\x80edited", "\xE2\x82"} {
		list = append(list,
			exchange{"invalid UTF-8", [][]byte{text("fine"), text(bad)}, []echoed{t("fine")}, CloseInvalidData, ReasonBadUTF8},
			exchange{"invalid UTF-8 in fragments", [][]byte{frame(opText, []byte(bad[:1])), frame(bitFin, []byte(bad[1:]))}, nil, CloseInvalidData, ReasonBadUTF8})
	}
	return list
}

func TestRFC6455(t *testing.T) {
	pki := newPKI(t)
	for _, transport := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
	}{
		{"plain", nil, nil},
		{"tls", pki.serverConfig(false), clientConfig(pki)},
	} {
		sessions := make(chan *recorder, 1)
		s := startServer(t, Config{}, Endpoint{TLS: transport.server, Upgrade: upgrading(func() *recorder { return <-sessions })})
		for _, x := range exchanges() {
			for _, how := range []string{"frame by frame", "all at once", "in bits"} {
				if how == "in bits" && len(bytes.Join(x.send, nil)) > 1000 {
					continue
				}
				t.Run(transport.name+"/"+x.name+"/"+how, func(t *testing.T) {
					r := echoSession()
					sessions <- r
					c := dial(t, s.addr, transport.client)
					switch how {
					case "frame by frame":
						for _, f := range x.send {
							_, _ = c.conn.Write(f) // the server may have closed
						}
					case "all at once":
						_, _ = c.conn.Write(bytes.Join(x.send, nil))
					case "in bits":
						for _, b := range bytes.Join(x.send, nil) {
							_, _ = c.conn.Write([]byte{b})
						}
					}
					for _, e := range x.echo {
						c.expect(e.first, e.payload)
					}
					c.expectClose(x.code)
					c.net.Close()
					if got := r.wait(t); got != x.reason {
						t.Errorf("closed with %s, want %s", got, x.reason)
					}
				})
			}
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		s.stop()
	}
}

func TestDeflate(t *testing.T) {
	message := strings.Repeat(`{"timestamp":"2026-01-01T00:00:00Z"},`, 100)
	compress := func(s string) []byte {
		b, err := deflate(nil, []byte(s), 15)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := echoSession()
	upgrade := func(context.Context, *Request) Response {
		r = echoSession()
		return Response{Status: http.StatusSwitchingProtocols, Session: r, Deflate: true, Ping: Ping{Off: true}}
	}
	s := startServer(t, Config{MaxMessage: 64 << 10}, Endpoint{Upgrade: upgrade})
	open := func(offer string) *client {
		c := dial(t, s.addr, nil, "Sec-WebSocket-Extensions: "+offer)
		if !strings.HasPrefix(c.resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
			t.Fatalf("answer %q", c.resp.Header)
		}
		return c
	}
	expectDeflated := func(c *client, want string) {
		t.Helper()
		first, p, err := c.read()
		if err != nil || first != bitFin|bitRSV1|opText {
			t.Fatalf("frame %#x, error %v", first, err)
		}
		if got, err := inflate(nil, p, 1<<20); err != nil || string(got) != want {
			t.Fatalf("%d bytes, error %v", len(got), err)
		}
	}

	for _, offer := range []string{"permessage-deflate", "permessage-deflate; server_max_window_bits=9; client_max_window_bits"} {
		c := open(offer)
		packed := compress(message)
		c.write(frame(bitFin|bitRSV1|opText, packed))
		expectDeflated(c, message)
		c.write(frame(bitRSV1|opText, packed[:10])) // RSV1 only on the first fragment
		c.write(frame(opContinuation, packed[10:20]))
		c.write(frame(bitFin|opPing, nil))
		c.write(frame(bitFin, packed[20:]))
		c.expect(bitFin|opPong, nil)
		expectDeflated(c, message)
		c.write(frame(bitFin|bitRSV1|opText, compress("small")))
		c.expectText("small") // too small to compress
		c.write(text(message))
		expectDeflated(c, message) // a peer may send uncompressed
		c.write(frame(bitFin|opClose, nil))
		c.expectClose(0)
	}
	for _, bad := range []struct {
		name  string
		frame []byte
		code  uint16
	}{
		{"garbage", frame(bitFin|bitRSV1|opText, []byte{0xFF, 0xFF}), CloseInvalidData},
		{"bomb", frame(bitFin|bitRSV1|opText, compress(strings.Repeat("a", 64<<10+1))), CloseTooBig},
		{"invalid UTF-8", frame(bitFin|bitRSV1|opText, compress("\xff")), CloseInvalidData},
		{"RSV1 on continuation", append(frame(opText, nil), frame(bitFin|bitRSV1, nil)...), CloseProtocolError},
		{"RSV1 on ping", frame(bitFin|bitRSV1|opPing, nil), CloseProtocolError},
	} {
		t.Run(bad.name, func(t *testing.T) {
			c := open("permessage-deflate")
			c.write(bad.frame)
			c.expectClose(bad.code)
		})
	}
	// Not offered, then not used.
	c := dial(t, s.addr, nil)
	c.write(text(message))
	c.expectText(message)
	if ext := c.resp.Header.Get("Sec-WebSocket-Extensions"); ext != "" {
		t.Errorf("unoffered extension %q", ext)
	}
}

// FuzzFrames feeds the frame reader whole and in pieces: both must deliver the
// same and end the same way.
func FuzzFrames(f *testing.F) {
	for _, x := range exchanges() {
		if all := bytes.Join(x.send, nil); len(all) < 4096 {
			f.Add(all, uint8(3), true)
		}
	}
	packed, _ := deflate(nil, bytes.Repeat([]byte("abc"), 500), 15)
	f.Add(frame(bitFin|bitRSV1|opText, packed), uint8(7), true)
	s, err := New(Config{MaxMessage: 32 << 10})
	if err != nil {
		f.Fatal(err)
	}
	feed := func(input []byte, piece int, deflate bool) (log string) {
		s.queue.head, s.queue.tail = nil, nil
		r := newRecorder()
		note := func(kind string) func(*Conn, []byte) {
			return func(_ *Conn, data []byte) { log += kind + string(data) + "\x00" }
		}
		r.onMessage, r.onBinary = note("t"), note("b")
		c := &Conn{s: s, ep: &endpoint{}, session: r, agreed: agreement{on: deflate, bits: 15}}
		c.sock.init(c, nil)
		c.phase.Store(phaseOpen)
		s.open.Add(1)
		s.accepted.Add(1)
		var b []byte
		for len(input) > 0 && !c.gone {
			n := min(piece, len(input))
			b, _ = c.parse(append(b, input[:n]...))
			input = input[n:]
		}
		if !c.gone {
			c.finish(true)
		}
		return log + string(r.reason)
	}
	f.Fuzz(func(t *testing.T, input []byte, piece uint8, deflate bool) {
		whole := feed(bytes.Clone(input), len(input)+1, deflate)
		if pieces := feed(bytes.Clone(input), int(piece)+1, deflate); pieces != whole {
			t.Fatalf("whole %q, in pieces of %d %q", whole, int(piece)+1, pieces)
		}
		if open, partial := s.open.Load(), s.partial.Load(); open != 0 || partial != 0 || s.wheel.count() != 0 {
			t.Fatalf("%d open, %d bytes, %d timers are left", open, partial, s.wheel.count())
		}
	})
}
