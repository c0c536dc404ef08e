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
  storm    a gateway is killed and its stations come back at once
  scale    95,000 stations on five gateways, from five fleets
  table    where the bytes go, by part and variant; rewrites the tables of a document
  all      memory and speed

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
	case command == "memory" || command == "speed" || command == "all" || command == "storm" || command == "scale" || command == "table":
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
	storm    stormConfig
	scale    scaleConfig
	table    tableConfig
	json     string
	quiet    bool
}

func (o *options) parse(command string, args []string) error {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	f.StringVar(&o.holdfast, "holdfast", "../bin/holdfast", "the Holdfast `binary`")
	f.StringVar(&o.json, "json", "", "write the figures as JSON to this `file`; - for standard output instead of the table")
	f.BoolVar(&o.quiet, "quiet", false, "say nothing about progress")
	if command == "memory" || command == "all" {
		f.IntVar(&o.memory.Stations, "stations", 4000, "stations with a certificate each")
		f.IntVar(&o.memory.Waves, "waves", 3, "reconnect waves")
		f.DurationVar(&o.memory.Rest, "rest", 40*time.Second, "rest before each reading; a gateway gives memory back after 30s without coming and going")
		f.IntVar(&o.memory.AtOnce, "at-once", 32, "handshakes in flight")
		f.IntVar(&o.memory.Message, "message", 16<<10, "size of the large message, in bytes")
		f.IntVar(&o.memory.Heartbeats, "heartbeats", 12, "heartbeats of each station; 12 are an hour's worth")
		f.StringVar(&o.servers, "servers", "bare,gorilla,coder,ws,gateway", "what to measure, in this order")
	}
	if command == "speed" || command == "all" {
		f.IntVar(&o.speed.Stations, "load-stations", 500, "stations that send")
		f.IntVar(&o.speed.Rate, "rate", 2000, "CALLs per second of the round trip measurement")
		f.DurationVar(&o.speed.Time, "time", 15*time.Second, "duration of each measurement")
		f.StringVar(&o.speed.databases, "databases", "sqlite,postgres", "databases to measure")
	}
	if command == "storm" {
		f.IntVar(&o.storm.Stations, "stations", 4000, "stations of the gateway that is lost, at most 19000")
		f.IntVar(&o.storm.Bystander, "bystanders", 500, "stations of another gateway")
		f.IntVar(&o.storm.Rate, "rate", 500, "CALLs per second of the bystanders")
		f.DurationVar(&o.storm.Rest, "rest", 35*time.Second, "rest before and after each storm; a gateway gives memory back after 30s without coming and going")
		f.DurationVar(&o.storm.Retry, "retry", time.Second, "how long a station that fails waits, on average")
		f.DurationVar(&o.storm.Time, "time", 3*time.Minute, "for one storm at most")
		f.StringVar(&o.storm.Profiles, "profiles", "", "write a CPU profile of the gateway in each storm to this `directory`, which costs some CPU itself")
	}
	if command == "scale" {
		f.IntVar(&o.scale.Gateways, "gateways", 5, "gateways, each with a fleet of its own")
		f.IntVar(&o.scale.Stations, "stations", 19000, "stations of each gateway, at most 19000")
		f.IntVar(&o.scale.Calls, "calls", 1000, "CALLs to stations taken at random")
		f.DurationVar(&o.scale.Rest, "rest", time.Minute, "rest before reading; a gateway gives memory back after 30s without coming and going")
		f.DurationVar(&o.scale.Time, "time", 10*time.Minute, "for one fleet to register and connect, at most")
	}
	if command == "table" {
		f.IntVar(&o.table.Stations, "stations", 1000, "stations of each variant")
		f.IntVar(&o.table.Heartbeats, "heartbeats", 1000, "heartbeats of each station, in the variant that has them")
		f.IntVar(&o.table.Waves, "waves", 10, "reconnect waves, in the variant that has them")
		f.DurationVar(&o.table.Rest, "rest", 40*time.Second, "rest before each reading; a gateway gives memory back after 30s without coming and going")
		f.StringVar(&o.table.Doc, "doc", "", "rewrite the tables between the markers of this `file`, instead of writing them to standard output")
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
	Storm  *stormPart  `json:"storm,omitempty"`
	Scale  *scalePart  `json:"scale,omitempty"`
	Table  *tablePart  `json:"table,omitempty"`
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
	switch command {
	case "storm":
		out.Storm, err = runStorm(&o, dir, note)
	case "scale":
		out.Scale, err = runScale(&o, dir, note)
	case "table":
		out.Table, err = runTable(&o, dir, note)
	case "memory", "all":
		out.Memory, err = runMemory(&o, dir, note)
	}
	if err == nil && (command == "speed" || command == "all") {
		out.Speed, err = runSpeed(&o, dir, note)
	}
	if err != nil {
		return err
	}
	if o.table.Doc != "" {
		if err := out.rewrite(o.table.Doc); err != nil {
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
