package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"holdfast/fleet"
)

// Assertion compares one figure of a run with a value: "p99 < 50ms", "lost == 0",
// "connected >= 99%".
type Assertion struct {
	Text   string
	Metric string // such as p99 or errors.tls
	Action string // of p99(StartTransaction); empty: all
	Op     string // < <= > >= == !=
	Value  float64
	Unit   string // s, % or nothing
}

// Metrics are the figures that can be compared, with what they mean.
var Metrics = []struct{ Name, About string }{
	{"p50", "median of the CALLs' latency from when they were to be sent; p50(Action) of one action"},
	{"p90", "and so on"},
	{"p99", ""},
	{"p999", ""},
	{"max", ""},
	{"connect_p50", "median of the time from when a station was to dial to the end of the upgrade"},
	{"connect_p99", ""},
	{"connect_max", ""},
	{"connected", "stations connected at the end of the last phase; in % of those that are to be"},
	{"min_connected", "least number of stations connected after the first phase; in % of all"},
	{"connects", "connections made"},
	{"refused", "attempts to connect that a station made in earnest and the server refused"},
	{"admitted", "attempts to connect with a fault that the server should have refused and did not"},
	{"calls", "CALLs that were answered"},
	{"callerrors", "CALLs that were answered with a CALLERROR"},
	{"timeouts", "CALLs without an answer in time"},
	{"transactions", "transactions in the ledger"},
	{"lost", "what the server acknowledged and does not have, and transaction messages that were given up or not acknowledged two minutes after the end"},
	{"doubled", "what the server has twice"},
	{"altered", "what the server has with another value"},
	{"unknown", "transactions that no station began"},
	{"commands", "commands of the operator that were answered"},
	{"command_errors", "commands that failed at a station that is connected"},
	{"errors", "all errors; errors.KIND of one kind: " + strings.Join(fleet.ErrorKinds(), ", ")},
}

var assertion = regexp.MustCompile(`^\s*([a-z_0-9]+(?:\.[a-z_]+)?)(?:\(([A-Za-z]{1,64})\))?\s*(<=|>=|==|!=|=|<|>)\s*([0-9][0-9.]*)\s*(µs|us|ms|s|m|h|%)?\s*$`)

// ParseAssertion reads a comparison.
func ParseAssertion(text string) (Assertion, error) {
	m := assertion.FindStringSubmatch(text)
	if m == nil {
		return Assertion{}, fmt.Errorf("%q is not a comparison such as p99<50ms or lost==0", text)
	}
	a := Assertion{Text: strings.TrimSpace(text), Metric: m[1], Action: m[2], Op: m[3]}
	if a.Op == "=" {
		a.Op = "=="
	}
	base, kind, dotted := strings.Cut(a.Metric, ".")
	known := false
	for _, x := range Metrics {
		known = known || x.Name == base && dotted == (kind != "") && (!dotted || base == "errors")
	}
	latency := strings.HasPrefix(base, "p") && base != "p" || base == "max"
	switch {
	case !known:
		return a, fmt.Errorf("%q: no figure %q", text, a.Metric)
	case dotted && !slices.Contains(fleet.ErrorKinds(), kind):
		return a, fmt.Errorf("%q: no errors of the kind %q: %s", text, kind, strings.Join(fleet.ErrorKinds(), ", "))
	case a.Action != "" && !latency:
		return a, fmt.Errorf("%q: only latencies are of an action", text)
	}
	var err error
	if a.Value, err = strconv.ParseFloat(m[4], 64); err != nil {
		return a, fmt.Errorf("%q: %q is not a number", text, m[4])
	}
	isTime := latency || strings.HasPrefix(base, "connect_")
	switch unit := m[5]; {
	case unit == "%":
		if base != "connected" && base != "min_connected" {
			return a, fmt.Errorf("%q: only connected and min_connected are compared in %%", text)
		}
		a.Unit = "%"
	case unit != "":
		d, err := time.ParseDuration(m[4] + unit)
		if err != nil || !isTime {
			return a, fmt.Errorf("%q: %s is not a time", text, a.Metric)
		}
		a.Value, a.Unit = d.Seconds(), "s"
	case isTime:
		return a, fmt.Errorf("%q: a time needs a unit, such as ms", text)
	}
	return a, nil
}

// UnmarshalYAML reads a comparison.
func (a *Assertion) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	v, err := ParseAssertion(text)
	if err != nil {
		return at(node, "%s", err)
	}
	*a = v
	return nil
}

// Holds compares a figure.
func (a Assertion) Holds(v float64) bool {
	switch a.Op {
	case "<":
		return v < a.Value
	case "<=":
		return v <= a.Value
	case ">":
		return v > a.Value
	case ">=":
		return v >= a.Value
	case "==":
		return v == a.Value
	}
	return v != a.Value
}
