package memory

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Texts of real machines: version 1 alone, version 2 alone, both with memory
// in version 1, a container with and without a cgroup namespace.
const (
	mountsV1 = `23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	mountsV2 = `23 27 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
35 23 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	mountsDockerV1 = `920 910 0:30 /docker/8f5e /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory
`
	cgroupsV1 = "9:name=systemd:/\n4:memory:/pods/holdfast\n2:cpuacct,cpu:/\n0::/\n"
)

func TestFindCgroup(t *testing.T) {
	for _, tt := range []struct {
		name, cgroups, mounts string
		want                  cgroupDir
	}{
		{"version 1", cgroupsV1, mountsV1, cgroupDir{1, "/sys/fs/cgroup/memory", "/pods/holdfast"}},
		{"version 2", "0::/system.slice/holdfast.service\n", mountsV2, cgroupDir{2, "/sys/fs/cgroup", "/system.slice/holdfast.service"}},
		{"version 2, namespace", "0::/\n", mountsV2, cgroupDir{2, "/sys/fs/cgroup", "/"}},
		{"version 2, outside of the namespace", "0::/../holdfast\n", mountsV2, cgroupDir{2, "/sys/fs/cgroup", "/"}},
		{"container, version 1", "5:memory:/docker/8f5e\n", mountsDockerV1, cgroupDir{1, "/sys/fs/cgroup/memory", "/"}},
		{"below a container, version 1", "5:memory:/docker/8f5e/sub\n", mountsDockerV1, cgroupDir{1, "/sys/fs/cgroup/memory", "/sub"}},
		{"namespace, version 1", "5:memory:/\n", mountsDockerV1, cgroupDir{1, "/sys/fs/cgroup/memory", "/"}},
		{"neighbour with a longer name", "5:memory:/docker/8f5e77\n", mountsDockerV1, cgroupDir{1, "/sys/fs/cgroup/memory", "/"}},
		{"joint controllers", "5:cpu,memory:/a\n", "1 2 0:3 / /cg rw - cgroup cgroup rw,cpu,memory\n", cgroupDir{1, "/cg", "/a"}},
		{"blank in the path", "0::/a b\n", `1 2 0:3 / /c\040g rw - cgroup2 cgroup2 rw` + "\n", cgroupDir{2, "/c g", "/a b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := findCgroup(tt.cgroups, tt.mounts)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	for _, tt := range [][2]string{{"", ""}, {"0::/\n", ""}, {"", mountsV2}, {"0::/\n", mountsDockerV1}, {"x", "y"}} {
		if got, err := findCgroup(tt[0], tt[1]); !errors.Is(err, errNoCgroup) {
			t.Errorf("findCgroup(%q, …) = %+v, %v", tt[0], got, err)
		}
	}
}

const (
	statV1 = `cache 18862080
rss 1400832
mapped_file 0
inactive_file 15069184
active_file 3792896
hierarchical_memory_limit 1610612736
hierarchical_memsw_limit 9223372036854771712
total_cache 18862080
total_rss 41400832
total_inactive_file 15069184
total_active_file 3792896
`
	statV2 = `anon 41400832
file 18862080
kernel 9437184
kernel_stack 131072
pagetables 1048576
percpu 1440
sock 2097152
shmem 0
file_mapped 12288
inactive_anon 41300000
active_anon 8192
inactive_file 15069184
active_file 3792896
slab 8000000
pgfault 1234
`
)

func TestCgroupRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		dir   cgroupDir
		files map[string]string
		want  Cgroup
	}{
		{"version 1", cgroupDir{1, "", "/pod"}, map[string]string{
			"pod/memory.usage_in_bytes":          "71303168\n",
			"pod/memory.stat":                    statV1,
			"pod/memory.kmem.usage_in_bytes":     "10485760\n",
			"pod/memory.kmem.tcp.usage_in_bytes": "0\n",
		}, Cgroup{Version: 1, Usage: 71303168, Limit: 1610612736, WorkingSet: 71303168 - 15069184, Anon: 41400832, ActiveFile: 3792896,
			Kernel: 10485760, Remainder: 71303168 - 15069184 - 41400832 - 3792896 - 10485760}},
		{"version 1 without kernel memory", cgroupDir{1, "", "/"}, map[string]string{
			"memory.usage_in_bytes": "60262912\n",
			"memory.stat":           strings.Replace(statV1, "1610612736", "9223372036854771712", 1),
		}, Cgroup{Version: 1, Usage: 60262912, WorkingSet: 60262912 - 15069184, Anon: 41400832, ActiveFile: 3792896}},
		{"version 2, limit above", cgroupDir{2, "", "/pods/one"}, map[string]string{
			"pods/one/memory.current": "73400320\n",
			"pods/one/memory.stat":    statV2,
			"pods/one/memory.max":     "max\n",
			"pods/memory.max":         "1073741824\n",
		}, Cgroup{Version: 2, Usage: 73400320, Limit: 1 << 30, WorkingSet: 73400320 - 15069184, Anon: 41400832, ActiveFile: 3792896,
			Kernel: 9437184, Socket: 2097152, Remainder: 73400320 - 15069184 - 41400832 - 3792896 - 9437184 - 2097152}},
		{"version 2, two limits, old kernel", cgroupDir{2, "", "/one"}, map[string]string{
			"one/memory.current": "1000\n",
			"one/memory.stat":    "anon 400\nfile 300\ninactive_file 2000\nslab 40\nkernel_stack 30\npagetables 20\npercpu 10\nsock 0\n",
			"one/memory.max":     "2000\n",
			"memory.max":         "3000\n",
		}, Cgroup{Version: 2, Usage: 1000, Limit: 2000, Anon: 400, Kernel: 100, Remainder: -500}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.dir.mount = t.TempDir()
			for name, text := range tt.files {
				name = filepath.Join(tt.dir.mount, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := tt.dir.read()
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
			n := got.Anon + got.ActiveFile + got.Kernel + got.Remainder
			if got.Version == 2 { // version 1 counts sockets apart
				n += got.Socket
			}
			if n != got.WorkingSet {
				t.Errorf("parts add up to %d, working set is %d", n, got.WorkingSet)
			}
		})
	}
	for version := range 2 {
		if _, err := (cgroupDir{version + 1, t.TempDir(), "/"}).read(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("version %d, no files: %v", version+1, err)
		}
	}
}

func FuzzFindCgroup(f *testing.F) {
	f.Add(cgroupsV1, mountsV1)
	f.Add("0::/a\n", mountsV2)
	f.Add("5:memory:/docker/8f5e/../..\n", mountsDockerV1)
	f.Fuzz(func(t *testing.T, cgroups, mounts string) {
		d, err := findCgroup(cgroups, mounts)
		if err != nil {
			return
		}
		if !strings.HasPrefix(d.mount, "/") || !filepath.IsAbs(d.path) || d.path != filepath.Clean(d.path) {
			t.Errorf("cgroup %+v of %q and %q", d, cgroups, mounts)
		}
	})
}

func FuzzCgroupStat(f *testing.F) {
	f.Add(statV1)
	f.Add(statV2)
	f.Add("anon 18446744073709551615\n")
	f.Fuzz(func(t *testing.T, text string) {
		stat, err := parseCgroupStat(text)
		for name, v := range stat {
			if err != nil || v < 0 || v > maxCount {
				t.Errorf("%q is %d, %v", name, v, err)
			}
		}
	})
}
