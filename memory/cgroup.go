package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Cgroup is what the memory controller charges to the cgroup of this process,
// in bytes. It holds whatever else runs in the same cgroup, too.
type Cgroup struct {
	Version int   `json:"version"`     // 1 or 2
	Usage   int64 `json:"usage_bytes"` // all that is charged
	Limit   int64 `json:"limit_bytes"` // the lowest on the way up; 0 means none

	// WorkingSet is what Kubernetes shows, scales and evicts by: usage less
	// the file pages that nobody used lately.
	WorkingSet int64 `json:"working_set_bytes"`

	// The parts of the working set; Remainder is what they do not explain.
	Anon       int64 `json:"anon_bytes"`
	ActiveFile int64 `json:"active_file_bytes"` // file pages, shared memory included, less the inactive ones
	Kernel     int64 `json:"kernel_bytes"`      // slab (sockets, files), kernel stacks, page tables
	Socket     int64 `json:"socket_bytes"`      // data in socket buffers; with version 1 only where that is limited, and beside the working set
	Remainder  int64 `json:"remainder_bytes"`

	// Unexplained is the working set less this process's resident set and kernel
	// memory: other processes, pages of files that were read or written, kernel
	// objects beyond the estimate. Below zero: pages of mapped files that count
	// as inactive, or were charged to another cgroup that read them first.
	Unexplained int64 `json:"unexplained_bytes"`
}

// cgroupDir is a cgroup of the memory controller.
type cgroupDir struct {
	version int
	mount   string // where the hierarchy is mounted
	path    string // of the cgroup below mount, "/" for mount itself
}

var errNoCgroup = errors.New("no memory controller is visible")

// findCgroup looks up the cgroup of this process by the texts of
// /proc/self/cgroup and /proc/self/mountinfo.
func findCgroup(cgroups, mounts string) (cgroupDir, error) {
	v1, v2 := "", ""
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // hierarchy:controllers:path
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			v2 = parts[2]
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			if c == "memory" {
				v1 = parts[2]
			}
		}
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		kind, options := right[0], right[2]
		if kind != "cgroup" && kind != "cgroup2" {
			continue
		}
		root, at := unescapeMount(left[3]), unescapeMount(left[4])
		if !strings.HasPrefix(at, "/") {
			continue
		}
		switch {
		case kind == "cgroup" && v1 != "" && hasOption(options, "memory"):
			return cgroupDir{1, at, below(root, v1)}, nil
		case kind == "cgroup2" && v1 == "" && v2 != "":
			return cgroupDir{2, at, below(root, v2)}, nil
		}
	}
	return cgroupDir{}, errNoCgroup
}

func hasOption(options, want string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == want {
			return true
		}
	}
	return false
}

// below returns the cgroup p as seen from a mount whose root is the cgroup
// root. A path that does not lie below it is another namespace's: all that is
// to be seen then is the mount itself.
func below(root, p string) string {
	if strings.HasPrefix(p, "/..") {
		return "/"
	}
	p, root = path.Clean(p), path.Clean(root)
	if root == "/" {
		return p
	}
	if rest, ok := strings.CutPrefix(p, root); ok && (rest == "" || rest[0] == '/') {
		return path.Clean("/" + rest)
	}
	return "/"
}

// unescapeMount undoes the octal escapes of mountinfo (blank, tab, newline,
// backslash).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// read reads the figures of the cgroup. The root cgroup of version 2 has none.
func (d cgroupDir) read() (Cgroup, error) {
	if d.version == 1 {
		return d.readV1()
	}
	return d.readV2()
}

func (d cgroupDir) file(dir, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(d.mount, dir, name))
	return string(text), err
}

func (d cgroupDir) count(dir, name string) (int64, error) {
	text, err := d.file(dir, name)
	if err != nil {
		return 0, err
	}
	n, err := parseLimit(text)
	if err != nil {
		return 0, fmt.Errorf("cgroup file %s: %w", name, err)
	}
	return n, nil
}

func (d cgroupDir) readV2() (Cgroup, error) {
	usage, err := d.count(d.path, "memory.current")
	if err != nil {
		return Cgroup{}, err
	}
	text, err := d.file(d.path, "memory.stat")
	if err != nil {
		return Cgroup{}, err
	}
	stat, err := parseCgroupStat(text)
	if err != nil {
		return Cgroup{}, err
	}
	c := Cgroup{Version: 2, Usage: usage, Anon: stat["anon"], Kernel: stat["kernel"], Socket: stat["sock"]}
	if _, ok := stat["kernel"]; !ok { // before Linux 5.18
		c.Kernel = stat["slab"] + stat["kernel_stack"] + stat["pagetables"] + stat["percpu"]
	}
	c.divide(stat["file"], stat["inactive_file"])
	// A limit of any ancestor binds, too.
	for dir := d.path; ; dir = path.Dir(dir) {
		n, err := d.count(dir, "memory.max")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Cgroup{}, err
		}
		if err == nil && n < maxCount && (c.Limit == 0 || n < c.Limit) {
			c.Limit = n
		}
		if dir == "/" {
			return c, nil
		}
	}
}

func (d cgroupDir) readV1() (Cgroup, error) {
	usage, err := d.count(d.path, "memory.usage_in_bytes")
	if err != nil {
		return Cgroup{}, err
	}
	text, err := d.file(d.path, "memory.stat")
	if err != nil {
		return Cgroup{}, err
	}
	stat, err := parseCgroupStat(text)
	if err != nil {
		return Cgroup{}, err
	}
	c := Cgroup{Version: 1, Usage: usage, Anon: stat["total_rss"]}
	// Kernels may be built without these two.
	c.Kernel, err = d.count(d.path, "memory.kmem.usage_in_bytes")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Cgroup{}, err
	}
	c.Socket, err = d.count(d.path, "memory.kmem.tcp.usage_in_bytes")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Cgroup{}, err
	}
	c.divide(stat["total_cache"], stat["total_inactive_file"])
	// Its "no limit" is the largest number of whole pages.
	if n := stat["hierarchical_memory_limit"]; n < maxCount {
		c.Limit = n
	}
	return c, nil
}

// divide computes the working set, as cAdvisor does it, and its parts.
func (c *Cgroup) divide(file, inactive int64) {
	c.WorkingSet = max(0, c.Usage-inactive)
	c.ActiveFile = max(0, file-inactive)
	c.Remainder = c.WorkingSet - c.Anon - c.ActiveFile - c.Kernel
	if c.Version == 2 { // version 1 counts sockets apart from usage
		c.Remainder -= c.Socket
	}
}

// parseCgroupStat reads the "name value" lines of memory.stat.
func parseCgroupStat(text string) (map[string]int64, error) {
	stat := make(map[string]int64, 64)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		n, err := parseCount(value)
		if err != nil {
			return nil, fmt.Errorf("memory.stat field %.64s: %w", name, err)
		}
		stat[name] = n
	}
	return stat, nil
}

// parseLimit reads a cgroup file of one number; "max" means none and is maxCount.
func parseLimit(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if text == "max" {
		return maxCount, nil
	}
	return parseCount(text)
}
