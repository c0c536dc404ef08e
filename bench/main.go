package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

const usage = `usage: bench COMMAND [flags]

  memory   resident set and CPU per idle mutual-TLS connection, beside other servers
  speed    StartTransaction commits per second and CALL round trips of a running Holdfast
  all      both

bench COMMAND -h lists the flags. Holdfast itself is built before: bin/holdfast.
`

func main() {
	err := run(os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func run(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no command")
	}
	switch command, rest := args[0], args[1:]; {
	case command == "serve" && len(rest) == 2: // the child processes
		return runServer(rest[0], rest[1])
	case command == "client" && len(rest) == 4:
		return runClient(rest[0], rest[1], rest[2], rest[3])
	case command == "memory" || command == "speed" || command == "all":
		return bench(command, rest)
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("no command %q", args[0])
}

// options are the flags of all commands.
type options struct {
	memory   memoryConfig
	servers  string
	holdfast string
	speed    speedConfig
	json     string
	quiet    bool
}

func (o *options) parse(command string, args []string) error {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	f.StringVar(&o.holdfast, "holdfast", "../bin/holdfast", "the Holdfast `binary`")
	f.StringVar(&o.json, "json", "", "write the figures as JSON to this `file`; - for standard output instead of the table")
	f.BoolVar(&o.quiet, "quiet", false, "say nothing about progress")
	if command != "speed" {
		f.IntVar(&o.memory.Stations, "stations", 2000, "stations with a certificate each")
		f.IntVar(&o.memory.Waves, "waves", 3, "reconnect waves")
		f.DurationVar(&o.memory.Rest, "rest", 20*time.Second, "rest before each reading; more than 2m includes Go's periodic collection")
		f.IntVar(&o.memory.AtOnce, "at-once", 32, "handshakes in flight")
		f.IntVar(&o.memory.Message, "message", 16<<10, "size of the large message, in bytes")
		f.IntVar(&o.memory.Heartbeats, "heartbeats", 12, "heartbeats of each station; 12 are an hour's worth")
		f.StringVar(&o.servers, "servers", "bare,gorilla,coder,ws,gateway", "what to measure, in this order")
	}
	if command != "memory" {
		f.IntVar(&o.speed.Stations, "load-stations", 500, "stations that send")
		f.IntVar(&o.speed.Rate, "rate", 2000, "CALLs per second of the round trip measurement")
		f.DurationVar(&o.speed.Time, "time", 15*time.Second, "duration of each measurement")
		f.StringVar(&o.speed.databases, "databases", "sqlite,postgres", "databases to measure")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return nil
}

// figures is the output.
type figures struct {
	Time   time.Time   `json:"time"`
	Go     string      `json:"go"`
	CPUs   int         `json:"cpus"`
	Load   string      `json:"load_average"` // before: what else the machine did
	Memory *memoryPart `json:"memory,omitempty"`
	Speed  *speedPart  `json:"speed,omitempty"`
}

func bench(command string, args []string) error {
	var o options
	if err := o.parse(command, args); err != nil {
		return err
	}
	note := func(text string) {
		if !o.quiet {
			fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05"), text)
		}
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	oneMinute, _, _ := strings.Cut(string(load), " ")
	out := figures{Time: time.Now(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Load: oneMinute}
	if command != "speed" {
		if out.Memory, err = runMemory(&o, dir, note); err != nil {
			return err
		}
	}
	if command != "memory" {
		if out.Speed, err = runSpeed(&o, dir, note); err != nil {
			return err
		}
	}
	if o.json != "-" {
		out.print(os.Stdout)
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(&out, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if o.json == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(o.json, text, 0o644)
}
