package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// maxInspectorMessage bounds one message of the inspector, in bytes. A chunk of
// a heap snapshot has 100 KB.
const maxInspectorMessage = 16 << 20

// Inspector is a Node.js process read by its inspector (node --inspect, or
// SIGUSR1 to a running one): process.memoryUsage(), the statistics of the V8
// heap, collections, heap snapshots. Whoever may use the inspector may run code
// in the process; this evaluates one expression that only reads.
type Inspector struct {
	endpoint
	socket string // the ws:// URL, if that was given

	// patience is how long the process may be silent during a request.
	patience time.Duration

	mu   sync.Mutex
	conn *websocket.Conn // nil: not connected
	id   int             // of the last request
}

// OpenInspector takes the inspector's address (127.0.0.1:9229 or its http URL)
// or the ws:// URL that Node.js prints, which changes when it restarts.
func OpenInspector(address string) (*Inspector, error) {
	if u, err := url.Parse(address); err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && u.Host != "" && len(u.Path) > 1 {
		return &Inspector{socket: address, patience: readTime}, nil
	}
	e, err := newEndpoint("inspector", strings.Replace(address, "ws://", "http://", 1))
	if err != nil {
		return nil, err
	}
	e.base.Path = "/json/list"
	return &Inspector{endpoint: e, patience: readTime}, nil
}

// readExpression runs in the process. getBuiltinModule is of Node.js 20.16 and
// 22.3; before that the command line API of the inspector has require.
const readExpression = `(() => {
	const v8 = process.getBuiltinModule ? process.getBuiltinModule('v8') : require('v8');
	const resources = process.getActiveResourcesInfo ? process.getActiveResourcesInfo() : null;
	return JSON.stringify({
		pid: process.pid, uptime: process.uptime(),
		memory: process.memoryUsage(), heap: v8.getHeapStatistics(),
		tcp: resources ? resources.filter(r => r === 'TCPSocketWrap').length : -1,
		handles: resources ? resources.length : -1,
	});
})()`

// inspected is what readExpression returns.
type inspected struct {
	PID    int     `json:"pid"`
	Uptime float64 `json:"uptime"`
	Memory struct {
		RSS          int64 `json:"rss"`
		HeapTotal    int64 `json:"heapTotal"`
		HeapUsed     int64 `json:"heapUsed"`
		External     int64 `json:"external"`
		ArrayBuffers int64 `json:"arrayBuffers"`
	} `json:"memory"`
	Heap    map[string]float64 `json:"heap"`
	TCP     int64              `json:"tcp"`
	Handles int64              `json:"handles"`
}

// Read costs the process well below a millisecond of its main thread, and 0.1
// µs for every open handle.
func (i *Inspector) Read(ctx context.Context) (Sample, error) {
	var answer struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := i.do(ctx, "Runtime.evaluate", map[string]any{
		"expression": readExpression, "returnByValue": true, "includeCommandLineAPI": true, "silent": true,
	}, &answer, nil)
	if err != nil {
		return Sample{}, fmt.Errorf("inspector: %w", err)
	}
	if answer.Exception != nil {
		return Sample{}, fmt.Errorf("inspector: read memory: %.200s", answer.Exception.Text)
	}
	var r inspected
	if err := json.Unmarshal([]byte(answer.Result.Value), &r); err != nil {
		return Sample{}, fmt.Errorf("inspector: read memory: %w", err)
	}
	s := newSample()
	s.PID, s.RSS = r.PID, r.Memory.RSS
	v8Heap(&s, r.Memory.HeapTotal, r.Memory.HeapUsed, r.Memory.External)
	s.Detail["array_buffers"] = r.Memory.ArrayBuffers
	for name, v := range r.Heap {
		if len(s.Detail) < maxDetail {
			s.Detail["v8_"+name] = int64(v)
		}
	}
	if r.TCP >= 0 {
		s.Counts[SocketFiles], s.Counts[Handles] = r.TCP, r.Handles
	}
	s.divide()
	return s, nil
}

// maxDetail bounds the names that a foreign process may give to Detail.
const maxDetail = 64

// CollectGarbage runs a full collection.
func (i *Inspector) CollectGarbage(ctx context.Context) error {
	if err := i.do(ctx, "HeapProfiler.collectGarbage", nil, nil, nil); err != nil {
		return fmt.Errorf("inspector: collect garbage: %w", err)
	}
	return nil
}

// HeapSnapshot implements HeapSnapshotter.
func (i *Inspector) HeapSnapshot(ctx context.Context, w io.Writer, limit int64) (int64, error) {
	size := int64(0)
	err := i.do(ctx, "HeapProfiler.takeHeapSnapshot", map[string]any{"reportProgress": false}, nil, func(method string, params json.RawMessage) error {
		if method != "HeapProfiler.addHeapSnapshotChunk" {
			return nil
		}
		var p struct {
			Chunk string `json:"chunk"`
		}
		if err := json.Unmarshal(params, &p); err != nil {
			return err
		}
		if size+int64(len(p.Chunk)) > limit {
			return fmt.Errorf("it is larger than %d MB", limit>>20)
		}
		n, err := io.WriteString(w, p.Chunk)
		size += int64(n)
		return err
	})
	if err != nil {
		return size, fmt.Errorf("inspector: heap snapshot: %w", err)
	}
	return size, nil
}

func (i *Inspector) Close() error {
	if i.client != nil {
		i.endpoint.Close()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop()
	return nil
}

// drop ends the connection, with i.mu held.
func (i *Inspector) drop() {
	if i.conn != nil {
		i.conn.CloseNow() // the inspector keeps nothing that a closing handshake would save
		i.conn = nil
	}
}

// do sends one request and reads up to its answer; events on the way go to
// event. After an error the connection is given up.
func (i *Inspector) do(ctx context.Context, method string, params, result any, event func(method string, params json.RawMessage) error) (err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	// The inspector answers on the main thread: a process that hangs is silent.
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(i.patience, func() {
		cancel(fmt.Errorf("no answer within %s, the process hangs or stands still", i.patience))
	})
	defer func() {
		silence.Stop()
		if err != nil {
			i.drop()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
		}
		cancel(nil)
	}()
	if err := i.dial(ctx); err != nil {
		return err
	}
	i.id++
	req, err := json.Marshal(map[string]any{"id": i.id, "method": method, "params": params})
	if err != nil {
		return err
	}
	if err := i.conn.Write(ctx, websocket.MessageText, req); err != nil {
		return err
	}
	for {
		_, data, err := i.conn.Read(ctx)
		if err != nil {
			return err
		}
		silence.Reset(i.patience)
		var m struct {
			ID     int             `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		switch {
		case m.ID == i.id && m.Error != nil:
			return errors.New(m.Error.Message)
		case m.ID == i.id && result != nil:
			return json.Unmarshal(m.Result, result)
		case m.ID == i.id:
			return nil
		case m.Method != "" && event != nil:
			if err := event(m.Method, m.Params); err != nil {
				return err
			}
		}
	}
}

// dial connects, with i.mu held.
func (i *Inspector) dial(ctx context.Context) error {
	if i.conn != nil {
		return nil
	}
	address := i.socket
	if address == "" {
		text, err := i.text(ctx, i.base)
		if err != nil {
			return fmt.Errorf("%w (start the process with node --inspect, or send it SIGUSR1)", err)
		}
		var targets []struct {
			URL string `json:"webSocketDebuggerUrl"`
		}
		if err := json.Unmarshal([]byte(text), &targets); err != nil || len(targets) == 0 {
			return fmt.Errorf("%s lists no process", i.base.Redacted())
		}
		u, err := url.Parse(targets[0].URL)
		if err != nil || u.Scheme != "ws" {
			return fmt.Errorf("%s lists no process that can be inspected", i.base.Redacted())
		}
		u.Host = i.base.Host // what it listens on may be another address than what we reach it by
		address = u.String()
	}
	conn, _, err := websocket.Dial(ctx, address, nil)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	conn.SetReadLimit(maxInspectorMessage)
	i.conn = conn
	return nil
}
