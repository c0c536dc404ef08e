package station_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// setup is what client.mjs is told first.
type setup struct {
	Endpoint string         `json:"endpoint"`
	Identity string         `json:"identity"`
	Password string         `json:"password,omitempty"`
	Protocol string         `json:"protocol"`
	Strict   bool           `json:"strict"`
	CA       string         `json:"ca,omitempty"`
	Cert     string         `json:"cert,omitempty"`
	Key      string         `json:"key,omitempty"`
	Answers  map[string]any `json:"answers"`
}

// rpcStation is a running client.mjs.
type rpcStation struct {
	t  *testing.T
	in io.WriteCloser

	mu       sync.Mutex
	next     int
	waiting  map[int]chan reply
	open     string
	refused  int
	closed   int
	opens    []event  // of a device: its connections
	held     []string // and where it stood still
	calls    []event
	bad      []string
	finished chan struct{}
}

type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type event struct {
	reply
	ID      int             `json:"id"`
	Open    *string         `json:"open"`
	Profile int             `json:"profile"`
	Serial  string          `json:"serial"`
	Held    string          `json:"held"`
	Refused *int            `json:"refused"`
	Closed  *int            `json:"closed"`
	Call    string          `json:"call"`
	Params  json.RawMessage `json:"params"`
	Bad     string          `json:"bad"`
	Message string          `json:"message"`
}

var install = sync.OnceValue(func() error {
	if _, err := os.Stat(filepath.Join("node_modules", "ocpp-rpc")); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Stderr = os.Stderr
	return cmd.Run()
})

// needNPM installs the package that the tests need.
func needNPM(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm is missing")
		}
		t.Skip("npm is missing")
	}
	if err := install(); err != nil {
		t.Fatalf("npm ci: %v", err)
	}
}

// connect starts a station and waits until it is connected or refused.
func connect(t *testing.T, s setup) *rpcStation {
	t.Helper()
	st := launch(t, "client.mjs", s)
	st.until("connected or refused", func() bool { return st.open != "" || st.refused != 0 })
	return st
}

// launch runs a script with its first line until the test ends.
func launch(t *testing.T, script string, first any) *rpcStation {
	t.Helper()
	needNPM(t)
	st := &rpcStation{t: t, waiting: make(map[int]chan reply), finished: make(chan struct{})}
	cmd := exec.Command("node", script)
	cmd.Stderr = os.Stderr
	var err error
	if st.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(st.finished)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("line of the station: %s", lines.Text())
				continue
			}
			st.take(e)
		}
	}()
	t.Cleanup(func() {
		st.in.Close()
		select {
		case <-st.finished:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
		}
		cmd.Wait()
	})
	st.write(first)
	return st
}

func (st *rpcStation) take(e event) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case e.Open != nil:
		st.open = *e.Open
		st.opens = append(st.opens, e)
	case e.Refused != nil:
		st.refused = *e.Refused
		if st.refused == 0 {
			st.refused = -1
			st.t.Logf("refused: %s", e.Message)
		}
	case e.Closed != nil:
		st.closed = *e.Closed
	case e.Held != "":
		st.held = append(st.held, e.Held)
	case e.Call != "":
		st.calls = append(st.calls, e)
	case e.Bad != "":
		st.bad = append(st.bad, e.Bad)
	default:
		if ch := st.waiting[e.ID]; ch != nil {
			delete(st.waiting, e.ID)
			ch <- e.reply
		}
	}
}

func (st *rpcStation) write(v any) {
	st.t.Helper()
	if err := json.NewEncoder(st.in).Encode(v); err != nil {
		st.t.Fatalf("write to the station: %v", err)
	}
}

func (st *rpcStation) until(what string, ok func() bool) {
	st.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		st.mu.Lock()
		done := ok()
		st.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			st.t.Fatalf("never: %s", what)
		}
	}
}

// call sends a CALL of the station and decodes the CALLRESULT into out.
func (st *rpcStation) call(action string, params, out any) {
	st.t.Helper()
	ch := make(chan reply, 1)
	st.mu.Lock()
	st.next++
	id := st.next
	st.waiting[id] = ch
	st.mu.Unlock()
	st.write(map[string]any{"id": id, "action": action, "params": params})
	select {
	case r := <-ch:
		if r.Error != nil {
			st.t.Fatalf("%s: %s %s", action, r.Error.Code, r.Error.Message)
		}
		if out != nil {
			if err := json.Unmarshal(r.Result, out); err != nil {
				st.t.Fatalf("%s: %s: %v", action, r.Result, err)
			}
		}
	case <-time.After(40 * time.Second):
		st.t.Fatalf("%s: no answer", action)
	}
}

// took returns the params of the last CALL of that action that the station got.
// The operator's answer can be faster than the station's own line about it.
func (st *rpcStation) took(action string) (params json.RawMessage) {
	st.t.Helper()
	st.until("the station gets "+action, func() bool {
		for _, c := range st.calls {
			if c.Call == action {
				params = c.Params
			}
		}
		return params != nil
	})
	return params
}
