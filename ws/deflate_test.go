package ws

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAgree(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		offer, answer string
		bits          uint8
	}{
		{"", "", 0},
		{"x-webkit-deflate-frame", "", 0},
		{"permessage-deflate", plain, 15},
		{"Permessage-Deflate", plain, 15},
		{"permessage-deflate; client_max_window_bits", plain, 15},
		{"permessage-deflate; client_max_window_bits=9", plain, 15},
		{"permessage-deflate;server_no_context_takeover;client_no_context_takeover", plain, 15},
		{"permessage-deflate; server_max_window_bits=10", plain + "; server_max_window_bits=10", 10},
		{`permessage-deflate; server_max_window_bits="8"`, plain + "; server_max_window_bits=8", 8},
		{"permessage-deflate; server_max_window_bits", "", 0},
		{"permessage-deflate; server_max_window_bits=7", "", 0},
		{"permessage-deflate; server_max_window_bits=16", "", 0},
		{"permessage-deflate; server_max_window_bits=010", "", 0},
		{"permessage-deflate; client_max_window_bits=", "", 0},
		{"permessage-deflate; server_no_context_takeover=1", "", 0},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", "", 0},
		{"permessage-deflate; unknown", "", 0},
		{"permessage-deflate; unknown, permessage-deflate", plain, 15},
		{`foo; a="x,permessage-deflate", permessage-deflate; server_max_window_bits=12, permessage-deflate`, plain + "; server_max_window_bits=12", 12},
	} {
		a, answer := agree([]string{tt.offer})
		if answer != tt.answer || a.bits != tt.bits || a.on != (tt.answer != "") {
			t.Errorf("%q: %+v %q, want %q", tt.offer, a, answer, tt.answer)
		}
	}
	if _, answer := agree([]string{"foo", "bar, permessage-deflate"}); answer != plain {
		t.Errorf("second field: %q", answer)
	}
}

func TestDeflateRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 70_000)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	for _, data := range [][]byte{
		nil, []byte("a"), []byte(strings.Repeat("[2,\"1\",\"MeterValues\",{}]", 40)),
		[]byte(strings.Repeat("0123456789", 20_000)), random, bytes.Repeat(random[:300], 300),
	} {
		for bits := uint8(8); bits <= 15; bits++ {
			packed, err := deflate([]byte("head"), data, bits)
			if err != nil {
				t.Fatal(err)
			}
			packed = packed[len("head"):]
			got, err := inflate(nil, packed, len(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes, window %d: %d bytes back, error %v", len(data), bits, len(got), err)
			}
			// The standard library reads it, too.
			r := flate.NewReader(io.MultiReader(bytes.NewReader(packed), bytes.NewReader(inflateTail)))
			if len(data) > 0 {
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes, window %d: compress/flate: %v", len(data), bits, err)
				}
			}
			if len(data) > 0 {
				if _, err := inflate(nil, packed, len(data)-1); !errors.Is(err, errInflatedTooBig) {
					t.Fatalf("%d bytes under a limit of one less: %v", len(data), err)
				}
			}
		}
	}
}

// The examples of RFC 7692 §7.2.3.
func TestInflateExamples(t *testing.T) {
	for _, tt := range []struct{ name, packed, want string }{
		{"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
		{"no compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
		{"final block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
		{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
		{"nothing", "\x00", ""},
	} {
		got, err := inflate(nil, []byte(tt.packed), 100)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	for _, bad := range []string{"\xff\xff\xff", "\x07", "\x00\x05\x00\x00\x00abc"} {
		if got, err := inflate(nil, []byte(bad), 100); err == nil {
			t.Errorf("%x: inflated to %q", bad, got)
		}
	}
}

// A bomb is refused before it is inflated.
func TestInflateBomb(t *testing.T) {
	packed, err := deflate(nil, make([]byte, 64<<20), 15)
	if err != nil {
		t.Fatal(err)
	}
	allocated := testing.AllocsPerRun(1, func() {
		if _, err := inflate(nil, packed, 1<<20); !errors.Is(err, errInflatedTooBig) {
			t.Errorf("%d bytes: %v", len(packed), err)
		}
	})
	if allocated > 200 {
		t.Errorf("%v allocations", allocated)
	}
}

func FuzzInflate(f *testing.F) {
	for _, s := range []string{"Hello", strings.Repeat("abc", 1000), ""} {
		packed, _ := deflate(nil, []byte(s), 15)
		f.Add(packed)
	}
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))
	f.Fuzz(func(t *testing.T, packed []byte) {
		const limit = 64 << 10
		got, err := inflate(nil, packed, limit)
		if err == nil && len(got) > limit {
			t.Fatalf("%d bytes", len(got))
		}
		again, err := deflate(nil, packed, 15)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := inflate(nil, again, len(packed)); err != nil || !bytes.Equal(back, packed) {
			t.Fatalf("round trip of %d bytes: %v", len(packed), err)
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	data := []byte(strings.Repeat(`{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{"value":1.5}]},`, 30))
	for _, bits := range []uint8{15, 9} {
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out, _ = deflate(out[:0], data, bits)
			}
			b.ReportMetric(float64(len(out))/float64(len(data)), "ratio")
		})
	}
}
