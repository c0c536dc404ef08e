package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup is a memory cgroup of the benchmark's own, so that what the kernel keeps
// for a server's sockets is seen as a pod's limit sees it.
type cgroup struct {
	dir      string
	usage    string // file
	inactive string // field of memory.stat: page cache that goes first
}

// contain puts a process into a cgroup of its own. What it used before stays
// where it was charged: look at differences. An error means that none can be
// made here, which takes root and a writable hierarchy.
func contain(pid int) (*cgroup, error) {
	name := fmt.Sprintf("holdfast-bench-%d", pid)
	var first error
	for _, c := range []cgroup{
		{dir: "/sys/fs/cgroup/memory", usage: "memory.usage_in_bytes", inactive: "total_inactive_file"},
		{dir: "/sys/fs/cgroup", usage: "memory.current", inactive: "inactive_file"},
	} {
		c.dir = filepath.Join(c.dir, name)
		err := os.Mkdir(c.dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(c.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			if err == nil {
				_, err = c.workingSet()
			}
			if err != nil {
				os.Remove(c.dir)
			}
		}
		if err == nil {
			return &c, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// workingSet is what Kubernetes calls so: usage less inactive page cache, in bytes.
func (c *cgroup) workingSet() (int64, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, c.usage))
	if err != nil {
		return 0, err
	}
	usage, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(filepath.Join(c.dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(stat)) {
		if field, value, _ := strings.Cut(strings.TrimSpace(line), " "); field == c.inactive {
			n, err := strconv.ParseInt(value, 10, 64)
			return max(usage-n, 0), err
		}
	}
	return 0, fmt.Errorf("%s has no %s", filepath.Join(c.dir, "memory.stat"), c.inactive)
}

// remove deletes the cgroup once its process has ended.
func (c *cgroup) remove() error { return os.Remove(c.dir) }
