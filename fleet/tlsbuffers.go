package fleet

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// tlsLayout is where a tls.Conn keeps the buffers of what it reads. crypto/tls
// of Go 1.26 gives none of them back: they stay as large as the largest record
// was (golang/go#43563).
type tlsLayout struct {
	rawInput, input, hand uintptr
	known                 bool
}

var tlsBuffers = findTLSBuffers()

// findTLSBuffers looks the fields up by name and type. Where Go has changed them
// the buffers are simply kept.
func findTLSBuffers() (l tlsLayout) {
	t := reflect.TypeFor[tls.Conn]()
	find := func(name string, want reflect.Type) (uintptr, bool) {
		field, ok := t.FieldByName(name)
		return field.Offset, ok && field.Type == want && len(field.Index) == 1
	}
	var raw, input, hand bool
	l.rawInput, raw = find("rawInput", reflect.TypeFor[bytes.Buffer]())
	l.input, input = find("input", reflect.TypeFor[bytes.Reader]())
	l.hand, hand = find("hand", reflect.TypeFor[bytes.Buffer]())
	l.known = raw && input && hand
	return l
}

// releaseBuffers gives back a connection's read buffers if nothing is in them.
// Only the goroutine that reads may call it.
func releaseBuffers(c *tls.Conn) {
	if !tlsBuffers.known {
		return
	}
	at := unsafe.Pointer(c)
	rawInput := (*bytes.Buffer)(unsafe.Add(at, tlsBuffers.rawInput))
	input := (*bytes.Reader)(unsafe.Add(at, tlsBuffers.input))
	hand := (*bytes.Buffer)(unsafe.Add(at, tlsBuffers.hand))
	if rawInput.Len() > 0 || input.Len() > 0 || hand.Len() > 0 {
		return
	}
	*rawInput, *input, *hand = bytes.Buffer{}, bytes.Reader{}, bytes.Buffer{}
}
