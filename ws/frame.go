package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// Opcodes, RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Close codes, RFC 6455 §7.4.1 and the registry it founded.
const (
	CloseNormal        = 1000
	CloseGoingAway     = 1001
	CloseProtocolError = 1002
	CloseNoStatus      = 1005 // never on the wire
	CloseInvalidData   = 1007
	ClosePolicy        = 1008
	CloseTooBig        = 1009
	CloseInternal      = 1011
	CloseRestart       = 1012
	CloseTryLater      = 1013
)

const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitRSV  = 0x30 // RSV2 and RSV3: never negotiated
	bitMask = 0x80

	maxControl = 125 // bytes of a control frame's payload, §5.5
	maxHeader  = 14  // bytes of a masked frame's header
)

// frameError is a violation of RFC 6455, worded for the log and, as it is
// short and holds nothing of the peer's, for the close frame.
type frameError string

func (e frameError) Error() string { return string(e) }

// header is the header of one frame from a client.
type header struct {
	fin    bool
	rsv1   bool
	op     byte
	length uint64
	key    [4]byte
}

// parseHeader reads a client frame's header from the start of b. It returns
// the header's size, or 0 while b is too short. A violation is reported as
// soon as its byte is there. A length that is not in its shortest form is
// accepted: it means the same and refusing it would lock a station out.
func parseHeader(b []byte, deflate bool) (h header, n int, err error) {
	if len(b) < 1 {
		return h, 0, nil
	}
	h.fin = b[0]&bitFin != 0
	h.rsv1 = b[0]&bitRSV1 != 0
	h.op = b[0] & 0x0F
	control := h.op >= opClose
	switch {
	case h.op > opBinary && h.op < opClose, h.op > opPong:
		return h, 0, frameError("unknown opcode")
	case b[0]&bitRSV != 0, h.rsv1 && (!deflate || control || h.op == opContinuation):
		return h, 0, frameError("reserved bit set") // §5.2, RFC 7692 §6
	case control && !h.fin:
		return h, 0, frameError("fragmented control frame") // §5.4
	}
	if len(b) < 2 {
		return h, 0, nil
	}
	if b[1]&bitMask == 0 {
		return h, 0, frameError("frame is not masked") // §5.1
	}
	h.length = uint64(b[1] & 0x7F)
	if control && h.length > maxControl {
		return h, 0, frameError("control frame is too long") // §5.5
	}
	n = 2
	switch h.length {
	case 126:
		if len(b) < 4 {
			return h, 0, nil
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
		n = 4
	case 127:
		if len(b) < 10 {
			return h, 0, nil
		}
		h.length = binary.BigEndian.Uint64(b[2:])
		if h.length>>63 != 0 {
			return h, 0, frameError("frame length has its top bit set")
		}
		n = 10
	}
	if len(b) < n+4 {
		return h, 0, nil
	}
	copy(h.key[:], b[n:])
	return h, n + 4, nil
}

// appendHeader appends the header of an unmasked, unfragmented frame.
func appendHeader(b []byte, op byte, rsv1 bool, length int) []byte {
	first := bitFin | op
	if rsv1 {
		first |= bitRSV1
	}
	switch {
	case length <= 125:
		return append(b, first, byte(length))
	case length <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(length))
}

// unmask applies the masking key to b in place, §5.3.
func unmask(b []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}

// closePayload encodes a close frame's payload; code 0 means an empty one. The
// text is cut to what a control frame holds, at a character's border.
func closePayload(code uint16, text string) []byte {
	if code == 0 || code == CloseNoStatus {
		return nil
	}
	if len(text) > maxControl-2 {
		text = text[:maxControl-2]
		for len(text) > 0 && !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, code), text...)
}

// parseClose decodes a close frame's payload, §5.5.1 and §7.4. An empty one is
// CloseNoStatus.
func parseClose(p []byte) (code uint16, err error) {
	if len(p) == 0 {
		return CloseNoStatus, nil
	}
	if len(p) == 1 {
		return 0, frameError("close frame of one byte")
	}
	code = binary.BigEndian.Uint16(p)
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
	default:
		return 0, frameError("invalid close code")
	}
	if !utf8.Valid(p[2:]) {
		return 0, errCloseText
	}
	return code, nil
}

const errCloseText = frameError("close text is not UTF-8")
