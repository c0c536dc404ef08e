package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// memoryPart is the outcome of bench memory.
type memoryPart struct {
	Config memoryConfig `json:"config"`
	Rows   []memoryRow  `json:"servers"`
}

// serverNames are how the servers are called in the table.
var serverNames = map[string]string{
	"bare":    "crypto/tls, a goroutine each",
	"gorilla": "gorilla/websocket, net/http",
	"coder":   "coder/websocket, net/http",
	"ws":      "holdfast/ws, echo",
	"gateway": "holdfast gateway, admitted",
	"all":     "holdfast all, admitted",
}

func runMemory(o *options, dir string, note func(string)) (part *memoryPart, err error) {
	var targets []*target
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.stop())
		}
	}()
	note(fmt.Sprintf("make %d certificates", o.memory.Stations))
	p, err := newPKI(dir)
	if err != nil {
		return nil, err
	}
	list, err := p.stations(o.memory.Stations)
	if err != nil {
		return nil, err
	}
	credentials := filepath.Join(dir, "stations")
	if err := writeCredentials(credentials, list); err != nil {
		return nil, err
	}
	for kind := range strings.SplitSeq(o.servers, ",") {
		name, ok := serverNames[kind]
		if !ok {
			return nil, fmt.Errorf("no server %q", kind)
		}
		note("start " + name)
		var t *target
		switch kind {
		case "gateway", "all":
			t, err = startProduct(o, kind, name, filepath.Join(dir, kind))
		default:
			t, err = startEcho(kind, name, dir, credentials)
		}
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	for _, t := range targets {
		pod, err := contain(t.pid)
		if err != nil {
			note("no working sets: " + err.Error())
			break
		}
		t.pod = pod
		stop := t.stop
		t.stop = func() error { return errors.Join(stop(), pod.remove()) }
	}
	rows, err := measureMemory(o.memory, targets, note)
	if err != nil {
		return nil, err
	}
	return &memoryPart{Config: o.memory, Rows: rows}, nil
}

// startProduct starts Holdfast with as many stations registered.
func startProduct(o *options, kind, name, data string) (*target, error) {
	h, err := startHoldfast(holdfastConfig{bin: o.holdfast, data: data, apart: kind == "gateway"})
	if err != nil {
		return nil, err
	}
	client, err := h.clients(name, filepath.Join(data, "stations"), o.memory.Stations)
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return &target{
		name: name, pid: h.holds(), client: client, account: h.account, refusals: h.refusals,
		stop: func() error { return errors.Join(client.stop(), h.stop()) },
	}, nil
}

// clients registers stations and starts their client.
func (h *holdfast) clients(name, file string, n int) (*process, error) {
	list, err := h.register(n, 3, "BENCH")
	if err != nil {
		return nil, err
	}
	if err := writeCredentials(file, list); err != nil {
		return nil, err
	}
	return startClient(name, h.stations, "/ocpp", file, h.ca)
}

// speedConfig is how much load, and on which databases.
type speedConfig struct {
	Stations  int           `json:"stations"`
	Rate      int           `json:"rate_per_second"`
	Time      time.Duration `json:"time_ns"`
	databases string
}

// speedPart is the outcome of bench speed.
type speedPart struct {
	Config speedConfig `json:"config"`
	Rows   []speedRow  `json:"databases"`
}

// speedRow is Holdfast, every role in one process, on one database; the load
// generator shares the machine.
type speedRow struct {
	Database  string `json:"database"`
	Skipped   string `json:"skipped,omitempty"` // why
	Heartbeat steady `json:"heartbeat"`
	Data      steady `json:"data_transfer"`
	Starts    starts `json:"start_transaction"`
	// CPU of the process per started transaction.
	CPUStart time.Duration `json:"cpu_per_start_ns"`
}

func runSpeed(o *options, dir string, note func(string)) (*speedPart, error) {
	part := &speedPart{Config: o.speed}
	for database := range strings.SplitSeq(o.speed.databases, ",") {
		row, err := speedOn(o, database, dir, note)
		if errors.Is(err, errNoPostgres) {
			row, err = speedRow{Database: database, Skipped: err.Error()}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", database, err)
		}
		part.Rows = append(part.Rows, row)
	}
	return part, nil
}

func speedOn(o *options, database, dir string, note func(string)) (row speedRow, err error) {
	row.Database = database
	cfg := holdfastConfig{bin: o.holdfast, data: filepath.Join(dir, "speed-"+database)}
	switch database {
	case "sqlite":
	case "postgres":
		url, stop, err := startPostgres()
		if err != nil {
			return row, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		cfg.database = url
	default:
		return row, errors.New("databases are sqlite and postgres")
	}
	note(database + ": start holdfast all")
	h, err := startHoldfast(cfg)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	note(fmt.Sprintf("%s: register and connect %d stations", database, o.speed.Stations))
	client, err := h.clients(database, filepath.Join(cfg.data, "stations"), o.speed.Stations)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, client.stop()) }()
	for _, r := range []request{{Connect: &connectRequest{Stations: o.speed.Stations, AtOnce: 32}}, {Boot: true}} {
		var d done
		if err := client.ask(r, &d); err != nil {
			return row, err
		}
		if d.Count != o.speed.Stations {
			return row, fmt.Errorf("%d of %d stations ready; %s", d.Count, o.speed.Stations, d.FirstFail)
		}
	}
	for _, m := range []struct {
		action, payload string
		out             *steady
	}{
		{"Heartbeat", `{}`, &row.Heartbeat},
		{"DataTransfer", `{"vendorId":"bench","messageId":"ping","data":"0123456789"}`, &row.Data},
	} {
		note(fmt.Sprintf("%s: %s, %d per second for %v", database, m.action, o.speed.Rate, o.speed.Time))
		r := request{Steady: &steadyRequest{Action: m.action, Payload: json.RawMessage(m.payload), Rate: o.speed.Rate, Time: o.speed.Time}}
		if err := client.ask(r, m.out); err != nil {
			return row, err
		}
	}
	note(fmt.Sprintf("%s: StartTransaction for %v", database, o.speed.Time))
	before, err := cpu(h.holds())
	if err != nil {
		return row, err
	}
	if err := client.ask(request{Starts: &startsRequest{IDTag: "BENCH", Time: o.speed.Time}}, &row.Starts); err != nil {
		return row, err
	}
	after, err := cpu(h.holds())
	if row.Starts.Answered > 0 {
		row.CPUStart = (after - before) / time.Duration(row.Starts.Answered)
	}
	return row, err
}
