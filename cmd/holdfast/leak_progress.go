package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"holdfast/leak/hunt"
)

// huntProgress shows on stderr where a hunt is: one line that is written over in
// a terminal, else a line for each round.
type huntProgress struct {
	w        io.Writer
	terminal *os.File // nil if there is none
	phase    hunt.Phase
	round    int
}

func newHuntProgress(e *env) *huntProgress {
	p := &huntProgress{w: e.stderr}
	if f, ok := e.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.terminal = f
	}
	return p
}

func (p *huntProgress) tell(now hunt.Progress) {
	if p.terminal != nil {
		width := 80
		if w, _, err := term.GetSize(int(p.terminal.Fd())); err == nil && w > 0 {
			width = w
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s", huntLine(now, width))
	} else if now.Phase != p.phase || now.Round != p.round {
		fmt.Fprintf(p.w, "%s round %d of %d, %s resident, at most %s left\n", now.Phase, now.Round, now.Rounds, hunt.Bytes(float64(now.RSS)), now.Left.Round(time.Second))
	}
	p.phase, p.round = now.Phase, now.Round
}

// progressBar is how many letters wide the bar of a terminal is.
const progressBar = 20

// huntLine is a line of at most so many letters less one: a terminal would
// break a longer one, and it could not be written over.
func huntLine(now hunt.Progress, width int) string {
	done := 0
	if all := now.Gone + now.Left; all > 0 {
		done = int(progressBar * now.Gone / all)
	}
	line := fmt.Sprintf("[%s%s] %s left  %s %d/%d  %s  %s", strings.Repeat("#", done), strings.Repeat(".", progressBar-done),
		now.Left.Round(time.Second), now.Phase, now.Round, now.Rounds, hunt.Bytes(float64(now.RSS)), now.Activity)
	return line[:min(len(line), max(0, width-1))]
}

// end clears the line.
func (p *huntProgress) end() {
	if p.terminal != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
