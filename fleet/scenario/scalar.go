package scenario

import (
	"crypto/tls"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Never is the duration that is written so.
const Never Duration = -1

// maxDuration is the longest time in a scenario.
const maxDuration = 366 * 24 * time.Hour

// Duration is written as 90s, 1m30s, 2h or never.
type Duration time.Duration

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	if text == "never" {
		*d = Never
		return nil
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 || v > maxDuration {
		return at(node, "%q is not a duration such as 90s, 1m30s or 2h", text)
	}
	*d = Duration(v)
	return nil
}

// Share is a percentage, written as 30%.
type Share int

// UnmarshalYAML reads a percentage of 1 to 100.
func (s *Share) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	digits, ok := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > 100 {
		return at(node, "%q is not a share in whole percent, 1%% to 100%%", text)
	}
	*s = Share(n)
	return nil
}

// Rate is per second, written as 20/s, 5/m or 100/h; at least 1/h, at most 1,000,000/s.
type Rate float64

// UnmarshalYAML reads a rate.
func (r *Rate) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	number, unit, ok := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(number, 64)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !ok || err != nil || per == 0 || math.IsNaN(v) || v/per < 0.99/3600 || v/per > 1e6 {
		return at(node, "%q is not a rate such as 20/s, 5/m or 100/h", text)
	}
	*r = Rate(v / per)
	return nil
}

// Arrival is how events are spread over a time.
type Arrival string

const (
	Even    Arrival = "even"    // at equal distances
	Poisson Arrival = "poisson" // independent of one another
	Diurnal Arrival = "diurnal" // Poisson with the rate of the hour: little at night, most in the evening
	AtOnce  Arrival = "at_once" // all at the beginning
)

// UnmarshalYAML reads one of the names.
func (a *Arrival) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	switch v := Arrival(text); v {
	case Even, Poisson, Diurnal, AtOnce:
		*a = v
		return nil
	}
	return at(node, "%q is not an arrival process: even, poisson, diurnal or at_once", text)
}

// TLSVersion is written as "1.2" or "1.3". Zero means crypto/tls's.
type TLSVersion uint16

// UnmarshalYAML reads a version.
func (v *TLSVersion) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	switch text {
	case "1.2":
		*v = tls.VersionTLS12
	case "1.3":
		*v = tls.VersionTLS13
	default:
		return at(node, "%q is not a TLS version: \"1.2\" or \"1.3\"", text)
	}
	return nil
}

// CipherSuite is written as its IANA name.
type CipherSuite uint16

// UnmarshalYAML reads a suite of TLS 1.2; those that OCPP asks for and crypto/tls
// calls insecure, such as TLS_RSA_WITH_AES_128_GCM_SHA256, are among them.
func (c *CipherSuite) UnmarshalYAML(node ast.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.Name == text && suite.SupportedVersions[0] < tls.VersionTLS13 {
			*c = CipherSuite(suite.ID)
			return nil
		}
	}
	return at(node, "%q is not a cipher suite of TLS 1.2 that this program has", text)
}

// scalar is the text of a scalar node.
func scalar(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.AnchorNode:
		return scalar(n.Value)
	case *ast.StringNode:
		return n.Value, nil
	case ast.ScalarNode:
		return n.GetToken().Value, nil
	}
	return "", at(node, "one value is wanted here")
}

func at(node ast.Node, format string, args ...any) *Problem {
	p := &Problem{What: fmt.Sprintf(format, args...)}
	if t := node.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	return p
}
