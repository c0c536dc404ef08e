//go:build linux && !ws_goroutine

package ws

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"runtime"
	"testing"
)

// The layout of this toolchain's tls.Conn is the known one. When this fails
// after an upgrade of Go, connections cost more memory, and nothing else: see
// whether the new crypto/tls still keeps buffers before changing tlsFields.
func TestTLSLayout(t *testing.T) {
	f := tlsLayout()
	if f == nil {
		t.Fatalf("%s: fields of tls.Conn are not known", runtime.Version())
	}
	if len(f.leftovers) != 4 {
		t.Errorf("%s: %d of 4 leftovers of the handshake are known", runtime.Version(), len(f.leftovers))
	}
	c := tls.Server(nil, &tls.Config{})
	raw, input, hand := f.buffers(c)
	raw.WriteString("raw")
	hand.WriteString("ha")
	*input = *bytes.NewReader([]byte("i"))
	v := reflect.ValueOf(c).Elem()
	for name, want := range map[string]int{"rawInput": 3, "hand": 2} {
		if got := v.FieldByName(name).FieldByName("buf").Len(); got != want {
			t.Errorf("%s holds %d bytes, want %d", name, got, want)
		}
	}
	if got := v.FieldByName("input").FieldByName("s").Len(); got != 1 {
		t.Errorf("input holds %d bytes", got)
	}
}

// Other names or types are recognised: then nothing is touched.
func TestTLSLayoutUnknown(t *testing.T) {
	for _, other := range []any{
		struct {
			rawInput, hand *bytes.Buffer
			input          bytes.Reader
		}{},
		struct {
			rawInput bytes.Buffer
			input    bytes.Reader
		}{},
		struct{ raw, hand bytes.Buffer }{},
	} {
		if f := layoutOf(reflect.TypeOf(other)); f != nil {
			t.Errorf("%T is taken for a tls.Conn", other)
		}
	}
}
