package ws

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// minDeflate is the smallest message worth compressing, in bytes. OCPP's
// everyday messages are smaller.
const minDeflate = 512

var errInflatedTooBig = errors.New("ws: decompressed message is too big")

// deflateTail ends a sync-flushed block, RFC 7692 §7.2.1; with inflateTail the
// stream of a message ends properly for a decoder.
var (
	deflateTail = []byte{0x00, 0x00, 0xFF, 0xFF}
	inflateTail = []byte{0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF}
)

// deflate appends p's compressed form to b. There is no context to take over,
// and no window can be larger than the block that is compressed by itself:
// that is how a small window of the peer is respected.
func deflate(b, p []byte, bits uint8) ([]byte, error) {
	w := appendWriter{b}
	window := len(p)
	if bits < 15 {
		window = 1 << bits
	}
	for len(p) > 0 {
		n := min(window, len(p))
		if err := flate.StatelessDeflate(&w, p[:n], false, nil); err != nil {
			return nil, err
		}
		p = p[n:]
	}
	return bytes.TrimSuffix(w.b, deflateTail), nil
}

// appendWriter is an io.Writer that appends.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// inflater is a decompressor with its input, kept in a pool.
type inflater struct {
	in  inflateInput
	out io.ReadCloser
}

var inflaters = sync.Pool{New: func() any {
	f := &inflater{}
	f.out = flate.NewReader(&f.in)
	return f
}}

// inflate appends p's decompressed form to b, at most limit bytes.
func inflate(b, p []byte, limit int) ([]byte, error) {
	if len(p) == 0 {
		return b, nil // not allowed, but clear
	}
	f := inflaters.Get().(*inflater)
	defer func() {
		f.in = inflateInput{}
		inflaters.Put(f)
	}()
	f.in = inflateInput{p: p, tail: inflateTail}
	start := len(b)
	for range maxStreams {
		if err := f.out.(flate.Resetter).Reset(&f.in, b[max(start, len(b)-maxWindow):]); err != nil {
			return nil, err
		}
		for {
			if len(b) == cap(b) {
				b = append(b, 0)[:len(b)]
			}
			n, err := f.out.Read(b[len(b):min(cap(b), start+limit+1)])
			b = b[:len(b)+n]
			if len(b)-start > limit {
				return nil, errInflatedTooBig
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		if f.in.tail == nil || len(f.in.p) == 0 {
			return b, nil
		}
		// A final block inside of the message; what follows goes on, RFC 7692 §7.2.3.4.
	}
	return nil, errStreams
}

// maxStreams bounds the final blocks of one message: each one costs a start.
const maxStreams = 16

var errStreams = errors.New("ws: too many final blocks in a compressed message")

// maxWindow is the largest LZ77 window, in bytes.
const maxWindow = 32 << 10

// inflateInput reads p and then tail, byte by byte if need be: with ReadByte
// the decompressor reads no further than the stream's end.
type inflateInput struct{ p, tail []byte }

func (r *inflateInput) next() bool {
	if len(r.p) == 0 {
		r.p, r.tail = r.tail, nil
	}
	return len(r.p) > 0
}

func (r *inflateInput) Read(b []byte) (int, error) {
	if !r.next() {
		return 0, io.EOF
	}
	n := copy(b, r.p)
	r.p = r.p[n:]
	return n, nil
}

func (r *inflateInput) ReadByte() (byte, error) {
	if !r.next() {
		return 0, io.EOF
	}
	c := r.p[0]
	r.p = r.p[1:]
	return c, nil
}
