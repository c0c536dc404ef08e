package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

var errNoPostgres = errors.New("no PostgreSQL server found in PATH and /usr/lib/postgresql/*/bin")

// startPostgres starts a private PostgreSQL server that puts every commit on
// disk before it acknowledges it, and returns its URL.
func startPostgres() (url string, stop func() error, err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-postgres-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	cred, err := unprivileged(dir)
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "holdfast", "-A", "trust", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	addresses, err := freePorts(1)
	if err != nil {
		return "", nil, err
	}
	host, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return "", nil, err
	}
	server, err := startAs("postgres", cred, nil, filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-c", "listen_addresses="+host,
		"-c", "unix_socket_directories=", "-c", "fsync=on", "-c", "synchronous_commit=on")
	if err != nil {
		return "", nil, err
	}
	stop = func() error {
		server.kill(syscall.SIGINT) // PostgreSQL's fast shutdown
		return errors.Join(<-server.done, os.RemoveAll(dir))
	}
	for deadline := time.Now().Add(readyTime); ; time.Sleep(100 * time.Millisecond) {
		ready := exec.Command(filepath.Join(bin, "pg_isready"), "-h", host, "-p", port)
		if ready.Run() == nil {
			break
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(fmt.Errorf("postgres does not answer: %s", server.log), stop())
		}
	}
	return "postgres://holdfast@" + addresses[0] + "/postgres?sslmode=disable", stop, nil
}

// postgresBin finds the directory of the server's programs.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errNoPostgres
}

// unprivileged gives dir to a user that is not root, because PostgreSQL refuses
// to run as root; nil if this process is not root either.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New("no user postgres or nobody to run PostgreSQL as")
}
