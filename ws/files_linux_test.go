//go:build linux && !ws_goroutine

package ws

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckFindsLostSocket: a socket on a station port that belongs to no
// connection is reported, with the numbers.
func TestCheckFindsLostSocket(t *testing.T) {
	s := startServer(t, Config{}, Endpoint{Upgrade: upgrading(echoSession)})
	c := dial(t, s.addr, nil)
	defer c.net.Close()
	eventually(t, "connection open", func() bool { return s.open.Load() == 1 && s.gate.opening() == 0 })
	if err := s.Check(); err != nil {
		t.Fatalf("with one connection: %v", err)
	}
	fd := -1
	for n, of := range s.Sockets() {
		if of != 0 {
			fd = n
		}
	}
	lost, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "1 sockets on the ports of stations belong to no connection, 0 connections are being opened"
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with a lost socket: %v", err)
	}
	if err := unix.Close(lost); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}
