package record

import (
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
)

// Content types, §5.1.
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
)

const (
	headerSize   = 5
	maxPlaintext = 16 << 10
	maxExpansion = 2048             // RFC 5246 §6.2.3; 256 in TLS 1.3, §5.2
	wireVersion  = tls.VersionTLS12 // of every record after the handshake, §5.1

	// BufferSize holds any record. A buffer that is lent has at least so many
	// bytes.
	BufferSize = headerSize + maxPlaintext + maxExpansion
)

// lengthOf returns the length of the record at the start of b, header included;
// 0 if b is too short to know.
func lengthOf(b []byte) int {
	if len(b) < headerSize {
		return 0
	}
	return headerSize + int(binary.BigEndian.Uint16(b[3:]))
}

// check judges a record by its header.
func (s *suite) check(header []byte) error {
	limit := maxPlaintext + maxExpansion
	if s.tls13 {
		limit = maxPlaintext + 256
		if header[0] != typeApplicationData {
			return alertUnexpectedMessage
		}
	}
	switch {
	case binary.BigEndian.Uint16(header[1:]) != wireVersion:
		return alertProtocolVersion
	case int(binary.BigEndian.Uint16(header[3:])) > limit:
		return alertRecordOverflow
	}
	return nil
}

// open decrypts a whole record in place. The error is an alert for the peer.
func (h *half) open(s *suite, a cipher.AEAD, record []byte) (typ byte, plain []byte, err error) {
	if err := s.check(record); err != nil {
		return 0, nil, err
	}
	typ = record[0]
	body := record[headerSize:]
	if len(body) < s.explicit+a.Overhead() {
		return 0, nil, alertBadRecordMAC
	}
	var nonce [nonceSize]byte
	h.nonce(s, &nonce, body)
	body = body[s.explicit:]
	var space [13]byte
	plain, err = a.Open(body[:0], nonce[:], body, h.additional(s, space[:0], record[:headerSize], len(body)-a.Overhead()))
	if err != nil {
		return 0, nil, alertBadRecordMAC
	}
	h.seq++
	if s.tls13 { // §5.2: content, type, zeros
		n := len(plain)
		if n > maxPlaintext+1 {
			return 0, nil, alertRecordOverflow
		}
		for n > 0 && plain[n-1] == 0 {
			n--
		}
		if n == 0 {
			return 0, nil, alertUnexpectedMessage
		}
		typ, plain = plain[n-1], plain[:n-1]
	}
	if len(plain) > maxPlaintext {
		return 0, nil, alertRecordOverflow
	}
	return typ, plain, nil
}

// seal appends a record with at most maxPlaintext bytes to b.
func (h *half) seal(s *suite, a cipher.AEAD, b []byte, typ byte, plain []byte) []byte {
	start := len(b)
	n := s.explicit + len(plain) + a.Overhead()
	outer := typ
	if s.tls13 {
		n++
		outer = typeApplicationData
	}
	b = append(b, outer, wireVersion>>8, wireVersion&0xff, byte(n>>8), byte(n))
	if s.explicit > 0 {
		b = binary.BigEndian.AppendUint64(b, h.seq)
	}
	content := len(b)
	b = append(b, plain...)
	if s.tls13 {
		b = append(b, typ)
	}
	var nonce [nonceSize]byte
	h.nonce(s, &nonce, b[start+headerSize:])
	var header [headerSize]byte
	copy(header[:], b[start:])
	var space [13]byte
	b = append(b, make([]byte, a.Overhead())...)
	a.Seal(b[content:content], nonce[:], b[content:len(b)-a.Overhead()], h.additional(s, space[:0], header[:], len(plain)))
	h.seq++
	return b
}

// nonce of the next record: §5.3, or its explicit part from the start of body,
// RFC 5288 §3.
func (h *half) nonce(s *suite, n *[nonceSize]byte, body []byte) {
	copy(n[:], h.iv[:])
	if s.explicit > 0 {
		copy(n[s.fixedIV:], body[:s.explicit])
		return
	}
	low := n[nonceSize-8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^h.seq)
}

// additional is what a record authenticates beside its content: §5.2, or RFC
// 5246 §6.2.3.3.
func (h *half) additional(s *suite, b, header []byte, n int) []byte {
	if s.tls13 {
		return append(b, header...)
	}
	b = binary.BigEndian.AppendUint64(b, h.seq)
	b = append(b, header[:3]...)
	return binary.BigEndian.AppendUint16(b, uint16(n))
}
