package csms

import (
	"encoding/json"
	"testing"
)

// HashesOf are the certificateHashData of root certificates (PEM), as JSON.
func HashesOf(t testing.TB, text string) (list []string) {
	t.Helper()
	roots, err := parseRoots(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roots {
		h, ok := hashOf(r, r, "SHA256")
		raw, err := json.Marshal(h)
		if !ok || err != nil {
			t.Fatal(err)
		}
		list = append(list, string(raw))
	}
	return list
}
