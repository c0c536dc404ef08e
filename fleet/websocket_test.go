package fleet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// loopback returns a station's connection and the server's end of it.
func loopback(t testing.TB, limit int) (*conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	c, err := newConn(client, client.(*net.TCPConn), ocpp.ProfilePlain, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c, server
}

// frame is one unmasked frame.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return string(b) + payload
}

// readAll returns the messages of a stream, and how it ended.
func readAll(c *conn, stream string) (messages []string, err error) {
	br := bufio.NewReader(strings.NewReader(stream))
	for {
		data, err := c.readMessage(br)
		if err != nil {
			return messages, err
		}
		if data != nil {
			messages = append(messages, string(data))
		}
	}
}

func TestReadMessage(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for _, tt := range []struct {
		name, stream string
		want         []string
		code         int // of the close frame that ends it; zero: the stream's end
	}{
		{"text", frame(0x81, "hello"), []string{"hello"}, 0},
		{"empty", frame(0x81, ""), []string{""}, 0},
		{"lengths", frame(0x81, long[:126]) + frame(0x81, long), []string{long[:126], long}, 0},
		{"fragments", frame(0x01, "a") + frame(0x00, "b") + frame(0x80, "c"), []string{"abc"}, 0},
		{"ping between fragments", frame(0x01, "a") + frame(0x89, "p") + frame(0x80, "b"), []string{"ab"}, 0},
		{"character across fragments", frame(0x01, "\xc3") + frame(0x80, "\xa4"), []string{"ä"}, 0},
		{"pong", frame(0x8a, "") + frame(0x81, "x"), []string{"x"}, 0},
		{"close", frame(0x88, "\x03\xe9bye") + frame(0x81, "x"), nil, 1001},
		{"close without a code", frame(0x88, ""), nil, 1005},
		{"close of one byte", frame(0x88, "x"), nil, 1002},
		{"invalid UTF-8", frame(0x81, "\xff"), nil, 1007},
		{"binary", frame(0x82, "\xff"), []string{"\xff"}, 0},
		{"reserved bit", frame(0xc1, "x"), nil, 1002},
		{"masked", "\x81\x81....x", nil, 1002},
		{"unknown opcode", frame(0x83, "x"), nil, 1002},
		{"unknown control", frame(0x8b, "x"), nil, 1002},
		{"fragmented ping", frame(0x09, "x"), nil, 1002},
		{"long ping", frame(0x89, long[:126]), nil, 1002},
		{"continuation of nothing", frame(0x80, "x"), nil, 1002},
		{"text in text", frame(0x01, "a") + frame(0x81, "b"), nil, 1002},
		{"too big", frame(0x81, long+long), nil, 1009},
		{"too big in fragments", frame(0x01, long) + frame(0x80, long), nil, 1009},
		{"length of 2^63", "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", nil, 1009},
		{"truncated", frame(0x81, "hello")[:4], nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := loopback(t, 100_000)
			messages, err := readAll(c, tt.stream)
			if strings.Join(messages, "|") != strings.Join(tt.want, "|") || len(messages) != len(tt.want) {
				t.Errorf("messages %.60q", messages)
			}
			if tt.code != 0 && !closedWith(err, tt.code) || tt.code == 0 && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("ended with %v, want %d", err, tt.code)
			}
		})
	}
}

// TestWrite: frames are masked, and carry every length.
func TestWrite(t *testing.T) {
	c, server := loopback(t, 1<<20)
	peer := &serverConn{Conn: server, br: bufio.NewReader(server)}
	for _, n := range []int{0, 1, 7, 8, 125, 126, 65535, 65536, 200_000} {
		want := bytes.Repeat([]byte("abcdefghi"), n/9+1)[:n]
		sent := make(chan error, 1)
		go func() { sent <- c.write(opText, want) }()
		op, got, err := peer.read()
		if err != nil || op != opText || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: op %d, %d bytes, %v", n, op, len(got), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadable: data that was there before the wait, that comes during it, the
// end of the connection and the deadline all end it.
func TestReadable(t *testing.T) {
	c, server := loopback(t, 1000)
	c.tcp.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := c.readable(); !os.IsTimeout(err) {
		t.Errorf("nothing there: %v", err)
	}
	c.tcp.SetReadDeadline(time.Time{})
	go io.WriteString(server, "x")
	for range 3 { // it stays readable until it is read
		if err := c.readable(); err != nil {
			t.Errorf("data: %v", err)
		}
	}
	var one [1]byte
	io.ReadFull(c, one[:])
	go server.Close()
	if err := c.readable(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if _, err := c.Read(one[:]); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	for _, seed := range []string{
		frame(0x81, "hello"), frame(0x01, "a") + frame(0x89, "p") + frame(0x80, "b"), frame(0x88, "\x03\xe9bye"),
		frame(0x81, strings.Repeat("x", 300)), "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "\x81\x81....x",
	} {
		f.Add([]byte(seed))
	}
	c, server := loopback(f, 10_000)
	go io.Copy(io.Discard, server)
	f.Fuzz(func(t *testing.T, stream []byte) {
		c.part, c.kind = nil, 0
		messages, err := readAll(c, string(stream))
		total := 0
		for _, m := range messages {
			if len(m) > 10_000 {
				t.Errorf("message of %d bytes", len(m))
			}
			total += len(m)
		}
		if total > len(stream) || err == nil {
			t.Errorf("%d bytes out of %d, %v", total, len(stream), err)
		}
	})
}
