package fleet

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"unsafe"
)

// TestReleaseBuffers: with this Go the buffers are found, given back when they
// are empty, and the connection goes on afterwards.
func TestReleaseBuffers(t *testing.T) {
	if !tlsBuffers.known {
		t.Fatal("this Go keeps the buffers of a tls.Conn elsewhere: findTLSBuffers has to follow")
	}
	ca := newTestCA(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	text := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	done := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer nc.Close()
		server := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{*ca.issue(t, "server")}})
		_, err = io.CopyN(server, server, int64(3*len(text)))
		done <- err
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	client := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	rawInput := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(client), tlsBuffers.rawInput))
	for range 3 {
		if _, err := client.Write(text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(client, got[:100]); err != nil {
			t.Fatal(err)
		}
		releaseBuffers(client) // half read: nothing may be lost
		if _, err := io.ReadFull(client, got[100:]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text) {
			t.Fatal("what was read differs")
		}
		if rawInput.Cap() < 1000 {
			t.Errorf("%d bytes before: nothing to give back", rawInput.Cap())
		}
		releaseBuffers(client)
		if rawInput.Cap() > 0 {
			t.Errorf("%d bytes kept", rawInput.Cap())
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
