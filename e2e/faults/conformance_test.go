package faults

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestUpgradeStatus: what the server answers to an upgrade request.
func TestUpgradeStatus(t *testing.T) {
	n := all(t)
	plain, tls, mutual := add(t, n, "PLAIN", 1, nil), add(t, n, "TLS", 2, nil), add(t, n, "MUTUAL", 3, nil)
	blocked := add(t, n, "BLOCKED", 1, nil)
	if status := n.Do("POST", "/api/v1/stations/BLOCKED/block", map[string]string{"reason": "stolen"}, nil); status != http.StatusOK {
		t.Fatalf("block: HTTP %d", status)
	}
	odd := add(t, n, "RDAM 123|é", 1, nil)
	pinned := add(t, n, "PINNED", 1, map[string]any{"version": "2.0.1"})
	with := func(s station, change func(*station)) station { change(&s); return s }

	for _, tt := range []struct {
		name string
		a    attempt
		want int
	}{
		{"registered", attempt{station: plain}, 101},
		{"over TLS", attempt{station: tls}, 101},
		{"over mutual TLS", attempt{station: mutual}, 101},
		{"unknown identity", attempt{station: with(plain, func(s *station) { s.id = "NOBODY" })}, 404},
		{"no identity", attempt{station: plain, path: "/"}, 404},
		{"bad escape", attempt{station: plain, path: "/ocpp/%zz"}, 404},
		{"no credentials", attempt{station: with(plain, func(s *station) { s.password = "" })}, 401},
		{"wrong password", attempt{station: with(plain, func(s *station) { s.password = "wrong wrong wrong" })}, 401},
		{"user name of another", attempt{station: plain, header: map[string]string{"Authorization": "Basic VExTOnNlY3JldA=="}}, 401},
		{"credentials that are no Basic", attempt{station: plain, header: map[string]string{"Authorization": "Bearer x"}}, 401},
		{"blocked", attempt{station: blocked}, 403},
		{"another security profile", attempt{station: with(tls, func(s *station) { s.url, s.roots = n.Plain, nil })}, 403},
		{"no upgrade", attempt{station: plain, header: map[string]string{"Upgrade": "", "Connection": ""}}, 426},
		{"WebSocket version", attempt{station: plain, header: map[string]string{"Sec-WebSocket-Version": "8"}}, 426},
		{"key", attempt{station: plain, header: map[string]string{"Sec-WebSocket-Key": "short"}}, 400},
		{"method", attempt{station: plain, request: "POST /ocpp/PLAIN HTTP/1.1"}, 405},
		{"HTTP version", attempt{station: plain, request: "GET /ocpp/PLAIN HTTP/1.0"}, 505},
		{"request line", attempt{station: plain, request: "GET"}, 400},
		{"large head", attempt{station: plain, header: map[string]string{"X-Large": strings.Repeat("x", 9<<10)}}, 431},

		// What real stations do.
		{"escaped identity", attempt{station: odd}, 101},
		{"raw blank in the path", attempt{station: odd, path: "/ocpp/RDAM 123%7C%C3%A9"}, 101},
		{"another case", attempt{station: with(plain, func(s *station) { s.id = "plain" })}, 101},
		{"doubled slashes", attempt{station: plain, path: "//ocpp///PLAIN"}, 101},
		{"trailing slash", attempt{station: plain, path: "/ocpp/PLAIN/"}, 101},
		{"another path", attempt{station: plain, path: "/some/where/else/PLAIN?x=1"}, 101},
		{"absolute target", attempt{station: plain, path: "ws://somewhere.example/ocpp/PLAIN"}, 101},
		{"no Connection", attempt{station: plain, header: map[string]string{"Connection": ""}}, 101},
		{"no Host", attempt{station: plain, header: map[string]string{"Host": ""}}, 101},
		{"spelling of Upgrade", attempt{station: plain, header: map[string]string{"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"}}, 101},
		{"pinned version", attempt{station: pinned, protocols: "ocpp1.6, ocpp2.0.1"}, 101},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, r := tt.a.status(t)
			if status != tt.want {
				t.Errorf("%d %v, want %d", status, r, tt.want)
			}
			if status == http.StatusUnauthorized && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("401 with WWW-Authenticate %q", r.header.Get("WWW-Authenticate"))
			}
			if status == http.StatusUpgradeRequired && r.header.Get("Sec-WebSocket-Version") != "13" {
				t.Errorf("426 with Sec-WebSocket-Version %q", r.header.Get("Sec-WebSocket-Version"))
			}
		})
	}

	strict := all(t, "--refuse-subprotocol", "--hide-unknown") // for certification (TC_B_58_CSMS), and against enumeration
	s := add(t, strict, "S", 1, nil)
	if status, _ := (attempt{station: s, protocols: "ocpp0.1"}).status(t); status != http.StatusBadRequest {
		t.Errorf("--refuse-subprotocol: HTTP %d, want 400", status)
	}
	p := attempt{station: s, protocols: "ocpp0.1,ocpp2.0.1"}.must(t)
	if got := p.answer.Get("Sec-WebSocket-Protocol"); got != "ocpp2.0.1" {
		t.Errorf("the second offer is answered with %q", got)
	}
	s.id = "NOBODY"
	if status, _ := (attempt{station: s}).status(t); status != http.StatusUnauthorized {
		t.Errorf("--hide-unknown: HTTP %d, want 401", status)
	}
}

// TestSubprotocol: the station's order of preference counts, and its spelling
// comes back.
func TestSubprotocol(t *testing.T) {
	n := all(t)
	s := add(t, n, "S", 1, nil)
	for offer, want := range map[string]string{
		"ocpp1.6":                            "ocpp1.6",
		"ocpp2.1,ocpp2.0.1,ocpp1.6":          "ocpp2.1",
		"ocpp1.6, ocpp2.0.1":                 "ocpp1.6",
		"ocpp0.1, mqtt, ocpp2.0.1, ocpp2.1":  "ocpp2.0.1",
		"OCPP1.6":                            "OCPP1.6",
		"ocpp2.0, ocpp1.5, ocpp1.2, ocpp2.1": "ocpp2.1",
	} {
		p := attempt{station: s, protocols: offer}.must(t)
		if got := p.answer.Values("Sec-WebSocket-Protocol"); len(got) != 1 || got[0] != want {
			t.Errorf("offer %q is answered with %q, want %q", offer, got, want)
		}
		p.leave()
	}
	quirk := add(t, n, "Q", 1, map[string]any{"quirks": map[string]any{"assume_v16": true}})
	p := attempt{station: quirk, protocols: "-"}.must(t)
	if got := p.answer.Get("Sec-WebSocket-Protocol"); got != "" {
		t.Errorf("no offer is answered with %q", got)
	}
	p.boot(t)
}

const (
	boot201   = `{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V"}}`
	status201 = `{"timestamp":"2026-01-01T00:00:00Z","connectorStatus":"Available","evseId":1,"connectorId":1}`
)

// TestDeflate: permessage-deflate is agreed on with stations of OCPP 2.x that
// offer it, without context takeover (RFC 7692), and works in both directions.
func TestDeflate(t *testing.T) {
	n := all(t)
	s := add(t, n, "S", 2, nil)
	offer := func(protocols, extensions string) attempt {
		return attempt{station: s, protocols: protocols, header: map[string]string{"Sec-WebSocket-Extensions": extensions}}
	}
	for _, tt := range []struct {
		protocols, offer string
		agreed           bool
	}{
		{"ocpp2.0.1", "permessage-deflate", true},
		{"ocpp2.1", "permessage-deflate; client_max_window_bits", true},
		{"ocpp2.0.1", "permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{"ocpp2.0.1", "permessage-deflate; unknown=1, permessage-deflate", true},
		{"ocpp2.0.1", "permessage-deflate; unknown=1", false},
		{"ocpp2.0.1", "", false},
		{"ocpp1.6", "permessage-deflate", false},
	} {
		p := offer(tt.protocols, tt.offer).must(t)
		got := p.answer.Get("Sec-WebSocket-Extensions")
		if agreed := strings.HasPrefix(got, "permessage-deflate"); agreed != tt.agreed || agreed && !strings.Contains(got, "server_no_context_takeover") {
			t.Errorf("%s offering %q is answered with %q", tt.protocols, tt.offer, got)
		}
		p.leave()
	}

	p := offer("ocpp2.0.1", "permessage-deflate").must(t)
	for i, call := range []string{`[2,"a","BootNotification",` + boot201 + `]`, `[2,"b","Heartbeat",{}]`, `[2,"c","Unknown` + strings.Repeat("n", 200) + `",{}]`} {
		if err := p.write(fin|rsv1|opText, deflate(t, call)); err != nil {
			t.Fatal(err)
		}
		first, payload, err := p.readFrame()
		if err != nil {
			t.Fatal(err)
		}
		if first&rsv1 != 0 {
			payload = inflate(t, payload)
		}
		if want := []string{`[3,"a",`, `[3,"b",`, `[4,"c","NotImplemented",`}[i]; !strings.HasPrefix(string(payload), want) {
			t.Errorf("%.60s is answered %s", call, payload)
		}
	}
	p.write(fin|rsv1|opText, []byte("no deflate data"))
	if c := p.end(t); c.code != 1007 && c.code != 1002 {
		t.Errorf("data that cannot be inflated: %v, want close 1007 or 1002", c)
	}
	p = offer("ocpp1.6", "permessage-deflate").must(t)
	p.write(fin|rsv1|opText, deflate(t, `[2,"a","Heartbeat",{}]`))
	if c := p.end(t); c.code != 1002 {
		t.Errorf("compression that was not agreed on: %v, want close 1002", c)
	}
}

func deflate(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text) // into a buffer
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

func inflate(t testing.TB, b []byte) []byte {
	t.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestFrames: fragments, pings in between, large messages, and what ends a
// connection (RFC 6455).
func TestFrames(t *testing.T) {
	n := all(t)
	s := add(t, n, "S", 1, nil)
	connect := func() *peer { return attempt{station: s}.must(t) }

	t.Run("fragments", func(t *testing.T) {
		p := connect()
		text := []byte(`[2,"f","BootNotification",` + boot16 + `]`)
		for i, c := range text { // one byte each, a ping in the middle
			first := byte(opContinuation)
			if i == 0 {
				first = opText
			}
			if i == len(text)-1 {
				first |= fin
			}
			if i == len(text)/2 {
				p.write(fin|opPing, []byte("between"))
			}
			if err := p.write(first, []byte{c}); err != nil {
				t.Fatal(err)
			}
		}
		if r := parse(p.next(t)); r.kind != 3 || r.id != "f" {
			t.Errorf("answered %s", r.text)
		}
		if p.pongs != 1 {
			t.Errorf("%d pongs for a ping between fragments", p.pongs)
		}
		p.leave()
	})
	message := func(size int) string {
		head := `[2,"big","DataTransfer",{"vendorId":"v","data":"`
		return head + strings.Repeat("x", size-len(head)-3) + `"}]`
	}
	t.Run("1 MiB", func(t *testing.T) {
		p := connect()
		p.send(t, message(1<<20))
		if r := parse(p.next(t)); r.kind != 3 || r.id != "big" {
			t.Errorf("answered %.200s", r.text)
		}
		p.leave()
	})
	t.Run("1 MiB and a byte", func(t *testing.T) {
		p := connect()
		p.write(fin|opText, []byte(message(1<<20+1))) // may be cut while it is written
		if c := p.end(t); c.code != 1009 {
			t.Errorf("%v, want close 1009", c)
		}
	})
	t.Run("1 MiB and a byte in fragments", func(t *testing.T) {
		p := connect()
		p.write(opText, make([]byte, 1<<20))
		p.write(fin|opContinuation, []byte("x"))
		if c := p.end(t); c.code != 1009 {
			t.Errorf("%v, want close 1009", c)
		}
	})
	for name, tt := range map[string]struct {
		frame []byte
		code  int
	}{
		"reserved bit":                    {frame(fin|0x20|opText, []byte("{}")), 1002},
		"reserved opcode":                 {frame(fin|3, nil), 1002},
		"continuation of nothing":         {frame(fin|opContinuation, []byte("x")), 1002},
		"fragmented ping":                 {frame(opPing, []byte("x")), 1002},
		"long ping":                       {frame(fin|opPing, make([]byte, 126)), 1002},
		"text that is not UTF-8":          {frame(fin|opText, []byte("[2,\"\xff\"]")), 1007},
		"close code that nobody may send": {frame(fin|opClose, []byte{0x03, 0xED}), 1002},
		"unmasked":                        {[]byte{fin | opText, 2, '{', '}'}, 1002},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect()
			if _, err := p.nc.Write(tt.frame); err != nil {
				t.Fatal(err)
			}
			if c := p.end(t); c.code != tt.code {
				t.Errorf("%v, want close %d", c, tt.code)
			}
		})
	}
}

// TestEnvelope: message ids that look like numbers, blanks between elements,
// CALLs before the boot is answered, and bad messages by version.
func TestEnvelope(t *testing.T) {
	n := all(t)
	boots := map[string]string{"ocpp1.6": boot16, "ocpp2.0.1": boot201, "ocpp2.1": boot201}
	for protocol, boot := range boots {
		t.Run(protocol, func(t *testing.T) {
			p := attempt{station: add(t, n, protocol, 1, nil), protocols: protocol}.must(t)
			// Two at once, without an answer to the first.
			p.send(t, `[2,"1","BootNotification",`+boot+`]`)
			p.send(t, `[2,"2","Heartbeat",{}]`)
			for _, want := range []string{"1", "2"} {
				if r := parse(p.next(t)); r.kind != 3 || r.id != want {
					t.Errorf("CALL %s is answered %s", want, r.text)
				}
			}
			for _, tt := range []struct{ call, id string }{
				{`[2,"19223201","Heartbeat",{}]`, "19223201"},
				{`[2,"007","Heartbeat",{}]`, "007"},
				{`[2,"1e3","Heartbeat",{}]`, "1e3"},
				{"  [ 2 ,\t\"blanks\" ,\n \"Heartbeat\" , { } ]\r\n", "blanks"},
				{`[2,"` + strings.Repeat("i", 36) + `","Heartbeat",{}]`, strings.Repeat("i", 36)},
				{`[2,"\u00e9\"","Heartbeat",null]`, `é"`},
				{"[2,\"nul\",\"Heartbeat\",{}]\x00", "nul"},
			} {
				p.send(t, tt.call)
				if r := parse(p.next(t)); r.kind != 3 || r.id != tt.id {
					t.Errorf("%q is answered %s", tt.call, r.text)
				}
			}
			p.send(t, "ping") // of stations that know no ping frame
			if r := p.call(t, "Heartbeat", "{}"); r.kind != 3 {
				t.Errorf("after a ping as text: %s", r.text)
			}
			p.leave()
		})
	}
}

// TestErrorCodes: the CALLERROR of a bad message, in each version's spelling.
// The connection stays. An empty code stands for no answer.
func TestErrorCodes(t *testing.T) {
	n := all(t)
	for _, tt := range []struct {
		name                 string
		v16, v2              string // the message; v2 empty: the same
		want16, want201, w21 string
	}{
		{"unknown action", `[2,"x","Nonsense",{}]`, "", "NotImplemented", "NotImplemented", "NotImplemented"},
		{"action in another case", `[2,"x","heartbeat",{}]`, "", "NotImplemented", "NotImplemented", "NotImplemented"},
		{"action of the other side", `[2,"x","Reset",{"type":"Soft"}]`, `[2,"x","Reset",{"type":"Immediate"}]`, "NotSupported", "NotSupported", "NotSupported"},
		{"field missing", `[2,"x","StatusNotification",{"connectorId":1,"status":"Available"}]`, `[2,"x","StatusNotification",{"timestamp":"2026-01-01T00:00:00Z","evseId":1,"connectorId":1}]`,
			"OccurenceConstraintViolation", "OccurrenceConstraintViolation", "OccurrenceConstraintViolation"},
		{"wrong type", `[2,"x","StatusNotification",{"connectorId":"one","errorCode":"NoError","status":"Available"}]`,
			`[2,"x","StatusNotification",{"timestamp":"2026-01-01T00:00:00Z","connectorStatus":"Available","evseId":"one","connectorId":1}]`,
			"TypeConstraintViolation", "TypeConstraintViolation", "TypeConstraintViolation"},
		{"payload that is no object", `[2,"x","Heartbeat",[]]`, "", "FormationViolation", "FormatViolation", "FormatViolation"},
		{"broken JSON with an id", `[2,"x","Heartbeat",{]`, "", "FormationViolation", "FormatViolation", "FormatViolation"},
		{"elements missing", `[2,"x"]`, "", "ProtocolError", "ProtocolError", "ProtocolError"},
		{"unknown message type", `[9,"x",{}]`, "", "", "MessageTypeNotSupported", ""},
		{"id that is a number", `[2,12,"Heartbeat",{}]`, "", "", "RpcFrameworkError", "RpcFrameworkError"},
		{"no array", `{"hello":1}`, "", "", "RpcFrameworkError", "RpcFrameworkError"},
		{"answer of nothing", `[3,"x",{}]`, "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for protocol, want := range map[string]string{"ocpp1.6": tt.want16, "ocpp2.0.1": tt.want201, "ocpp2.1": tt.w21} {
				p := attempt{station: add(t, n, fmt.Sprintf("%s %s", tt.name, protocol), 1, nil), protocols: protocol}.must(t)
				message := tt.v16
				if protocol != "ocpp1.6" && tt.v2 != "" {
					message = tt.v2
				}
				p.send(t, message)
				p.send(t, `[2,"after","Heartbeat",{}]`)
				r := parse(p.next(t))
				if want != "" {
					if r.kind != 4 || r.what != want || r.id != "x" && r.id != "-1" {
						t.Errorf("%s: %s is answered %s, want %s", protocol, message, r.text, want)
					}
					r = parse(p.next(t))
				}
				if r.kind != 3 || r.id != "after" {
					t.Errorf("%s: after %s comes %s", protocol, message, r.text)
				}
				p.leave()
			}
		})
	}
	checked(t, n)
}
