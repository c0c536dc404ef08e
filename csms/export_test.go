package csms

import (
	"encoding/json"
	"testing"
)

// HashesOf are the certificateHashData of root certificates (PEM), as JSON.
func HashesOf(t testing.TB, text string) []string {
	t.Helper()
	list, err := Hashes(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Hashes is HashesOf outside a test's goroutine.
func Hashes(text string) (list []string, err error) {
	roots, err := parseRoots(text)
	if err != nil {
		return nil, err
	}
	for _, r := range roots {
		h, _ := hashOf(r, r, "SHA256")
		raw, err := json.Marshal(h)
		if err != nil {
			return nil, err
		}
		list = append(list, string(raw))
	}
	return list, nil
}
