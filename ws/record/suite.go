package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what the record protocol has to know of a cipher suite.
type suite struct {
	hash     func() hash.Hash
	keySize  int
	fixedIV  int // bytes of the nonce that are not in the record
	explicit int // bytes that are, RFC 5288 §3
	aead     func(key []byte) (cipher.AEAD, error)
	tls13    bool
}

const nonceSize = 12

func gcm(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

var (
	aes128 = suite{hash: sha256.New, keySize: 16, fixedIV: nonceSize, aead: gcm, tls13: true}
	aes256 = suite{hash: sha512.New384, keySize: 32, fixedIV: nonceSize, aead: gcm, tls13: true}
	chacha = suite{hash: sha256.New, keySize: chacha20poly1305.KeySize, fixedIV: nonceSize, aead: chacha20poly1305.New, tls13: true}

	aes128TLS12 = suite{hash: sha256.New, keySize: 16, fixedIV: 4, explicit: 8, aead: gcm}
	aes256TLS12 = suite{hash: sha512.New384, keySize: 32, fixedIV: 4, explicit: 8, aead: gcm}
	chachaTLS12 = suite{hash: sha256.New, keySize: chacha20poly1305.KeySize, fixedIV: nonceSize, aead: chacha20poly1305.New} // RFC 7905
)

// suiteOf returns nil for suites that are left to crypto/tls: those with CBC.
func suiteOf(id uint16) *suite {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return &aes128
	case tls.TLS_AES_256_GCM_SHA384:
		return &aes256
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return &chacha
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256:
		return &aes128TLS12
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_256_GCM_SHA384:
		return &aes256TLS12
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return &chachaTLS12
	}
	return nil
}

// half is one direction of a connection.
type half struct {
	seq    uint64
	key    [32]byte
	iv     [nonceSize]byte
	secret [48]byte // TLS 1.3: the traffic secret, from which the next one comes
}

// set takes a traffic secret of TLS 1.3, §7.3.
func (h *half) set(s *suite, secret []byte) error {
	h.seq = 0
	copy(h.secret[:], secret)
	key, err := expandLabel(s, secret, "key", s.keySize)
	if err != nil {
		return err
	}
	iv, err := expandLabel(s, secret, "iv", nonceSize)
	if err != nil {
		return err
	}
	copy(h.key[:], key)
	copy(h.iv[:], iv)
	return nil
}

// update moves to the next traffic secret, §7.2.
func (h *half) update(s *suite) error {
	next, err := expandLabel(s, h.secret[:s.hash().Size()], "traffic upd", s.hash().Size())
	if err != nil {
		return err
	}
	return h.set(s, next)
}

// expandLabel is HKDF-Expand-Label without a context, §7.1.
func expandLabel(s *suite, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := make([]byte, 0, 4+len(label))
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(s.hash, secret, string(info), n)
}

// keyBlock fills both halves from the master secret of TLS 1.2, RFC 5246 §6.3.
func keyBlock(s *suite, master, clientRandom, serverRandom []byte, in, out *half) {
	seed := append(append([]byte("key expansion"), serverRandom...), clientRandom...)
	b := prf(s.hash, master, seed, 2*s.keySize+2*s.fixedIV)
	for _, part := range [][]byte{in.key[:s.keySize], out.key[:s.keySize], in.iv[:s.fixedIV], out.iv[:s.fixedIV]} {
		b = b[copy(part, b):]
	}
}

// prf is the pseudorandom function of TLS 1.2 with the label in the seed, RFC
// 5246 §5.
func prf(h func() hash.Hash, secret, seed []byte, n int) []byte {
	mac := hmac.New(h, secret)
	sum := func(parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}
