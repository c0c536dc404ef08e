package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/scenario"
	"holdfast/ocpp"
)

// fleetScenarios lists what comes with the program.
type fleetScenarios struct {
	Name string `arg:"" optional:"" help:"Print this one's YAML, to begin one's own with."`
}

// scenarioView is one of them.
type scenarioView struct {
	Name     string  `json:"name"`
	About    string  `json:"about"`
	Stations int     `json:"stations"`
	Seconds  float64 `json:"seconds"`
}

func (c *fleetScenarios) Run(e *env) error {
	if c.Name != "" {
		text, err := scenario.Text(c.Name)
		if err != nil {
			return &usageError{fmt.Sprintf("no scenario %q: %s", c.Name, strings.Join(scenario.Shipped(), ", "))}
		}
		_, err = e.stdout.Write(text)
		return err
	}
	var rows []scenarioView
	for _, name := range scenario.Shipped() {
		s, err := scenario.Load(name)
		if err != nil {
			return err
		}
		rows = append(rows, scenarioView{name, s.About, s.Stations, s.For().Seconds()})
	}
	return e.print(rows, func(w io.Writer) {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tTIME\tWHAT HAPPENS")
		for _, r := range rows {
			fmt.Fprintf(table, "%s\t%s\t%s\n", r.Name, time.Duration(r.Seconds*float64(time.Second)), r.About)
		}
		table.Flush()
	})
}

// fleetCheck says whether scenarios can be run, without running them.
type fleetCheck struct {
	Files   []string `arg:"" optional:"" name:"scenario" help:"Names or YAML files." placeholder:"NAME|FILE"`
	Figures bool     `help:"List the figures that assert and --fail-on compare."`
}

// checkView is what a scenario would do.
type checkView struct {
	Scenario string         `json:"scenario"`
	Problems []problemView  `json:"problems,omitempty"`
	Stations int            `json:"stations,omitempty"`
	Seconds  float64        `json:"seconds,omitempty"`
	Actions  map[string]int `json:"actions,omitempty"` // join, leave, double, command; faults by name
}

type problemView struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	What   string `json:"what"`
}

type figureView struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

func (c *fleetCheck) Run(e *env) error {
	if c.Figures {
		var rows []figureView
		for _, m := range scenario.Metrics {
			rows = append(rows, figureView(m))
		}
		return e.print(rows, func(w io.Writer) {
			table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for _, r := range rows {
				fmt.Fprintf(table, "%s\t%s\n", r.Name, r.About)
			}
			table.Flush()
		})
	}
	if len(c.Files) == 0 {
		return &usageError{"fleet check: give a scenario's name or file"}
	}
	var views []checkView
	bad := false
	for _, file := range c.Files {
		v := checkView{Scenario: file}
		s, err := scenario.Load(file)
		switch invalid, ok := err.(*scenario.Invalid); {
		case ok:
			for _, p := range invalid.Problems {
				v.Problems = append(v.Problems, problemView{p.Line, p.Column, p.What})
			}
		case err != nil:
			v.Problems = []problemView{{What: err.Error()}}
		default:
			v.foresee(s)
		}
		bad = bad || len(v.Problems) > 0
		views = append(views, v)
	}
	err := e.print(views, func(w io.Writer) {
		for _, v := range views {
			v.print(w)
		}
	})
	if err == nil && bad {
		return errSilent
	}
	return err
}

// foresee counts what a scenario does.
func (v *checkView) foresee(s *scenario.Scenario) {
	list := make([]fleet.Identity, s.Stations)
	for i := range list {
		list[i].ID = ocpp.StationID(fmt.Sprint(i))
	}
	stations := s.Assign(list, false)
	v.Stations, v.Seconds, v.Actions = s.Stations, s.Length(stations).Seconds(), make(map[string]int)
	for a := range s.Plan(stations, 1) {
		name := string(a.What)
		if a.What == scenario.Fault {
			name = a.Fault.String()
		}
		v.Actions[name]++
	}
}

func (v *checkView) print(w io.Writer) {
	for _, p := range v.Problems {
		if p.Line > 0 {
			fmt.Fprintf(w, "%s:%d:%d: %s\n", v.Scenario, p.Line, p.Column, p.What)
		} else {
			fmt.Fprintf(w, "%s: %s\n", v.Scenario, p.What)
		}
	}
	if len(v.Problems) == 0 {
		fmt.Fprintf(w, "%s: good. %d stations, %s, %v\n", v.Scenario, v.Stations, time.Duration(v.Seconds*float64(time.Second)).Round(time.Second), v.Actions)
	}
}
