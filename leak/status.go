package leak

import (
	"math"
	"time"
)

// Status is what a Detector says now.
type Status struct {
	Process string        `json:"process"`
	Time    time.Time     `json:"time"`  // of the last sample
	Age     float64       `json:"age_h"` // of the process, hours
	State   State         `json:"state"` // the most serious of the classes
	Classes []ClassStatus `json:"classes"`
}

// ClassStatus is one class of a Status.
type ClassStatus struct {
	Class Class   `json:"class"`
	State State   `json:"state"`
	Value float64 `json:"value"` // bytes, or a count, at the last sample
	// PerConnection is what one connection adds, as estimated; Error its
	// standard error.
	PerConnection float64  `json:"per_connection"`
	Error         float64  `json:"per_connection_error"`
	Verdict       *Verdict `json:"verdict,omitempty"` // that stands
}

// Status returns the state of every class that is known.
func (d *Detector) Status() Status {
	s := Status{Process: d.cfg.Process, Time: d.last.Time, State: OK, Classes: []ClassStatus{}}
	if !d.last.Time.IsZero() {
		s.Age = d.last.Time.Sub(d.cfg.Start).Hours()
	}
	for i, c := range classes {
		v := d.last.Values[i]
		if math.IsNaN(v) || d.last.Time.IsZero() {
			continue
		}
		w := d.classes[i]
		cs := ClassStatus{Class: c, State: w.state, Value: v, PerConnection: finite(w.beta.Value), Error: finite(w.beta.SE)}
		if w.active {
			verdict := w.leak
			cs.Verdict = &verdict
		}
		if w.state.Severity() > s.State.Severity() {
			s.State = w.state
		}
		s.Classes = append(s.Classes, cs)
	}
	return s
}
