package main

import (
	"fmt"
	"io"
	"os"

	"holdfast/fleet"
)

// fleetVerify compares ledgers of earlier runs with the record.
type fleetVerify struct {
	clientFlags
	Ledgers []string `arg:"" name:"ledger" help:"Files of fleet run --ledger. Give those of all runs and shards whose stations are the same." type:"existingfile" placeholder:"FILE"`
}

// verifyView is the result.
type verifyView struct {
	OK             bool                      `json:"ok"`
	Stations       int                       `json:"stations"`
	Transactions   int                       `json:"transactions"`
	MeterValues    int                       `json:"meter_values"`
	Unacknowledged int                       `json:"unacknowledged"` // the server may or may not have them
	Overflow       int                       `json:"overflow"`       // what the ledgers had no room for
	Counts         map[fleet.ProblemKind]int `json:"counts"`
	Problems       []string                  `json:"problems"` // the first 1,000
}

func (c *fleetVerify) Run(e *env) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var ledgers []*fleet.Ledger
	for _, name := range c.Ledgers {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		list, err := fleet.ReadLedgers(file, 0)
		file.Close()
		if err != nil {
			return fmt.Errorf("%s is not a ledger: %w", name, err)
		}
		ledgers = append(ledgers, list...)
	}
	r, err := (&fleetOperator{cl}).verify(e.ctx, ledgers)
	if err != nil {
		return err
	}
	view := verifyView{r.OK(), r.Stations, r.Transactions, r.Values, r.Unacknowledged, r.Overflow, r.Counts, []string{}}
	for _, p := range r.Problems {
		view.Problems = append(view.Problems, p.String())
	}
	err = e.print(view, func(w io.Writer) {
		fmt.Fprintf(w, "%d transactions, %d meter values of %d stations compared with the record; %d transactions were not acknowledged whole\n",
			r.Transactions, r.Values, r.Stations, r.Unacknowledged)
		for _, p := range view.Problems {
			fmt.Fprintln(w, plain(p))
		}
		if r.Overflow > 0 {
			fmt.Fprintf(w, "incomplete: the ledgers had no room for %d transactions and meter values\n", r.Overflow)
		}
		if r.OK() {
			fmt.Fprintln(w, "nothing missing, doubled or altered")
		} else {
			fmt.Fprintf(w, "missing %d, doubled %d, altered %d, unknown %d\n",
				r.Counts[fleet.Missing], r.Counts[fleet.Doubled], r.Counts[fleet.Altered], r.Counts[fleet.Unknown])
		}
	})
	if err == nil && !r.OK() {
		return errSilent
	}
	return err
}

// writeLedgers keeps the ledgers of a run for a later comparison.
func writeLedgers(name string, ledgers []*fleet.Ledger) error {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, l := range ledgers {
		if err == nil {
			err = l.Write(file)
		}
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("ledger %s: %w", name, err)
	}
	return nil
}
