package hunt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/leak/hunt"
)

// TestHuntEnds: a hunt that is interrupted, or whose server is killed, prints and
// writes what it has seen, and fails. One that would read another process than the
// one that serves refuses to begin, unless it is told that it may.
func TestHuntEnds(t *testing.T) {
	binary := e2e.Build(t, "holdfast/e2e/hunt/testdata/server")
	holdfast := e2e.Build(t, "holdfast/cmd/holdfast")
	t.Parallel() // with TestGoServer
	dir := pki(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	server := func() (*e2e.Process, []string) {
		p := e2e.Start(t, binary, "-cert", file("server.crt"), "-key", file("server.key"), "-ca", file("ca.crt"))
		at := awaitPorts(t, p)
		return p, []string{"leak", "hunt", "--target", fmt.Sprintf("3=wss://127.0.0.1:%d/ocpp", at.MTLS),
			"--ca-cert", file("ca.crt"), "--ca-key", file("issuing.key"), "--ca", file("root.crt"), "--activities", "reconnect", "--rate", "20", "--stations", "16"}
	}
	type outcome struct {
		out, log string
		code     int
	}
	// hunts runs leak hunt, and does something when it has got to the trial.
	hunts := func(args []string, then func(cmd *exec.Cmd)) outcome {
		cmd := exec.Command(holdfast, args...)
		var out bytes.Buffer
		var log lockedBuffer
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return outcome{}
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		if then != nil {
			for range 600 {
				if strings.Contains(log.String(), "trial round") {
					then(cmd)
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		select {
		case <-ended:
		case <-time.After(2 * time.Minute):
			t.Errorf("it does not end: %s", log.String())
			cmd.Process.Kill()
			<-ended
		}
		return outcome{out.String(), log.String(), cmd.ProcessState.ExitCode()}
	}

	killed, killedArgs := server()
	_, args := server()
	page := file("page.html")
	var interrupted, died, foreign outcome
	var wg sync.WaitGroup
	wg.Go(func() {
		interrupted = hunts(append(args[:len(args):len(args)], "--pid", fmt.Sprint(killed.PID()), "--indirect", "--for", "60s", "--json", "--fail-on", "never", "--report", page),
			func(cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGINT) })
		died = hunts(append(killedArgs, "--pid", fmt.Sprint(killed.PID()), "--for", "60s"), func(*exec.Cmd) { syscall.Kill(killed.PID(), syscall.SIGKILL) })
	})
	wg.Go(func() {
		other := exec.CommandContext(t.Context(), "sleep", "300")
		if err := other.Start(); err != nil {
			t.Error(err)
			return
		}
		foreign = hunts(append(args[:len(args):len(args)], "--pid", fmt.Sprint(other.Process.Pid), "--for", "10s"), nil)
		other.Process.Kill()
		other.Wait()
	})
	wg.Wait()

	var r result
	if err := json.Unmarshal([]byte(interrupted.out), &r); err != nil {
		t.Fatalf("interrupted: %v: %s%s", err, interrupted.out, interrupted.log)
	}
	if interrupted.code != 1 || r.Verdict != hunt.VerdictUnfinished || !strings.Contains(r.Ended, "interrupted") || len(r.Blocks) < 2 {
		t.Errorf("interrupted: exit status %d, verdict %s, %q, %d blocks", interrupted.code, r.Verdict, r.Ended, len(r.Blocks))
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "interrupted") {
		t.Errorf("the page of the interrupted hunt: %v, %.200s", err, text)
	}
	if died.code != 1 || !strings.Contains(died.out, "verdict: unfinished") || !strings.Contains(died.log, fmt.Sprintf("process %d cannot be read any more", killed.PID())) {
		t.Errorf("server killed: exit status %d: %s%s", died.code, died.out, died.log)
	}
	if foreign.code != 1 || !strings.Contains(foreign.log, "is not the one that holds mutual-TLS connections") {
		t.Errorf("another process is read: exit status %d: %s%s", foreign.code, foreign.out, foreign.log)
	}
}

// lockedBuffer is written by a process while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
