package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"holdfast/leak/hunt"
)

// writePage writes a hunt's report as one HTML document. Of the settings it
// tells those that matter to the figures, and no credentials.
func (c *leakHunt) writePage(out huntOutput) (err error) {
	f, err := os.Create(c.Report)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = fmt.Errorf("report: %w", closing)
		}
	}()
	page := hunt.Page{Report: out.Report, Evidence: out.Evidence, Settings: [][2]string{
		{"activities", strings.Join(c.Activities, ", ")},
		{"stations of each cohort", fmt.Sprint(c.Stations)},
		{"events at once", fmt.Sprint(c.Parallel)},
		{"time", c.For.String()},
		{"floor", hunt.Bytes(c.Floor) + " per event"},
		{"OCPP", string(c.Version)},
		{"holdfast", version},
	}}
	for _, t := range c.Target {
		profile, rest, ok := strings.Cut(t, "=")
		if !ok || len(profile) != 1 {
			profile, rest = "", t
		}
		if u, err := url.Parse(rest); err == nil {
			rest = u.Redacted()
		}
		page.Settings = append(page.Settings, [2]string{strings.TrimSpace("target " + profile), rest})
	}
	if err := page.Write(f); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
