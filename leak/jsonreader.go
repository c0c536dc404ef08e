package leak

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// jsonReader reads JSON as a stream without keeping it. Positions in errors are
// bytes from the start.
type jsonReader struct {
	r    *bufio.Reader
	read int64
}

func (j *jsonReader) fail(what string) error { return fmt.Errorf("byte %d: %s", j.read, what) }

// next returns the next byte that is not white space.
func (j *jsonReader) next() (byte, error) {
	for {
		b, err := j.r.ReadByte()
		if err == io.EOF {
			return 0, j.fail("ends too early")
		}
		if err != nil {
			return 0, err
		}
		if j.read++; j.read > maxSnapshot {
			return 0, j.fail("too large")
		}
		if b != ' ' && b != '\n' && b != '\t' && b != '\r' {
			return b, nil
		}
	}
}

func (j *jsonReader) back() { j.r.UnreadByte(); j.read-- }

func (j *jsonReader) expect(want byte) error {
	b, err := j.next()
	if err == nil && b != want {
		err = j.fail(fmt.Sprintf("%q instead of %q", b, want))
	}
	return err
}

// more is after an element of an object or array that ends with end.
func (j *jsonReader) more(end byte) (bool, error) {
	b, err := j.next()
	switch {
	case err != nil:
		return false, err
	case b == ',':
		return true, nil
	case b == end:
		return false, nil
	}
	return false, j.fail(fmt.Sprintf("%q instead of a comma or %q", b, end))
}

// empty is at the start of an object or array.
func (j *jsonReader) empty(end byte) (bool, error) {
	b, err := j.next()
	if err != nil {
		return false, err
	}
	if b == end {
		return true, nil
	}
	j.back()
	return false, nil
}

// text reads a string and keeps its first limit bytes.
func (j *jsonReader) text(limit int) (string, error) {
	if err := j.expect('"'); err != nil {
		return "", err
	}
	var out []byte
	for {
		b, err := j.r.ReadByte()
		if err != nil {
			return "", j.fail("ends in a string")
		}
		if j.read++; j.read > maxSnapshot {
			return "", j.fail("too large")
		}
		switch b {
		case '"':
			for len(out) > 0 && !utf8.Valid(out) { // cut in a character, or never was one
				out = out[:len(out)-1]
			}
			return string(out), nil
		case '\\':
			if b, err = j.r.ReadByte(); err != nil {
				return "", j.fail("ends in a string")
			}
			j.read++
			if b == 'u' {
				var code uint64
				hex := make([]byte, 4)
				if _, err := io.ReadFull(j.r, hex); err != nil {
					return "", j.fail("ends in a string")
				}
				j.read += 4
				if code, err = strconv.ParseUint(string(hex), 16, 16); err != nil {
					return "", j.fail("an escape that is none")
				}
				if len(out) < limit {
					out = utf8.AppendRune(out, rune(code))
				}
				continue
			}
			switch b {
			case 'n', 't', 'r', 'b', 'f':
				b = ' '
			case '"', '\\', '/':
			default:
				return "", j.fail("an escape that is none")
			}
		}
		if len(out) < limit {
			out = append(out, b)
		}
	}
}

// number reads a non-negative number; what follows a point is dropped.
func (j *jsonReader) number() (uint64, error) {
	b, err := j.next()
	if err != nil {
		return 0, err
	}
	if b < '0' || b > '9' {
		return 0, j.fail(fmt.Sprintf("%q instead of a number", b))
	}
	n, fraction := uint64(0), false
	for {
		switch {
		case b >= '0' && b <= '9':
			if !fraction {
				if n > (1<<63)/10 {
					return 0, j.fail("a number that is too large")
				}
				n = n*10 + uint64(b-'0')
			}
		case b == '.' && !fraction:
			fraction = true
		default:
			j.back()
			return n, nil
		}
		if b, err = j.r.ReadByte(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return 0, err
		}
		if j.read++; j.read > maxSnapshot {
			return 0, j.fail("too large")
		}
	}
}

// skip passes over a value.
func (j *jsonReader) skip(depth int) error {
	if depth > maxDepth {
		return j.fail("nested too deeply")
	}
	b, err := j.next()
	if err != nil {
		return err
	}
	switch b {
	case '"':
		j.back()
		_, err := j.text(0)
		return err
	case '{':
		return j.object(func(string) error { return j.skip(depth + 1) })
	case '[':
		return j.array(func() error { return j.skip(depth + 1) })
	}
	for { // a number, true, false, null
		switch b {
		case ',', '}', ']':
			j.back()
			return nil
		}
		if b, err = j.next(); err != nil {
			return err
		}
	}
}

// object reads members until its end; its brace has been read.
func (j *jsonReader) object(member func(name string) error) error {
	if done, err := j.empty('}'); done || err != nil {
		return err
	}
	for {
		name, err := j.text(64)
		if err == nil {
			err = j.expect(':')
		}
		if err == nil {
			err = member(name)
		}
		if err != nil {
			return err
		}
		if more, err := j.more('}'); !more || err != nil {
			return err
		}
	}
}

// array reads elements until its end; its bracket has been read.
func (j *jsonReader) array(element func() error) error {
	if done, err := j.empty(']'); done || err != nil {
		return err
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if more, err := j.more(']'); !more || err != nil {
			return err
		}
	}
}
