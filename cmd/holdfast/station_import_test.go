package main

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/ocpp"
)

func TestReadStations(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       string // identity/profile of each station
		errors     string // one a line, in part
	}{
		{"all columns", "\ufeffid,profile,serial,version,user,password,algorithm,label:site\n" +
			"CS-1, 2,S1,1.6,u,secret,,north\n\"CS,2\",3,,,,,rsa,\n", "CS-1/2 CS,2/3", ""},
		{"the least", "id\nA\nB\n", "A/2 B/2", ""},
		{"empty lines", "id\n\nA\n\n", "A/2", ""},
		{"each error with its line", "id,profile,version,algorithm\nA,4,,\nB,2,1.5,\nC,2,,rsa\n,2,,\nD,3,,dsa\nE,2\na,2,,\nA,2,,\ne,2,,\nF,2,,,x\n", "E/2 a/2",
			"line 2: station A: profile\nline 3: station B: version\nline 4: station C: algorithm\nline 5: \nline 6: station D: algorithm\nline 9: station A: is on line 8\nline 10: station e: is on line 7\nline 11: station F: 5 fields"},
		{"a line break in quotes", "id,serial\n\"A\",\"S\n1\"\nB,x\nB,y\n", "A/2 B/2", "line 5: station B: is on line 4"},
		{"a quote that does not end", "id\nA\n\"B\n", "A/2", "line 3"},
		{"an unknown column", "id,color\nA,red\n", "", `line 1: column 2 is "color"`},
		{"a column twice", "id,id\nA,B\n", "", "line 1: column \"id\" is there twice"},
		{"no identity", "serial\nA\n", "", "line 1: no column id"},
		{"nothing below", "id\n", "", "line 1: no station"},
		{"nothing", "", "", "line 1: no header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, errs := readStations(strings.NewReader(tt.file), ocpp.ProfileTLS, false)
			var got []string
			for _, l := range lines {
				got = append(got, fmt.Sprintf("%s/%d", l.station.ID, l.station.Profile))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("stations %v, want %s", got, tt.want)
			}
			var wanted []string
			if tt.errors != "" {
				wanted = strings.Split(tt.errors, "\n")
			}
			if len(errs) != len(wanted) {
				t.Fatalf("errors %v, want %d", errs, len(wanted))
			}
			for i, e := range errs {
				if !strings.HasPrefix(e.Error(), wanted[i]) {
					t.Errorf("error %q, want %q", e.Error(), wanted[i])
				}
			}
		})
	}
}

func FuzzReadStations(f *testing.F) {
	f.Add("id,profile\nA,2\nB,9\n")
	f.Add("id\n\"A\n")
	f.Add("\ufeffid,label:x\nA,\x00\n")
	f.Fuzz(func(t *testing.T, file string) {
		lines, errs := readStations(strings.NewReader(file), ocpp.ProfileTLS, true)
		if len(lines) == 0 && len(errs) == 0 {
			t.Error("neither stations nor errors")
		}
		for _, l := range lines {
			if l.number < 2 || l.station.ID.Check() != nil || !l.station.Profile.Valid() {
				t.Errorf("line %d: %+v", l.number, l.station)
			}
		}
	})
}
