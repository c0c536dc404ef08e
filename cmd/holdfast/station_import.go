package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/ocpp"
)

// stationImport registers the stations of a CSV file.
type stationImport struct {
	File         string `arg:"" help:"CSV file with a header: id, and any of profile, serial, version, user, password, algorithm and label:NAME. - reads standard input."`
	Profile      int    `help:"Security profile of lines that have none." enum:"1,2,3" default:"2"`
	Out          string `short:"o" help:"Directory for what is made: passwords.csv, and ID.crt and ID.key of profile 3. Needed if anything is." type:"path" placeholder:"DIR"`
	NoKey        bool   `help:"Make no keys and certificates (profile 3): the stations have them or send signing requests."`
	SkipExisting bool   `help:"Pass over stations that are registered already."`
	DryRun       bool   `help:"Only check the file."`
}

const (
	maxImport       = 100_000 // lines of one file
	maxImportErrors = 50      // that are shown
	importsAtOnce   = 4
)

// importLine is one station of a file.
type importLine struct {
	number  int
	station api.NewStation
}

// lineError is what is wrong with a line.
type lineError struct {
	Line    int    `json:"line"`
	Station string `json:"station,omitempty"`
	Problem string `json:"problem"`
}

func (e lineError) Error() string {
	if e.Station == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
	}
	return fmt.Sprintf("line %d: station %s: %s", e.Line, plain(e.Station), e.Problem)
}

// imported is what became of a file.
type imported struct {
	Stations int         `json:"stations"` // in the file
	Added    int         `json:"added"`
	Skipped  int         `json:"skipped"` // registered already
	Errors   []lineError `json:"errors"`
}

func (c *stationImport) Run(e *env, parent *stationCommands) error {
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("stations: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines, errs := readStations(in, ocpp.SecurityProfile(c.Profile), c.NoKey)
	result := imported{Stations: len(lines), Errors: errs}
	switch {
	case len(errs) > 0:
		return c.finish(e, result, "nothing was imported")
	case c.Out == "" && !c.DryRun:
		for _, l := range lines {
			if what := makes(l.station); what != "" {
				return fmt.Errorf("line %d: a %s is made for station %s: say where to with --out DIR", l.number, what, plain(string(l.station.ID)))
			}
		}
	}
	if c.DryRun {
		return c.finish(e, result, "")
	}
	cl, err := parent.client()
	if err != nil {
		return err
	}
	passwords, err := c.passwords()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(importsAtOnce)
	for _, l := range lines {
		if e.ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			added, err := c.add(e.ctx, cl, l.station)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && added.Password != "" {
				err = passwords.write(l.station.ID, added.Password)
			}
			exists, _ := errors.AsType[*apiError](err)
			switch {
			case err == nil:
				result.Added++
			case c.SkipExisting && exists != nil && exists.Status == http.StatusConflict:
				result.Skipped++
			default:
				result.Errors = append(result.Errors, lineError{l.number, string(l.station.ID), err.Error()})
			}
			return nil
		})
	}
	err = errors.Join(g.Wait(), passwords.close(), e.ctx.Err())
	slices.SortFunc(result.Errors, func(a, b lineError) int { return a.Line - b.Line })
	if err != nil {
		return err
	}
	return c.finish(e, result, "the other lines were imported: mend these and import again with --skip-existing")
}

// makes says which secret is made for a station, empty if none is.
func makes(s api.NewStation) string {
	switch {
	case s.Profile == ocpp.ProfileMTLS && !s.NoCertificate:
		return "key"
	case s.Profile != ocpp.ProfileMTLS && s.Password == "":
		return "password"
	}
	return ""
}

func (c *stationImport) add(ctx context.Context, cl *client, s api.NewStation) (added api.AddedStation, err error) {
	var files *credentialFiles
	if makes(s) == "key" { // a key that cannot be written is lost: look first
		if files, err = prepareFiles(c.Out, string(s.ID), false); err != nil {
			return added, err
		}
	}
	if err := cl.do(ctx, http.MethodPost, "/api/v1/stations", nil, s, &added); err != nil || files == nil || added.Certificate == nil {
		return added, err
	}
	if err := files.write(*added.Certificate); err != nil {
		return added, fmt.Errorf("registered, but %w (holdfast station certificate makes another key)", err)
	}
	return added, nil
}

// passwordFile has the passwords that were made, one station a line.
type passwordFile struct {
	file *os.File
	csv  *csv.Writer
}

func (c *stationImport) passwords() (passwordFile, error) {
	if c.Out == "" {
		return passwordFile{}, nil
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return passwordFile{}, fmt.Errorf("directory for the passwords: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.Out, "passwords.csv"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return passwordFile{}, fmt.Errorf("file for the passwords: %w", err)
	}
	return passwordFile{f, csv.NewWriter(f)}, nil
}

// write adds a password, which nobody can read again: it is in the file before
// the next station is registered.
func (p passwordFile) write(id ocpp.StationID, password string) error {
	if err := p.csv.Write([]string{string(id), password}); err != nil {
		return err
	}
	p.csv.Flush()
	if err := p.csv.Error(); err != nil {
		return fmt.Errorf("registered, but its password was not written: %w (holdfast station password makes another one)", err)
	}
	return nil
}

func (p passwordFile) close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

func (c *stationImport) finish(e *env, r imported, hint string) error {
	if r.Errors == nil {
		r.Errors = []lineError{}
	}
	if err := e.print(r, func(w io.Writer) {
		for _, line := range r.Errors[:min(len(r.Errors), maxImportErrors)] {
			fmt.Fprintln(e.stderr, line.Error())
		}
		if n := len(r.Errors) - maxImportErrors; n > 0 {
			fmt.Fprintf(e.stderr, "… and %d more\n", n)
		}
		if c.DryRun {
			fmt.Fprintf(w, "%d stations, %d errors\n", r.Stations, len(r.Errors))
			return
		}
		fmt.Fprintf(w, "%d stations: %d added, %d registered already, %d errors\n", r.Stations, r.Added, r.Skipped, len(r.Errors))
		if len(r.Errors) > 0 && hint != "" {
			fmt.Fprintln(e.stderr, hint)
		}
	}); err != nil {
		return err
	}
	if len(r.Errors) > 0 {
		return errSilent
	}
	return nil
}

// readStations reads and checks a whole file; what is wrong is told by line.
func readStations(in io.Reader, profile ocpp.SecurityProfile, noKey bool) (lines []importLine, errs []lineError) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err != nil {
		return nil, []lineError{{Line: 1, Problem: "no header: " + err.Error()}}
	}
	for i, name := range header {
		header[i] = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")) // spreadsheets begin files with it
	}
	if problem := checkHeader(header); problem != "" {
		return nil, []lineError{{Line: 1, Problem: problem}}
	}
	seen := make(map[string]int) // line by identity
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			return lines, append(errs, lineError{Line: bad.Line, Problem: bad.Err.Error()})
		}
		if err != nil {
			return lines, append(errs, lineError{Problem: err.Error()})
		}
		number, _ := r.FieldPos(0)
		if len(lines)+len(errs) >= maxImport {
			return lines, append(errs, lineError{Line: number, Problem: fmt.Sprintf("more than %d stations: split the file", maxImport)})
		}
		s, problem := readStation(header, record, profile, noKey)
		if first, twice := seen[s.ID.Fold()]; problem == "" && twice {
			problem = fmt.Sprintf("is on line %d already", first)
		}
		if problem != "" {
			errs = append(errs, lineError{number, string(s.ID), problem})
			continue
		}
		seen[s.ID.Fold()] = number
		lines = append(lines, importLine{number, s})
	}
	if len(lines) == 0 && len(errs) == 0 {
		errs = append(errs, lineError{Line: 1, Problem: "no station below the header"})
	}
	return lines, errs
}

const labelColumn = "label:"

func checkHeader(header []string) string {
	seen := make(map[string]bool)
	for i, name := range header {
		switch name {
		case "id", "profile", "serial", "version", "user", "password", "algorithm":
		default:
			if !strings.HasPrefix(name, labelColumn) || name == labelColumn {
				return fmt.Sprintf("column %d is %.40q: want id, profile, serial, version, user, password, algorithm or label:NAME", i+1, name)
			}
		}
		if seen[name] {
			return fmt.Sprintf("column %.40q is there twice", name)
		}
		seen[name] = true
	}
	if !seen["id"] {
		return "no column id"
	}
	return ""
}

func readStation(header, record []string, profile ocpp.SecurityProfile, noKey bool) (s api.NewStation, problem string) {
	s.Profile = profile
	for i, value := range record {
		if i >= len(header) {
			return s, fmt.Sprintf("%d fields, the header has %d", len(record), len(header))
		}
		if value = strings.TrimSpace(value); value == "" {
			continue
		}
		switch name := header[i]; name {
		case "id":
			s.ID = ocpp.StationID(value)
		case "profile":
			n, err := strconv.Atoi(value)
			if s.Profile = ocpp.SecurityProfile(n); err != nil || !s.Profile.Valid() {
				return s, fmt.Sprintf("profile %.20q: want 1, 2 or 3", value)
			}
		case "serial":
			s.Serial = value
		case "version":
			if s.Version = ocpp.Version(value); s.Version != ocpp.V16 && s.Version != ocpp.V201 && s.Version != ocpp.V21 {
				return s, fmt.Sprintf("version %.20q: want 1.6, 2.0.1 or 2.1", value)
			}
		case "user":
			s.User = value
		case "password":
			s.Password = value
		case "algorithm":
			if s.Algorithm = value; value != "ecdsa" && value != "rsa" {
				return s, fmt.Sprintf("algorithm %.20q: want ecdsa or rsa", value)
			}
		default:
			if s.Labels == nil {
				s.Labels = make(map[string]string)
			}
			s.Labels[strings.TrimPrefix(name, labelColumn)] = value
		}
	}
	if err := s.ID.Check(); err != nil {
		return s, err.Error()
	}
	switch {
	case s.Profile == ocpp.ProfileMTLS:
		s.NoCertificate = noKey
	case s.Algorithm != "":
		return s, "algorithm goes with profile 3"
	}
	return s, ""
}
