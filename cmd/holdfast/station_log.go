package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/api"
	"holdfast/ocpp"
)

type stationLog struct {
	ID     string `arg:"" help:"Identity of the station."`
	Last   int    `help:"How many of the newest messages." default:"50"`
	Follow bool   `short:"f" help:"Go on as messages come."`
}

func (c *stationLog) Run(e *env, parent *stationCommands) error {
	if c.Last < 0 || c.Last > 1000 {
		return &usageError{"--last: want 0 to 1000"}
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	if c.Follow {
		query := url.Values{"tail": {strconv.Itoa(c.Last)}}
		return cl.follow(e.ctx, stationURL(c.ID, "/messages/follow"), query, func(_ string, data []byte) error {
			var f api.Frame
			if err := json.Unmarshal(data, &f); err != nil {
				return fmt.Errorf("message of the stream: %w", err)
			}
			if e.json {
				return e.printJSON(f)
			}
			printFrame(e.stdout, f)
			return nil
		})
	}
	var page api.MessagePage
	query := url.Values{"last": {"true"}, "limit": {strconv.Itoa(max(c.Last, 1))}}
	if err := cl.do(e.ctx, http.MethodGet, stationURL(c.ID, "/messages"), query, nil, &page); err != nil {
		return err
	}
	return e.print(page.Items, func(w io.Writer) {
		for _, f := range page.Items {
			printFrame(w, f)
		}
	})
}

// printFrame shows > for messages of the station and < for those to it.
func printFrame(w io.Writer, f api.Frame) {
	arrow := "<"
	if f.Direction == ocpp.Up {
		arrow = ">"
	}
	fmt.Fprintf(w, "%s %s %s\n", f.At.Local().Format(time.DateOnly+" "+"15:04:05.000"), arrow, plain(f.Frame))
}
