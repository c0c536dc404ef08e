//go:build linux && !ws_goroutine

package ws

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"sync"
	"unsafe"
)

// A tls.Conn keeps its read buffers at the size of the largest record it ever
// saw, and what the handshake left behind. This file gives both back while a
// connection is idle. It depends on private fields, so names and types are
// compared with what is expected first; a toolchain with other fields keeps
// the buffers, which costs memory and nothing else.

// tlsFields are offsets in a tls.Conn.
type tlsFields struct {
	rawInput, input, hand uintptr
	leftovers             []leftover
}

// leftover is a field that only the handshake needs.
type leftover struct{ offset, size uintptr }

// tlsLayout returns the offsets, or nil if this toolchain's tls.Conn is not
// the one that is known.
var tlsLayout = sync.OnceValue(func() *tlsFields { return layoutOf(reflect.TypeFor[tls.Conn]()) })

func layoutOf(t reflect.Type) *tlsFields {
	f := &tlsFields{}
	for _, want := range []struct {
		name string
		typ  reflect.Type
		at   *uintptr
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer](), &f.rawInput},
		{"input", reflect.TypeFor[bytes.Reader](), &f.input},
		{"hand", reflect.TypeFor[bytes.Buffer](), &f.hand},
	} {
		field, ok := t.FieldByName(want.name)
		if !ok || field.Type != want.typ || len(field.Index) != 1 {
			return nil
		}
		*want.at = field.Offset
	}
	// Key export, tickets and certificates are the handshake's; each is a
	// func or a slice, whose zero value is nil.
	for _, want := range []struct {
		name string
		typ  reflect.Type
	}{
		{"ekm", reflect.TypeFor[func(string, []byte, int) ([]byte, error)]()},
		{"resumptionSecret", reflect.TypeFor[[]byte]()},
		{"peerCertificates", reflect.TypeFor[[]*x509.Certificate]()},
		{"verifiedChains", reflect.TypeFor[[][]*x509.Certificate]()},
	} {
		if field, ok := t.FieldByName(want.name); ok && field.Type == want.typ && len(field.Index) == 1 {
			f.leftovers = append(f.leftovers, leftover{field.Offset, field.Type.Size()})
		}
	}
	return f
}

// releasesBuffers reports whether this build gives TLS buffers back.
func releasesBuffers() bool { return tlsLayout() != nil }

func (f *tlsFields) buffers(t *tls.Conn) (raw *bytes.Buffer, input *bytes.Reader, hand *bytes.Buffer) {
	p := unsafe.Pointer(t)
	return (*bytes.Buffer)(unsafe.Add(p, f.rawInput)), (*bytes.Reader)(unsafe.Add(p, f.input)), (*bytes.Buffer)(unsafe.Add(p, f.hand))
}

// forgetHandshake drops what only the handshake needed.
func forgetHandshake(t *tls.Conn) {
	f := tlsLayout()
	if f == nil {
		return
	}
	for _, l := range f.leftovers {
		at := unsafe.Add(unsafe.Pointer(t), l.offset)
		if l.size == unsafe.Sizeof([]byte(nil)) {
			*(*[]byte)(at) = nil
		} else {
			*(*func())(at) = nil
		}
	}
}

// rawSize is the record buffer that a worker lends: the largest record and
// what crypto/tls wants beyond it.
const rawSize = 20 << 10

// lend gives a connection w's record buffer for this turn, so that reading
// allocates nothing.
func lend(t *tls.Conn, w *scratch) {
	f := tlsLayout()
	if f == nil {
		return
	}
	raw, input, _ := f.buffers(t)
	if raw.Len() > 0 || input.Len() > 0 {
		return // it has one of its own
	}
	if w.raw == nil {
		w.raw = make([]byte, 0, rawSize)
	}
	*input = bytes.Reader{}
	*raw = *bytes.NewBuffer(w.raw[:0])
	w.lent = true
}

// unlend takes the buffers back. What is left of an incomplete record moves to
// a buffer of its own size; decrypted data that waits keeps the lent one.
func unlend(t *tls.Conn, w *scratch) {
	lent := w.lent
	w.lent = false
	f := tlsLayout()
	if f == nil {
		return
	}
	raw, input, hand := f.buffers(t)
	if input.Len() > 0 {
		if lent {
			w.raw = nil
		}
		return
	}
	*input = bytes.Reader{}
	switch {
	case raw.Len() == 0:
		*raw = bytes.Buffer{}
	case lent:
		*raw = *bytes.NewBuffer(bytes.Clone(raw.Bytes()))
	}
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
}

// halfRecord reports whether part of a TLS record waits for the rest.
func halfRecord(t *tls.Conn) bool {
	f := tlsLayout()
	if f == nil {
		return false
	}
	raw, _, _ := f.buffers(t)
	return raw.Len() > 0
}
