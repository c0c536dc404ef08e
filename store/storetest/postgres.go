package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)

// startTime bounds how long a server may take until it answers.
const startTime = time.Minute

var errNoPostgres = errors.New("no PostgreSQL server found: looked in PATH and /usr/lib/postgresql/*/bin (Debian: apt install postgresql)")

// Server is a private PostgreSQL server. Its files vanish with it.
type Server struct {
	// Set by start, then read-only.
	bin  string // directory of initdb and postgres
	dir  string // holds data
	port int
	cred *syscall.Credential // whom the server runs as; nil: the caller

	mu   sync.Mutex
	proc *process // nil: not running
	next atomic.Int64
}

// process is one run of the server.
type process struct {
	os   *os.Process
	out  bytes.Buffer  // read after done
	done chan struct{} // closed when it has ended
}

// NewServer starts a server of the test's own, one that it may Kill. Skips and
// fails as Postgres does.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	check(t, err)
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, errNoPostgres) && os.Getenv("CI") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

func start() (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.cred, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp("", "holdfast-postgres-"); err != nil {
		return nil, err
	}
	if err := s.init(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

func (s *Server) init() error {
	if s.cred != nil {
		if err := os.Chown(s.dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return err
		}
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", "holdfast", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir = s.dir
	initdb.SysProcAttr = attributes(s.cred)
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	return s.Start()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Start starts the server again after Kill and returns when it answers.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return nil
	}
	// Every commit is on disk before it is acknowledged, as in production.
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=on",
		"-c", "synchronous_commit=on", "-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "timezone=UTC")
	cmd.Dir = s.dir
	cmd.SysProcAttr = attributes(s.cred)
	p := &process{done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	started := make(chan error)
	go func() {
		// The kernel kills the server when the thread that started it ends, so
		// this goroutine keeps its thread until the server has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		p.os = cmd.Process
		started <- err
		if err == nil {
			cmd.Wait() // however it ends: the tests notice
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return fmt.Errorf("start postgres: %w", err)
	}
	if err := s.wait(p); err != nil {
		p.os.Signal(syscall.SIGQUIT)
		<-p.done
		return fmt.Errorf("postgres does not answer: %w: %s", err, p.out.Bytes())
	}
	s.proc = p
	return nil
}

// wait returns when the server answers.
func (s *Server) wait(p *process) error {
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Kill ends the server like a crash: nothing is flushed, no client is told.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

// end sends sig to the server and waits until it has ended. SIGQUIT is
// PostgreSQL's immediate shutdown, which recovers from its log at the next
// start like after a crash; SIGKILL would leave the server's children behind.
func (s *Server) end(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	s.proc.os.Signal(sig) // fails if it has ended by itself, which is as good
	<-s.proc.done
	s.proc = nil
}

func (s *Server) close() error {
	s.end(syscall.SIGINT)
	return os.RemoveAll(s.dir)
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://holdfast@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Database creates a database for the test, removed at its end, and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.next.Add(1))
	if err := s.exec(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.mu.Lock()
		running := s.proc != nil
		s.mu.Unlock()
		if !running {
			return
		}
		if err := s.exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	return s.url(name)
}

func (s *Server) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// binaries returns the directory of the newest PostgreSQL server.
func binaries() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	newest, version := "", -1
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is well-formed
	for _, path := range found {
		dir := filepath.Dir(path)
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > version {
			newest, version = dir, v
		}
	}
	if newest == "" {
		return "", errNoPostgres
	}
	return newest, nil
}

// unprivileged returns a user who may run the server.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("running as root, and neither user postgres nor nobody exists to run PostgreSQL as")
}
