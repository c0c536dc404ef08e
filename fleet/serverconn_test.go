package fleet

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// serverConn is the server side of RFC 6455, the least that is needed.
type serverConn struct {
	net.Conn
	br *bufio.Reader
	mu sync.Mutex
}

func (c *serverConn) write(op byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	_, err := c.Write(append(b, payload...))
	return err
}

func (c *serverConn) read() (op byte, payload []byte, err error) {
	var head [14]byte
	if _, err = io.ReadFull(c.br, head[:2]); err != nil {
		return
	}
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(c.br, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(c.br, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	if err != nil {
		return
	}
	if head[1]&0x80 == 0 || head[0]&0xf0 != 0x80 || n > 1<<20 {
		return 0, nil, fmt.Errorf("bad frame of a client: % x", head[:2])
	}
	var mask [4]byte
	if _, err = io.ReadFull(c.br, mask[:]); err != nil {
		return
	}
	payload = make([]byte, n)
	if _, err = io.ReadFull(c.br, payload); err != nil {
		return
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0] & 0x0f, payload, nil
}
