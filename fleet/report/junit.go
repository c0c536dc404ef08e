package report

import (
	"encoding/xml"
	"fmt"
	"io"
)

type testSuites struct {
	XMLName xml.Name  `xml:"testsuites"`
	Suite   testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name      string     `xml:"name,attr"`
	Tests     int        `xml:"tests,attr"`
	Failures  int        `xml:"failures,attr"`
	Skipped   int        `xml:"skipped,attr"`
	Time      string     `xml:"time,attr"`
	Timestamp string     `xml:"timestamp,attr"`
	Cases     []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Failure *message `xml:"failure"`
	Skipped *message `xml:"skipped"`
}

type message struct {
	Text string `xml:"message,attr"`
}

// WriteJUnit writes the verdicts as JUnit XML, which pipelines show as tests. The
// comparison with the server's record is one of them.
func (res *Result) WriteJUnit(w io.Writer) error {
	suite := testSuite{Name: "fleet." + res.Scenario, Time: fmt.Sprintf("%.3f", res.Seconds), Timestamp: res.Started.UTC().Format("2006-01-02T15:04:05")}
	add := func(name string, failure, skipped string) {
		c := testCase{Name: name, Class: suite.Name}
		suite.Tests++
		if failure != "" {
			c.Failure = &message{failure}
			suite.Failures++
		}
		if skipped != "" {
			c.Skipped = &message{skipped}
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, c)
	}
	for _, v := range res.Verdicts {
		failure, skipped := "", ""
		switch {
		case v.Skipped:
			skipped = v.Unknown
		case v.Failed():
			failure = "is " + v.Figure()
		}
		add(v.Text, failure, skipped)
	}
	switch {
	case !res.Compared:
		add("ledger", "", notCompared)
	case len(res.Problems) > 0:
		add("ledger", fmt.Sprint(res.Problems), "")
	case res.Incomplete:
		add("ledger", "the comparison is incomplete", "")
	default:
		add("ledger", "", "")
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(testSuites{Suite: suite}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// Figure is the value with its unit.
func (v Verdict) Figure() string {
	switch {
	case v.Unknown != "":
		return "not known: " + v.Unknown
	case v.Unit == "s":
		return fmt.Sprintf("%.4g ms", v.Value*1000)
	case v.Unit == "%":
		return fmt.Sprintf("%.4g%%", v.Value)
	}
	return fmt.Sprintf("%g", v.Value)
}
