package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// proxySignature starts a PROXY protocol v2 header.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// maxProxyHeader bounds the part after the fixed 16 bytes.
const maxProxyHeader = 4 << 10

var errProxyHeader = errors.New("ws: not a PROXY protocol v2 header")

// readProxyHeader reads exactly one PROXY protocol v2 header from r. It
// returns the address of the client, or peer if the proxy speaks for itself.
func readProxyHeader(r io.Reader, peer netip.AddrPort) (netip.AddrPort, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return peer, fmt.Errorf("read PROXY header: %w", err)
	}
	n := int(binary.BigEndian.Uint16(fixed[14:]))
	if string(fixed[:12]) != proxySignature || fixed[12]>>4 != 2 || n > maxProxyHeader {
		return peer, errProxyHeader
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return peer, fmt.Errorf("read PROXY header: %w", err)
	}
	const local, proxied = 0, 1
	switch fixed[12] & 0x0F {
	case local: // a health check
		return peer, nil
	case proxied:
	default:
		return peer, errProxyHeader
	}
	const tcp4, tcp6 = 0x11, 0x21
	switch {
	case fixed[13] == tcp4 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), nil
	case fixed[13] == tcp6 && n >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:])), nil
	}
	return peer, errProxyHeader
}
