package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// callsFile is the file of fleet run --calls: a line of JSON for every CALL that
// ended. Stations write to it at the same time.
type callsFile struct {
	name string
	file *os.File

	mu  sync.Mutex
	w   *bufio.Writer
	err error // the first; nothing is written after it
}

// callLine is one CALL of a station. Times are in ms; at counts from the beginning.
type callLine struct {
	Station ocpp.StationID `json:"station"`
	ID      ocpp.MessageID `json:"message_id"`
	Action  string         `json:"action"`
	At      float64        `json:"at_ms"`      // when it was to be sent
	Waited  float64        `json:"waited_ms"`  // until it was sent, for answers to others
	Latency float64        `json:"latency_ms"` // from at to the end
	Outcome fleet.Outcome  `json:"outcome"`    // result, error, timeout, offline
	Code    ocpp.ErrorCode `json:"code,omitempty"`
}

func createCalls(name string) (*callsFile, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("calls: %w", err)
	}
	return &callsFile{name: name, file: file, w: bufio.NewWriterSize(file, 64<<10)}, nil
}

func (f *callsFile) call(c fleet.CallRecord) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	line, err := json.Marshal(callLine{c.Station, c.ID, c.Action, ms(c.Due), ms(c.Sent - c.Due), ms(c.Latency()), c.Outcome, c.Code})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	if f.err = err; err == nil {
		_, f.err = f.w.Write(append(line, '\n'))
	}
}

// close writes what is left and tells the first error.
func (f *callsFile) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.err
	if err == nil {
		err = f.w.Flush()
	}
	if closing := f.file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("calls %s: %w", f.name, err)
	}
	return nil
}
