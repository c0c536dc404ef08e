package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	inetDiagRequest  = 56 // bytes of struct inet_diag_req_v2
	inetDiagMessage  = 72 // bytes of struct inet_diag_msg
	inetDiagSkMem    = 7  // attribute INET_DIAG_SKMEMINFO
)

// maxDiagnosed bounds the sockets of one dump.
const maxDiagnosed = 1 << 20

// diagnoseTCP asks the kernel for the TCP sockets of this network namespace and
// the memory of their buffers. It needs no privileges.
func diagnoseTCP() ([]tcpSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("socket diagnostics: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, fmt.Errorf("socket diagnostics: %w", err)
	}
	var list []tcpSocket
	buf := make([]byte, 64<<10)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if list, err = dumpTCP(fd, family, buf, list); err != nil {
			return nil, fmt.Errorf("socket diagnostics: %w", err)
		}
	}
	return list, nil
}

func dumpTCP(fd int, family byte, buf []byte, list []tcpSocket) ([]tcpSocket, error) {
	order := binary.NativeEndian
	req := make([]byte, unix.NLMSG_HDRLEN+inetDiagRequest)
	order.PutUint32(req[0:], uint32(len(req)))
	order.PutUint16(req[4:], sockDiagByFamily)
	order.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1], body[2] = family, unix.IPPROTO_TCP, 1<<(inetDiagSkMem-1)
	order.PutUint32(body[4:], 0xffffffff) // all states
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		done := false
		if list, done, err = parseDiag(buf[:n], list); err != nil || done {
			return list, err
		}
		if len(list) > maxDiagnosed {
			return nil, fmt.Errorf("more than %d sockets", maxDiagnosed)
		}
	}
}

// parseDiag reads the messages of one datagram; done means that the dump ended.
func parseDiag(b []byte, list []tcpSocket) (_ []tcpSocket, done bool, err error) {
	order := binary.NativeEndian
	for len(b) >= unix.NLMSG_HDRLEN {
		size, kind := int(order.Uint32(b)), order.Uint16(b[4:])
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return list, false, errors.New("message is cut off")
		}
		body := b[unix.NLMSG_HDRLEN:size]
		switch kind {
		case unix.NLMSG_DONE:
			return list, true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return list, false, errors.New("message is cut off")
			}
			return list, false, syscall.Errno(-int32(order.Uint32(body)))
		case sockDiagByFamily:
			if len(body) < inetDiagMessage {
				return list, false, errors.New("message is cut off")
			}
			t := tcpSocket{state: body[1], port: binary.BigEndian.Uint16(body[4:]), inode: order.Uint32(body[68:])}
			t.memory = skMemory(body[inetDiagMessage:])
			list = append(list, t)
		}
		b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return list, false, nil
}

// skMemory adds up the buffers in the attributes of a message.
func skMemory(b []byte) int64 {
	order := binary.NativeEndian
	for len(b) >= unix.SizeofRtAttr {
		size, kind := int(order.Uint16(b)), order.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return 0
		}
		if kind == inetDiagSkMem {
			var info [meminfoFields]uint32
			for i, data := 0, b[unix.SizeofRtAttr:size]; i < len(info) && len(data) >= 4; i, data = i+1, data[4:] {
				info[i] = order.Uint32(data)
			}
			return buffered(&info)
		}
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return 0
}
