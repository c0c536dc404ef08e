package memory

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// mappings is what /proc/PID/smaps says, in bytes: the sums that smaps_rollup
// has, and the mappings around one address.
type mappings struct {
	rollup
	around   int64 // anonymous and resident in the mappings around the address
	reserved int64 // their size
}

// maxMappingLine bounds a line of smaps: a path is 4 KB at most.
const maxMappingLine = 8 << 10

// parseMappings reads the text of /proc/PID/smaps as a stream: a process may
// have 65,000 mappings. Those around the address are anonymous ones that follow
// each other without a gap.
func parseMappings(r io.Reader, address uint64) (mappings, error) {
	var m mappings
	var run struct { // the mappings so far that follow each other
		end            uint64
		size, resident int64
		has            bool
	}
	named, seen := false, false
	flush := func() {
		if run.has {
			m.around, m.reserved = run.resident, run.size
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), maxMappingLine)
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			continue
		}
		if line[0] < 'A' || line[0] > 'Z' { // the head of a mapping
			start, end, path, err := parseMapping(string(line))
			if err != nil {
				return mappings{}, err
			}
			if named = path != ""; named || start != run.end {
				flush()
				run.size, run.resident, run.has = 0, 0, false
			}
			run.end = end
			if !named {
				run.size += int64(end - start)
				run.has = run.has || start <= address && address < end
			}
			continue
		}
		if c := line[0]; c != 'A' && c != 'P' && c != 'L' { // most lines, without a copy
			continue
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch name {
		case "Anonymous", "Pss", "AnonHugePages", "LazyFree":
		default:
			continue
		}
		n, err := parseCount(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		if err != nil {
			return mappings{}, fmt.Errorf("mappings: field %s: %w", name, err)
		}
		n <<= 10
		switch name {
		case "Anonymous":
			if !named {
				run.resident += n
			}
		case "Pss":
			m.pss, seen = m.pss+n, true
		case "AnonHugePages":
			m.hugePages += n
		case "LazyFree":
			m.lazyFree += n
		}
	}
	flush()
	if err := lines.Err(); err != nil {
		return mappings{}, fmt.Errorf("mappings: %w", err)
	}
	if !seen {
		return mappings{}, errors.New("mappings: no field Pss")
	}
	return m, nil
}

// parseMapping reads "start-end rw-p offset device inode path".
func parseMapping(line string) (start, end uint64, path string, err error) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return 0, 0, "", fmt.Errorf("mapping %.80q: too few fields", line)
	}
	from, to, _ := strings.Cut(fields[0], "-")
	start, err = strconv.ParseUint(from, 16, 64)
	if err == nil {
		end, err = strconv.ParseUint(to, 16, 64)
	}
	switch {
	case err != nil:
		return 0, 0, "", fmt.Errorf("mapping %.80q: %w", line, err)
	case end < start:
		return 0, 0, "", fmt.Errorf("mapping %.80q: it ends before it starts", line)
	case len(fields) > 5:
		path = fields[5]
	}
	return start, end, path, nil
}
