package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"holdfast/fleet"
)

// fleetVerify compares ledgers of earlier runs with the record.
type fleetVerify struct {
	clientFlags
	Ledgers []string `arg:"" name:"ledger" help:"Files of fleet run --ledger. Give those of all runs and shards whose stations are the same." type:"path" placeholder:"FILE"`
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
	ledgers, err := readLedgers(c.Ledgers)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
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

// readLedgers reads the ledgers of several runs.
func readLedgers(names []string) ([]*fleet.Ledger, error) {
	var ledgers []*fleet.Ledger
	began := make(map[time.Time]string)
	for _, name := range names {
		file, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, &usageError{fmt.Sprintf("no ledger %s: fleet run --ledger FILE writes one", name)}
		}
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		list, err := fleet.ReadLedgers(file, 0)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s is not a ledger: %w", name, err)
		}
		for _, l := range list {
			if other := began[l.Began()]; other != "" && other != name { // to the nanosecond: all of it would seem doubled
				return nil, &usageError{fmt.Sprintf("%s and %s are ledgers of the same run: give each once", other, name)}
			}
			began[l.Began()] = name
		}
		ledgers = append(ledgers, list...)
	}
	return ledgers, nil
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
