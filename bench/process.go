package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child process that ends with this one.
type process struct {
	name string
	pid  int
	in   io.WriteCloser
	out  *bufio.Reader
	log  *tail // what it wrote to standard error
	done chan error
	kill func(os.Signal) error
}

// startProcess runs a command. Its standard output is p.out.
func startProcess(name, bin string, args ...string) (*process, error) {
	return startAs(name, nil, nil, bin, args...)
}

// startAs runs a command as somebody else if cred is set, with env added to the
// environment.
func startAs(name string, cred *syscall.Credential, env []string, bin string, args ...string) (*process, error) {
	cmd := exec.Command(bin, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: cred}
	p := &process{name: name, log: &tail{}, done: make(chan error, 1)}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = p.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			p.done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		r.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.in, p.out, p.pid, p.kill = in, bufio.NewReader(r), cmd.Process.Pid, cmd.Process.Signal
	return p, nil
}

const stopTime = 30 * time.Second

// stop asks the process to end, waits, and kills it after stopTime.
func (p *process) stop() error {
	p.in.Close()
	p.kill(syscall.SIGTERM)
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
			return nil // by our SIGTERM
		}
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", p.name, err, p.log)
		}
		return nil
	case <-time.After(stopTime):
		p.kill(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end within %v\n%s", p.name, stopTime, p.log)
	}
}

// line reads one line of the process's output.
func (p *process) line() (string, error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s ended: %w\n%s", p.name, err, p.log)
	}
	return strings.TrimSpace(text), nil
}

// ask sends a request as a line of JSON and reads the answer, which is one, too.
func (p *process) ask(request, answer any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.log)
	}
	line, err := p.line()
	if err != nil {
		return err
	}
	var failed struct{ Error string }
	if err := json.Unmarshal([]byte(line), &failed); err != nil {
		return fmt.Errorf("%s answers %.200q: %w", p.name, line, err)
	}
	if failed.Error != "" {
		return fmt.Errorf("%s: %s", p.name, failed.Error)
	}
	return json.Unmarshal([]byte(line), answer)
}

// tail keeps the last part of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// crash ends the process at once, as a kill -9 does.
func (p *process) crash() {
	p.kill(syscall.SIGKILL)
	<-p.done
	p.done <- nil
}

// rss returns the resident set of a process, in bytes.
func rss(pid int) (int64, error) { return statusBytes(pid, "VmRSS:") }

// peak returns the largest resident set since the start or resetPeak, in bytes.
func peak(pid int) (int64, error) { return statusBytes(pid, "VmHWM:") }

func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func statusBytes(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, strings.TrimSuffix(name, ":"))
}

// clockTick is USER_HZ, which Linux fixes at 100.
const clockTick = 10 * time.Millisecond

// cpu returns the CPU time that a process has used.
func cpu(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d: unexpected stat %q", pid, text)
	}
	ticks := int64(0)
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
