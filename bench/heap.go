package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// exactHeap makes the Go runtime record every allocation, for heapParts.
const exactHeap = "GODEBUG=memprofilerate=1"

// heapPart is a part of what a gateway keeps, by the functions that allocate it.
type heapPart struct {
	name     string
	prefixes []string
}

// parts of a gateway's heap. An allocation belongs to the first of its callers,
// from the inside, that has a part.
var parts = []heapPart{
	{"TLS: ciphers", []string{"crypto/tls.aead"}},
	{"TLS: connection", []string{"crypto/tls."}},
	{"WebSocket: registry", []string{"holdfast/ws.(*registry)"}},
	{"WebSocket: connection", []string{"holdfast/ws."}},
	{"bus: subscription", []string{"github.com/nats-io/nats.go.", "holdfast/bus."}},
	{"gateway: remembered admissions", []string{"holdfast/gateway.(*admission)"}},
	{"gateway: remembered chains", []string{"holdfast/gateway.(*tlsState)", "holdfast/gateway.(*chains)"}},
	{"gateway: registry", []string{"holdfast/gateway.(*Gateway).register"}},
	{"gateway: connection", []string{"holdfast/gateway."}},
}

const otherPart = "everything else"

// heapByPart collects garbage in the process with that admin address and returns
// what is in use, in bytes. The process was started with exactHeap.
func heapByPart(admin string) (map[string]int64, error) {
	answer, err := http.Get("http://" + admin + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return parseHeap(answer.Body)
}

// parseHeap reads a heap profile in its text form, whose samples are not scaled.
func parseHeap(r io.Reader) (map[string]int64, error) {
	sum := make(map[string]int64)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var size int64
	part := ""
	end := func() {
		if size > 0 {
			if part == "" {
				part = otherPart
			}
			sum[part] += size
		}
		size, part = 0, ""
	}
	for lines.Scan() {
		line := lines.Text()
		switch fields := strings.Fields(line); {
		case len(fields) > 2 && fields[0] == "#" && strings.HasPrefix(fields[1], "0x"):
			if part == "" {
				part = partOf(fields[2])
			}
		case strings.Contains(line, " @ 0x"):
			end()
			var objects int64
			if _, err := fmt.Sscanf(line, "%d: %d [", &objects, &size); err != nil {
				return nil, fmt.Errorf("heap profile: %.100q: %w", line, err)
			}
		}
	}
	end()
	return sum, lines.Err()
}

func partOf(function string) string {
	for _, p := range parts {
		for _, prefix := range p.prefixes {
			if strings.HasPrefix(function, prefix) {
				return p.name
			}
		}
	}
	return ""
}

// collect lets the process with that admin address collect its garbage. The text
// form of the profile makes little of it.
func collect(admin string) error {
	answer, err := http.Get("http://" + admin + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
