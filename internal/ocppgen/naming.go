package main

import (
	"strings"
	"unicode"
)

// initialisms are words that Go writes in capitals, as Go writes them.
var initialisms = map[string]string{
	"ac": "AC", "afrr": "AFRR", "apn": "APN", "csms": "CSMS", "csr": "CSR", "dc": "DC", "der": "DER",
	"ev": "EV", "evse": "EVSE", "exi": "EXI", "hv": "HV", "iccid": "ICCID", "id": "ID", "ids": "IDs",
	"imsi": "IMSI", "iso": "ISO", "kwh": "KWh", "ocpp": "OCPP", "ocsp": "OCSP", "psp": "PSP",
	"sim": "SIM", "soc": "SoC", "soh": "SoH", "tbc": "TBC", "uri": "URI", "url": "URL", "urls": "URLs",
	"v2g": "V2G", "v2x": "V2X", "vat": "VAT", "vpn": "VPN",
}

// odd are words that do not follow the rule of capitals.
var odd = []string{"SoC", "soC", "SoH", "soH", "V2G", "V2X", "v2x", "kWh", "Kwh", "ePrice", "EPrice"}

// words cuts a name of the schemas at its capitals and punctuation.
func words(name string) []string {
	var found []string
	for rest := name; rest != ""; {
		n := wordLength(rest)
		if n == 0 { // punctuation
			rest = rest[1:]
			continue
		}
		found = append(found, rest[:n])
		rest = rest[n:]
	}
	return found
}

func wordLength(s string) int {
	for _, w := range odd {
		if strings.HasPrefix(s, w) {
			return len(w)
		}
	}
	run := func(from int, is func(rune) bool) int {
		n := from
		for n < len(s) && is(rune(s[n])) {
			n++
		}
		return n
	}
	switch c := rune(s[0]); {
	case unicode.IsDigit(c):
		return run(0, unicode.IsDigit)
	case unicode.IsLower(c):
		return run(0, unicode.IsLower)
	case unicode.IsUpper(c):
		upper := run(0, unicode.IsUpper)
		switch {
		case upper == len(s) || !unicode.IsLower(rune(s[upper])):
			return upper
		case upper == 1:
			return run(1, unicode.IsLower)
		default: // the last capital starts the next word
			return upper - 1
		}
	}
	return 0
}

// goName returns name as an exported Go identifier: evseId becomes EVSEID,
// Energy.Active.Net becomes EnergyActiveNet.
func goName(name string) string {
	var b strings.Builder
	for _, w := range words(name) {
		if whole, ok := initialisms[strings.ToLower(w)]; ok {
			b.WriteString(whole)
		} else {
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return b.String()
}

// fileName returns the name of the file that holds a type.
func fileName(name string) string {
	return strings.ToLower(strings.Join(words(name), "_")) + ".go"
}
