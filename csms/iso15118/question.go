package iso15118

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 of certificate hash data
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"holdfast/csms"
	"holdfast/pki"
)

// hashes are the hash algorithms of OCPP's certificate hash data.
var hashes = map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512}

// certID reads OCPP's certificate hash data: hashes and serial number as hex, of
// either case; the serial number with or without leading zeros.
func certID(q csms.OCSPQuestion) (id pki.CertID, err error) {
	var ok bool
	if id.Hash, ok = hashes[q.HashAlgorithm]; !ok {
		return id, fmt.Errorf("hash algorithm %.20q is none of SHA256, SHA384, SHA512", q.HashAlgorithm)
	}
	for _, h := range []struct {
		name string
		text string
		to   *[]byte
	}{{"issuerNameHash", q.IssuerNameHash, &id.IssuerName}, {"issuerKeyHash", q.IssuerKeyHash, &id.IssuerKey}} {
		*h.to, err = hex.DecodeString(h.text)
		if err != nil || len(*h.to) != id.Hash.Size() {
			return id, fmt.Errorf("%s is not %d bytes as hex", h.name, id.Hash.Size())
		}
	}
	serial := strings.TrimPrefix(strings.ToLower(q.SerialNumber), "0x")
	if id.Serial, ok = new(big.Int).SetString(serial, 16); !ok || id.Serial.Sign() <= 0 || id.Serial.BitLen() > 160 {
		return id, fmt.Errorf("serialNumber %.50q is not one as hex", q.SerialNumber)
	}
	return id, nil
}
