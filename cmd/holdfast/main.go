// Command holdfast is the connectivity platform of a charge point operator: one
// binary, one role per command, or every role in one process.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// Exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1 // refused or failed
	exitUsage   = 2 // wrong usage
	exitAtOnce  = 3 // ended by a second signal, without draining
	description = "Holdfast keeps charging stations connected: OCPP over TLS and mutual TLS."
)

// CLI is the command table. A field is a flag, an environment variable
// HOLDFAST_… and a key of the --config file.
type CLI struct {
	Config    kong.ConfigFlag `help:"YAML file with the same names as the flags (listen-tls: …)." placeholder:"FILE"`
	JSON      bool            `name:"json" help:"Machine-readable output."`
	LogLevel  string          `help:"Least level of log lines: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string          `help:"Log lines as text or json." enum:"text,json" default:"text"`

	All       allCommand       `cmd:"" help:"Run every role in one process, with NATS embedded and SQLite."`
	Gateway   gatewayCommand   `cmd:"" help:"Run a gateway: hold stations' connections."`
	Authority authorityCommand `cmd:"" help:"Run the authority: PKI and admission."`
	CSMS      csmsCommand      `cmd:"" name:"csms" help:"Run the management core: answer stations, serve the operator API."`

	Station   stationCommands   `cmd:"" help:"Register and administer charging stations."`
	Operation operationCommands `cmd:"" help:"Follow what is being done to stations' credentials."`
	Campaign  campaignCommands  `cmd:"" help:"Do one operation on many stations, at a pace."`
	Cert      certCommands      `cmd:"" help:"List, revoke and sign certificates."`
	Call      callCommand       `cmd:"" help:"Send one OCPP CALL to a station and print its answer."`
	Token     tokenCommands     `cmd:"" help:"Make and revoke tokens of the operator API."`
	Login     loginCommand      `cmd:"" help:"Log in to the operator API at its OIDC provider."`
	Logout    logoutCommand     `cmd:"" help:"Forget that login."`
	NATS      natsCommands      `cmd:"" name:"nats" help:"Secure the NATS that the roles talk over."`

	Fleet fleetCommands `cmd:"" help:"Simulate charging stations."`
	Leak  leakCommands  `cmd:"" help:"What leaks memory, and experiments that find out."`
	Debug debugCommands `cmd:"" help:"Tools for tests from outside."`

	Version versionCommand `cmd:"" help:"Print the version."`
}

// env is what a command works with.
type env struct {
	ctx    context.Context
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
	json   bool
}

// print writes v as JSON with --json, else runs text.
func (e *env) print(v any, text func(w io.Writer)) error {
	if !e.json {
		text(e.stdout)
		return nil
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func main() {
	ctx, stop := signalContext()
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// sameSignal is how soon after the first signal another one is still the same:
// make, timeout and terminals signal a process and its group in one go.
const sameSignal = 200 * time.Millisecond

// signalContext ends with the first SIGINT or SIGTERM; a second one ends the
// process at once.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		first := time.Now()
		cancel()
		for time.Since(first) < sameSignal {
			<-signals
		}
		fmt.Fprintln(os.Stderr, "holdfast: second signal, ending at once")
		os.Exit(exitAtOnce)
	}()
	return ctx, cancel
}

// errSilent ends a command with exit status 1; what there is to say was printed.
var errSilent = errors.New("failed")

// run is main without the process: tests call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli CLI
	usage := false
	parser, err := kong.New(&cli,
		kong.Name("holdfast"), kong.Description(description),
		kong.DefaultEnvars("HOLDFAST"),
		kong.Configuration(loadYAML),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { usage = true }),
	)
	if err != nil {
		fmt.Fprintf(stderr, "holdfast: %s\n", oneLine(err))
		return exitUsage
	}
	k, err := parser.Parse(args)
	if usage { // --help
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "holdfast: %s (holdfast --help lists commands and flags)\n", oneLine(err))
		return exitUsage
	}
	e := &env{ctx: ctx, stdout: stdout, stderr: stderr, log: newLogger(stderr, cli.LogLevel, cli.LogFormat), json: cli.JSON}
	err = k.Run(e)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errSilent):
		return exitFailed
	}
	fmt.Fprintf(stderr, "holdfast: %s\n", oneLine(err))
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// oneLine is the text of an error on one line: some drivers break theirs.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), " ")
}

// usageError is a wrong combination of flags.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	l.UnmarshalText([]byte(level)) // one of kong's enum
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
