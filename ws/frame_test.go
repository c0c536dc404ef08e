package ws

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestParseHeader(t *testing.T) {
	key := []byte{1, 2, 3, 4}
	with := func(b ...byte) []byte { return append(b, key...) }
	for _, tt := range []struct {
		name    string
		b       []byte
		deflate bool
		n       int
		length  uint64
		err     string
	}{
		{"empty", nil, false, 0, 0, ""},
		{"first byte only", []byte{0x81}, false, 0, 0, ""},
		{"text", with(0x81, 0x85), false, 6, 5, ""},
		{"key incomplete", []byte{0x81, 0x85, 1, 2, 3}, false, 0, 0, ""},
		{"16 bit", with(0x82, 0xFE, 0x01, 0x00), false, 8, 256, ""},
		{"16 bit incomplete", []byte{0x82, 0xFE, 0x01}, false, 0, 0, ""},
		{"64 bit", with(0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0), false, 14, 65536, ""},
		{"length longer than needed", with(0x81, 0xFE, 0, 5), false, 8, 5, ""},
		{"64 bit with top bit", with(0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0), false, 0, 0, "top bit"},
		{"unmasked", []byte{0x81, 0x05}, false, 0, 0, "not masked"},
		{"RSV1 without extension", []byte{0xC1}, false, 0, 0, "reserved bit"},
		{"RSV1 with extension", with(0xC1, 0x80), true, 6, 0, ""},
		{"RSV1 on continuation", []byte{0xC0}, true, 0, 0, "reserved bit"},
		{"RSV1 on ping", []byte{0xC9}, true, 0, 0, "reserved bit"},
		{"RSV2", []byte{0xA1}, true, 0, 0, "reserved bit"},
		{"RSV3", []byte{0x91}, true, 0, 0, "reserved bit"},
		{"opcode 3", []byte{0x83}, false, 0, 0, "opcode"},
		{"opcode 7", []byte{0x87}, false, 0, 0, "opcode"},
		{"opcode 11", []byte{0x8B}, false, 0, 0, "opcode"},
		{"opcode 15", []byte{0x8F}, false, 0, 0, "opcode"},
		{"fragmented ping", []byte{0x09}, false, 0, 0, "fragmented"},
		{"ping of 126", []byte{0x89, 0xFE}, false, 0, 0, "too long"},
		{"ping of 125", with(0x89, 0xFD), false, 6, 125, ""},
	} {
		h, n, err := parseHeader(tt.b, tt.deflate)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || n != tt.n || n > 0 && h.length != tt.length {
			t.Errorf("%s: n %d, length %d, error %v; want %d, %d", tt.name, n, h.length, err, tt.n, tt.length)
		}
	}
}

func TestUnmask(t *testing.T) {
	key := [4]byte{0xA1, 0x00, 0xFF, 0x37}
	for n := range 40 {
		got := bytes.Repeat([]byte{0x5A}, n)
		unmask(got, key)
		for i, b := range got {
			if b != 0x5A^key[i%4] {
				t.Fatalf("%d bytes: byte %d is %#x", n, i, b)
			}
		}
	}
}

func TestCloseCodes(t *testing.T) {
	for code := range 5100 {
		p := binary.BigEndian.AppendUint16(nil, uint16(code))
		_, err := parseClose(p)
		valid := code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) || code >= 3000 && code <= 4999
		if (err == nil) != valid {
			t.Errorf("code %d: error %v", code, err)
		}
	}
	if code, err := parseClose(nil); code != CloseNoStatus || err != nil {
		t.Errorf("empty: %d, %v", code, err)
	}
	if _, err := parseClose([]byte{3}); err == nil {
		t.Error("one byte is accepted")
	}
	if got := closePayload(1000, strings.Repeat("ü", 100)); len(got) != 2+122 {
		t.Errorf("long text: %d bytes", len(got))
	}
}
