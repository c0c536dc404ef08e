package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/identity"
	"holdfast/leak/bench"
	"holdfast/ocpp"
)

// benchSite is what all runs have in common: stations that are registered once,
// in a data directory that each run gets a copy of.
type benchSite struct {
	binary string
	dir    string
	keep   bool
	faults []bench.Fault
	tls    []fleet.Identity
	mtls   []fleet.Identity
}

// benchStart bounds the start and the end of a process.
const benchStart = 60 * time.Second

// maxBenchGateways is how many gateways a run may have.
const maxBenchGateways = 16

// spareStations are registered for each station that is connected on average: a
// gateway has up to 15 % more than others, by day 25 % more, and grows by 60 %.
const spareStations = 2.5

// openBenchSite registers the stations of a run.
func openBenchSite(ctx context.Context, c *leakBench) (*benchSite, error) {
	s := &benchSite{binary: c.Binary, dir: c.Keep, keep: c.Keep != ""}
	var err error
	if s.keep {
		err = os.MkdirAll(s.dir, 0o700)
	} else {
		s.dir, err = os.MkdirTemp("", "holdfast-leak-bench-")
	}
	if err != nil {
		return nil, fmt.Errorf("directory of the benchmark: %w", err)
	}
	if err := s.register(ctx, c); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *benchSite) close() {
	if !s.keep {
		os.RemoveAll(s.dir)
	}
}

func (s *benchSite) template() string { return filepath.Join(s.dir, "template") }

func (s *benchSite) register(ctx context.Context, c *leakBench) error {
	if err := os.RemoveAll(s.template()); err != nil {
		return err
	}
	n, err := s.startAll(ctx, s.template(), benchHost(0, maxBenchGateways+1))
	if err != nil {
		return err
	}
	defer n.kill()
	if err := getJSON(ctx, n.admin+"/debug/faults", "", &s.faults); err != nil {
		return fmt.Errorf("%w (is %s built with the tag leakfaults?)", err, s.binary)
	}
	if c.List {
		return nil
	}
	cl, err := n.client()
	if err != nil {
		return err
	}
	for profile, list := range map[ocpp.SecurityProfile]*[]fleet.Identity{ocpp.ProfileTLS: &s.tls, ocpp.ProfileMTLS: &s.mtls} {
		plan := identity.Plan{Stations: c.Gateways * c.ownStations(), ID: identity.Template("BENCH-" + profile.Label() + "-%05d"), Profiles: []ocpp.SecurityProfile{profile}, Versions: []ocpp.Version{ocpp.V16}}
		if *list, err = plan.Identities(); err != nil {
			return err
		}
		if err = identity.Fill(ctx, *list, registering, func(ctx context.Context, _ int, id *fleet.Identity) error { return registerAnew(ctx, cl, id) }); err != nil {
			return fmt.Errorf("register the benchmark's stations: %w", err)
		}
	}
	return n.stop()
}

// ownStations is how many stations a gateway has, connected or away.
func (c *leakBench) ownStations() int { return int(math.Ceil(spareStations * float64(c.Stations))) }

// copyTemplate makes the data directory of a run.
func (s *benchSite) copyTemplate(to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(s.template(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.template(), path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), info.Mode().Perm())
		case !info.Mode().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, info.Mode().Perm())
	})
}

// benchProcess is a process of a run.
type benchProcess struct {
	cmd   *exec.Cmd
	log   string
	done  chan struct{} // closed when it ended
	data  string
	api   string // http://…
	admin string
	nats  string
	tls   string // host:port
	mtls  string
}

// benchHost is an address of its own for a process of a run, so that nothing else
// has its ports: 127/8 is large, and what dials does so from 127.0.0.1. Two
// benchmarks at once differ by the number of their process.
func benchHost(run, process int) string {
	return fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%128, run%256, 1+process)
}

// startAll starts every role; the stations are with gateways of their own.
func (s *benchSite) startAll(ctx context.Context, data, host string) (*benchProcess, error) {
	n := &benchProcess{data: data, api: "http://" + host + ":8800", admin: "http://" + host + ":8801", nats: "nats://" + host + ":4222"}
	return n, n.start(ctx, data+".log", s.binary, "all", "--data", data, "--listen-api", host+":8800", "--listen-admin", host+":8801", "--listen-nats", host+":4222",
		"--listen-tls", host+":8882", "--listen-mtls", host+":8883", "--drain-time", "1s", "--log-level", "warn")
}

// startGateway starts a gateway that finds the other roles in all.
func (s *benchSite) startGateway(ctx context.Context, all *benchProcess, id, host string) (*benchProcess, error) {
	n := &benchProcess{admin: "http://" + host + ":8801", tls: host + ":8882", mtls: host + ":8883"}
	return n, n.start(ctx, all.data+"-"+id+".log", s.binary, "gateway", "--gateway-id", id, "--nats", all.nats,
		"--nats-credentials", filepath.Join(all.data, "nats-credentials", "gateway.creds"), "--listen-admin", host+":8801", "--listen-tls", n.tls, "--listen-mtls", n.mtls,
		"--server-names", host, "--connect-rate", "0", "--drain-time", "1s", "--log-level", "warn")
}

// start returns when the process is ready. It ends with ctx.
func (n *benchProcess) start(ctx context.Context, log string, binary string, args ...string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close() // the process has its own
	n.log, n.done = log, make(chan struct{})
	n.cmd = exec.CommandContext(ctx, binary, args...)
	n.cmd.Stdout, n.cmd.Stderr = out, out
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGTERM) }
	n.cmd.WaitDelay = benchStart
	if err := n.cmd.Start(); err != nil {
		return err
	}
	go func() {
		n.cmd.Wait()
		close(n.done)
	}()
	limit := time.After(benchStart)
	for {
		r, err := http.Get(n.admin + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
			continue
		case <-n.done:
			err = errors.New("it ended")
		case <-limit:
			err = fmt.Errorf("it is not ready after %s", benchStart)
		case <-ctx.Done():
			err = ctx.Err()
		}
		n.kill()
		return fmt.Errorf("start holdfast %s: %w: %s", args[0], err, lastLines(log))
	}
}

// lastLines is the end of a log, in one line.
func lastLines(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return plain(strings.ReplaceAll(strings.TrimSpace(string(data[max(0, len(data)-1000):])), "\n", "; "))
}

func (n *benchProcess) kill() {
	n.cmd.Process.Kill()
	<-n.done
}

// stop ends the process in order.
func (n *benchProcess) stop() error {
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(benchStart):
		n.kill()
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s: exit status %d: %s", strings.Join(n.cmd.Args[:2], " "), code, lastLines(n.log))
	}
	return nil
}

func (n *benchProcess) client() (*client, error) {
	return (&clientFlags{URL: n.api, Data: n.data}).client()
}

// post asks the admin port of the benchmark's build.
func (n *benchProcess) post(ctx context.Context, path string, body, out any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.admin+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(n.log))
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxStatus))
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s: %s", path, answer.Status, plain(string(text)))
	}
	return json.Unmarshal(text, out)
}
