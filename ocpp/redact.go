package ocpp

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretWords mark a configuration key, a variable or a JSON member whose value
// is a secret: AuthorizationKey of 1.6, BasicAuthPassword of 2.x,
// basicAuthPassword and VPN and APN passwords of a network profile, and what
// vendors put into DataTransfer.
var secretWords = []string{"authorizationkey", "password", "passwd", "secret", "privatekey", "apikey"}

// userinfo finds user and password in a URL, as in upload locations.
var userinfo = regexp.MustCompile(`://[^/\s"@\\]+@`)

// Redact returns an OCPP-J message, or a payload, without its secrets. It
// returns data itself if nothing had to go; a message that names a secret and
// cannot be parsed goes as a whole.
func Redact(data []byte) []byte {
	if bytes.Contains(data, []byte("://")) {
		data = userinfo.ReplaceAll(data, []byte("://"+Redacted+"@"))
	}
	if !namesSecret(string(data)) {
		return data
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return []byte(Redacted)
	}
	out, err := json.Marshal(redact(v))
	if err != nil {
		return []byte(Redacted)
	}
	return out
}

func namesSecret(s string) bool {
	s = strings.ToLower(s)
	for _, w := range secretWords {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// redact replaces secrets in a decoded JSON value, in place where it can.
func redact(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = redact(v[i])
		}
	case string: // JSON within a string, as in DataTransfer
		if len(v) > 64 && namesSecret(v) {
			return Redacted
		}
	case map[string]any:
		named := false // {"key": "AuthorizationKey", "value": …} and its kin
		for _, key := range []string{"key", "name", "variable", "variableName"} {
			named = named || namesASecret(v[key])
		}
		for key, value := range v {
			_, text := value.(string)
			isValue := named && (key == "value" || key == "attributeValue" || key == "actualValue")
			switch inner := value.(type) {
			case []any:
				if named && key == "variableAttribute" { // NotifyReport
					for _, a := range inner {
						if m, ok := a.(map[string]any); ok && m["value"] != nil {
							m["value"] = Redacted
						}
					}
				}
			case map[string]any:
				if key == "vpn" && inner["key"] != nil { // a pre-shared key
					inner["key"] = Redacted
				}
			}
			if isValue || text && namesSecret(key) || key == "data" && text && namesSecret(value.(string)) {
				v[key] = Redacted
			} else {
				v[key] = redact(value)
			}
		}
	}
	return v
}

// namesASecret reports whether v is the name of a secret, or a variable object with such a name.
func namesASecret(v any) bool {
	switch v := v.(type) {
	case string:
		return namesSecret(v)
	case map[string]any:
		name, _ := v["name"].(string)
		return namesSecret(name)
	}
	return false
}
