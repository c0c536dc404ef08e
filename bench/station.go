package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// station is one simulated station: a connection with one goroutine that reads,
// and at most one CALL in flight.
type station struct {
	id   string
	cert tls.Certificate
	dial dial

	ws     *wsClient
	answer chan []byte   // buffered, 1: the frame that ends the call in flight
	gone   chan struct{} // closed by the reader at its end

	mu    sync.Mutex // held during a call
	calls int        // gives message ids
}

func (s *station) connected() bool {
	if s.ws == nil {
		return false
	}
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

func (s *station) connect() error {
	ws, err := s.dial.open()
	if err != nil {
		return fmt.Errorf("connect station %s: %w", s.id, err)
	}
	s.ws, s.answer, s.gone = ws, make(chan []byte, 1), make(chan struct{})
	go s.read(ws, s.answer, s.gone)
	return nil
}

// read passes answers on. An echo server returns the CALL itself, which is as
// good; the CALLs of a real server are not what is measured, so they are told
// that they are not supported.
func (s *station) read(ws *wsClient, answer chan<- []byte, gone chan<- struct{}) {
	defer close(gone)
	defer ws.raw.Close()
	for {
		frame, err := ws.read()
		if err != nil {
			return
		}
		if len(frame) > 2 && frame[1] == '2' && !isOwn(frame) {
			var call []json.RawMessage
			if json.Unmarshal(frame, &call) == nil && len(call) > 1 {
				ws.write(opText, fmt.Appendf(nil, `[4,%s,"NotImplemented","",{}]`, call[1]))
			}
			continue
		}
		select {
		case answer <- frame:
		default: // nobody waits
		}
	}
}

// messagePrefix marks the message ids of this client, to tell an echo from a
// CALL of the server.
const messagePrefix = "bench"

func isOwn(frame []byte) bool {
	const head = `[2,"` + messagePrefix
	return len(frame) > len(head) && string(frame[:len(head)]) == head
}

func (s *station) disconnect() {
	if s.ws == nil {
		return
	}
	s.ws.close()
	<-s.gone
	s.ws = nil
}

// cut is disconnect by a reset.
func (s *station) cut() {
	if s.ws == nil {
		return
	}
	s.ws.cut()
	<-s.gone
	s.ws = nil
}

const callTime = 30 * time.Second

var (
	errGone    = errors.New("connection ended")
	errTimeout = errors.New("no answer in time")
)

// call sends a CALL and returns the frame that answers it. Calls of one station
// wait for each other.
func (s *station) call(action string, payload []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws == nil {
		return nil, errGone
	}
	s.calls++
	frame := append([]byte(`[2,"`+messagePrefix), strconv.Itoa(s.calls)...)
	frame = append(append(append(append(frame, `","`...), action...), `",`...), payload...)
	frame = append(frame, ']')
	if err := s.ws.write(opText, frame); err != nil {
		return nil, fmt.Errorf("%s of station %s: %w", action, s.id, err)
	}
	timeout := time.NewTimer(callTime)
	defer timeout.Stop()
	select {
	case answer := <-s.answer:
		return answer, nil
	case <-s.gone:
		return nil, fmt.Errorf("%s of station %s: %w", action, s.id, errGone)
	case <-timeout.C:
		return nil, fmt.Errorf("%s of station %s: %w", action, s.id, errTimeout)
	}
}

// result returns the payload of a CALLRESULT; anything else is an error.
func result(frame []byte) (json.RawMessage, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(frame, &parts); err != nil {
		return nil, err
	}
	if len(parts) != 3 || string(parts[0]) != "3" {
		return nil, fmt.Errorf("answer is %.200s", frame)
	}
	return parts[2], nil
}
