package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"holdfast/fleet"
)

// fleetQuirks lists the table of faults and quirks.
type fleetQuirks struct{}

// quirkView is one row of it.
type quirkView struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // event, attempt, habit
	About    string `json:"about"`
	Reaction string `json:"reaction"`
	Refused  string `json:"refused,omitempty"` // kind of error that an attempt ends with
	Code     int    `json:"code,omitempty"`    // close code
}

func (fleetQuirks) Run(e *env) error {
	var rows []quirkView
	for _, f := range fleet.Faults() {
		kind := "event"
		switch {
		case f.Connecting():
			kind = "attempt"
		case f.Quirk():
			kind = "habit"
		}
		r := f.Reaction()
		rows = append(rows, quirkView{f.String(), kind, f.About(), r.Says, r.Refused, r.Code})
	}
	return e.print(rows, func(w io.Writer) {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tKIND\tTHE STATION\tA GOOD SERVER")
		for _, r := range rows {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.Name, r.Kind, r.About, r.Reaction)
		}
		table.Flush()
	})
}
