package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"holdfast/leak/hunt"
)

// huntProgress shows on stderr where a hunt is: one line that is written over in
// a terminal, else a line for each round.
type huntProgress struct {
	w        io.Writer
	terminal bool
	phase    hunt.Phase
	round    int
}

func newHuntProgress(e *env) *huntProgress {
	p := &huntProgress{w: e.stderr}
	if f, ok := e.stderr.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	return p
}

func (p *huntProgress) tell(now hunt.Progress) {
	line := fmt.Sprintf("%s round %d", now.Phase, now.Round)
	rest := fmt.Sprintf("%s resident, at most %s left", hunt.Bytes(float64(now.RSS)), now.Left.Round(time.Second))
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s: %s, %s", line, now.Activity, rest)
	case now.Phase != p.phase || now.Round != p.round:
		fmt.Fprintf(p.w, "%s, %s\n", line, rest)
	}
	p.phase, p.round = now.Phase, now.Round
}

// end clears the line.
func (p *huntProgress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
