package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// target is a server under measurement with the client that plays its stations.
type target struct {
	name   string
	pid    int // of the process that holds the connections
	client *process
	stop   func() error
	// account reads the process's own account of its resident set, in bytes by
	// class; nil if it has none.
	account func() (map[string]int64, error)
	// pod is a cgroup of the process's own; nil where none can be made.
	pod *cgroup
	// refusals says what the server holds against stations that could not
	// connect; nil if it cannot tell.
	refusals func() string
}

// connect opens connections until so many are open. Server CPU is returned
// per connection that was opened.
func (t *target) connect(stations, atOnce int) (perConnection time.Duration, err error) {
	before, err := cpu(t.pid)
	if err != nil {
		return 0, err
	}
	var d done
	if err := t.client.ask(request{Connect: &connectRequest{Stations: stations, AtOnce: atOnce}}, &d); err != nil {
		return 0, err
	}
	if d.Count != stations {
		why := ""
		if t.refusals != nil {
			why = t.refusals()
		}
		return 0, fmt.Errorf("%d of %d stations connected; %s\n%s", d.Count, stations, d.FirstFail, why)
	}
	after, err := cpu(t.pid)
	return (after - before) / time.Duration(stations), err
}

func (t *target) leave() error {
	var d done
	return t.client.ask(request{Leave: true}, &d)
}

func (t *target) messages(cfg memoryConfig, r messagesRequest) error {
	var d done
	err := t.client.ask(request{Messages: &r}, &d)
	if err == nil && d.Count != cfg.Stations {
		err = fmt.Errorf("%d of %d stations were answered; %s", d.Count, cfg.Stations, d.FirstFail)
	}
	return err
}

// memoryConfig is the experiment: who, how many, how long.
type memoryConfig struct {
	Stations int           `json:"stations"`
	Waves    int           `json:"waves"`
	Rest     time.Duration `json:"rest_ns"` // before each reading
	AtOnce   int           `json:"at_once"` // handshakes in flight
	Message  int           `json:"message_bytes"`
	// Heartbeats of each station, answered one after the other. 12 are an
	// hour's worth at the usual interval.
	Heartbeats int `json:"heartbeats"`
}

// memoryRow is what one server needed.
type memoryRow struct {
	Server string `json:"server"`

	RSS sizes `json:"rss"` // resident set of the process
	// Pod is the working set of a cgroup that holds the process alone, as
	// Kubernetes computes it: kernel memory of the sockets included. All zero
	// where no cgroup can be made.
	Pod sizes `json:"working_set"`

	// By class, each connection's share of what Idle has more than Base. Only
	// Holdfast tells.
	Classes map[string]int64 `json:"idle_bytes_per_connection_by_class,omitempty"`
	// By class, what Left has more than Base.
	LeftClasses map[string]int64 `json:"left_bytes_by_class,omitempty"`

	// CPU of the process per connection, accept to upgraded.
	CPUFirst time.Duration `json:"cpu_first_ns"`
	CPUAgain time.Duration `json:"cpu_reconnect_ns"`
}

// sizes are bytes, with so many stations idle unless it says otherwise.
type sizes struct {
	Base     int64 `json:"base_bytes"`        // nobody connected yet, warmed up
	Idle     int64 `json:"idle_bytes"`        // first connected
	Waves    int64 `json:"after_waves_bytes"` // after everybody left and came back so often
	Beats    int64 `json:"after_heartbeats_bytes"`
	Messages int64 `json:"after_messages_bytes"` // after one large message on each connection, which all but Holdfast echo
	Left     int64 `json:"left_bytes"`           // nobody connected any more
}

// each is the share of one of n connections in a reading.
func (s *sizes) each(reading int64, n int) int64 { return (reading - s.Base) / int64(n) }

// warmUp is how many stations do before the base is read what all will do, so
// that the code for it is resident already, and the buffers that all share.
const warmUp = 50

// measureMemory takes all targets through the same phases, side by side: each
// phase is done for one after the other, then all rest and are read.
func measureMemory(cfg memoryConfig, targets []*target, note func(string)) ([]memoryRow, error) {
	rows := make([]memoryRow, len(targets))
	each := func(what string, do func(t *target, r *memoryRow) error) error {
		for i, t := range targets {
			note(fmt.Sprintf("%s: %s", t.name, what))
			if err := do(t, &rows[i]); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		return nil
	}
	read := func(value func(s *sizes) *int64) error {
		note(fmt.Sprintf("all rest for %v", cfg.Rest))
		time.Sleep(cfg.Rest)
		return each("read", func(t *target, r *memoryRow) (err error) {
			if *value(&r.RSS), err = rss(t.pid); err != nil || t.pod == nil {
				return err
			}
			*value(&r.Pod), err = t.pod.workingSet()
			return err
		})
	}
	// classes adds an account to those of the chosen maps, or takes it off.
	classes := func(sign int64, idle, left bool) error {
		return each("account", func(t *target, r *memoryRow) error {
			if t.account == nil {
				return nil
			}
			account, err := t.account()
			if r.Classes == nil {
				r.Classes, r.LeftClasses = make(map[string]int64), make(map[string]int64)
			}
			for class, size := range account {
				if idle {
					r.Classes[class] += sign * size / int64(cfg.Stations)
				}
				if left {
					r.LeftClasses[class] += sign * size
				}
			}
			return err
		})
	}
	phases := []struct {
		what  string
		do    func(t *target, r *memoryRow) error
		value func(s *sizes) *int64
	}{
		{"warm up", func(t *target, r *memoryRow) error {
			r.Server = t.name
			few := cfg
			few.Stations = min(warmUp, cfg.Stations)
			if _, err := t.connect(few.Stations, cfg.AtOnce); err != nil {
				return err
			}
			for _, m := range []messagesRequest{{Heartbeats: cfg.Heartbeats, AtOnce: cfg.AtOnce}, {Size: cfg.Message, AtOnce: cfg.AtOnce}} {
				if err := t.messages(few, m); err != nil {
					return err
				}
			}
			return t.leave()
		}, func(s *sizes) *int64 { return &s.Base }},
		{fmt.Sprintf("connect %d stations", cfg.Stations), func(t *target, r *memoryRow) (err error) {
			r.CPUFirst, err = t.connect(cfg.Stations, cfg.AtOnce)
			return err
		}, func(s *sizes) *int64 { return &s.Idle }},
		{fmt.Sprintf("%d reconnect waves", cfg.Waves), func(t *target, r *memoryRow) error {
			for range cfg.Waves {
				if err := t.leave(); err != nil {
					return err
				}
				used, err := t.connect(cfg.Stations, cfg.AtOnce)
				if err != nil {
					return err
				}
				r.CPUAgain += used / time.Duration(cfg.Waves)
			}
			return nil
		}, func(s *sizes) *int64 { return &s.Waves }},
		{fmt.Sprintf("%d heartbeats of each", cfg.Heartbeats), func(t *target, _ *memoryRow) error {
			return t.messages(cfg, messagesRequest{Heartbeats: cfg.Heartbeats, AtOnce: cfg.AtOnce})
		}, func(s *sizes) *int64 { return &s.Beats }},
		{fmt.Sprintf("a message of %d bytes of each", cfg.Message), func(t *target, _ *memoryRow) error {
			return t.messages(cfg, messagesRequest{Size: cfg.Message, AtOnce: cfg.AtOnce})
		}, func(s *sizes) *int64 { return &s.Messages }},
		{"all leave", func(t *target, r *memoryRow) error { return t.leave() }, func(s *sizes) *int64 { return &s.Left }},
	}
	for i, p := range phases {
		if err := each(p.what, p.do); err != nil {
			return nil, err
		}
		if err := read(p.value); err != nil {
			return nil, err
		}
		var err error
		switch i {
		case 0:
			err = classes(-1, true, true)
		case 1:
			err = classes(1, true, false)
		case len(phases) - 1:
			err = classes(1, false, true)
		}
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// startEcho starts one of the servers of this binary, and its client.
func startEcho(kind, name, dir, credentials string) (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	server, err := startProcess(name, self, "serve", kind, dir)
	if err != nil {
		return nil, err
	}
	address, err := server.line()
	if err != nil {
		return nil, err
	}
	client, err := startClient(name, address, "/ocpp", credentials, filepath.Join(dir, caFile))
	if err != nil {
		server.stop()
		return nil, err
	}
	return &target{name: name, pid: server.pid, client: client, stop: func() error { client.stop(); return server.stop() }}, nil
}

// startClient starts a client process; it answers when it has read its
// credentials.
func startClient(server, address, prefix, credentials, ca string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := startProcess("client of "+server, self, "client", address, prefix, credentials, ca)
	if err != nil {
		return nil, err
	}
	if _, err := p.line(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}
