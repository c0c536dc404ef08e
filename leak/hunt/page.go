package hunt

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/leak"
)

// Evidence is what grew between three profiles, or heap snapshots, that were
// taken before, between and after two blocks of one activity.
type Evidence struct {
	Activity string `json:"activity"`
	leak.Difference
	// Files are where the three are kept, if they are.
	Files []string `json:"files,omitempty"`
}

// Title says what was compared: "three heap profiles (5.6 MB, 5.7 MB, 5.7 MB)
// over mutual-TLS reconnects".
func (e *Evidence) Title() string {
	kind := e.Kind + " profiles"
	if e.Kind == "v8" {
		kind = "heap snapshots"
	}
	var totals []string
	for _, n := range e.Totals {
		totals = append(totals, e.Amount(n))
	}
	return fmt.Sprintf("three %s (%s) over %ss", kind, strings.Join(totals, ", "), e.Activity)
}

// Amount writes a number of the evidence's unit.
func (e *Evidence) Amount(n int64) string {
	if e.Unit == "bytes" {
		return Bytes(float64(n))
	}
	return fmt.Sprint(n)
}

// Page is a report as one HTML document that needs nothing else: no script, no
// font, no file beside it. It follows the reader's choice of light or dark.
type Page struct {
	*Report
	Evidence []Evidence
	// Settings are what was asked for, as pairs of name and value.
	Settings [][2]string
}

const (
	pageStacks = 5  // of each evidence
	pageFrames = 16 // of each stack
)

//go:embed page.html
var pageText string

// pageRow is an activity in the table.
type pageRow struct {
	Name, Events string
	Failed       int
	Effects      []string
	Verdict      Verdict
}

// pageLine is a sentence of the summary, with the class that colours it.
type pageLine struct{ Text, Class string }

// pageEvidence is evidence with the stacks that are shown.
type pageEvidence struct {
	*Evidence
	Top []leak.Grown
}

// Write writes the document.
func (p *Page) Write(w io.Writer) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	// Profiles and heap snapshots make a process grow: what was read between them
	// is no picture of the events.
	report := *p.Report
	report.Blocks = slices.DeleteFunc(slices.Clone(report.Blocks), func(b Block) bool { return b.Phase == PhaseEvidence })
	p = &Page{Report: &report, Evidence: p.Evidence, Settings: p.Settings}
	shown := p.shown()
	data := struct {
		*Report
		About                 string
		Colours               []int
		Lines                 []pageLine
		Facts                 [][2]string
		Shown                 []Quantity
		Rows                  []pageRow
		Effects, Growth, Time []template.HTML
		Evidence              []pageEvidence
		Settings              [][2]string
	}{
		Report: p.Report, About: p.about(), Lines: p.lines(), Facts: p.facts(), Shown: shown, Settings: p.Settings, Time: p.timePlots(),
	}
	for i := range colours {
		data.Colours = append(data.Colours, i)
	}
	for _, q := range shown {
		data.Effects = append(data.Effects, p.effectsPlot(q))
		if q != Kept || len(shown) == 1 {
			data.Growth = append(data.Growth, p.growthPlot(q))
		}
	}
	for i := range p.Activities {
		a := &p.Activities[i]
		row := pageRow{Name: a.Name(), Events: grouped(a.Events), Failed: a.Failed, Verdict: a.Verdict}
		for _, q := range shown {
			text := "not known"
			if e, ok := a.Effects[q]; ok {
				text = q.interval(e)
			}
			row.Effects = append(row.Effects, text)
		}
		data.Rows = append(data.Rows, row)
	}
	for i := range p.Evidence {
		e := &p.Evidence[i]
		top := slices.Clone(e.Rows[:min(len(e.Rows), pageStacks)])
		for k := range top {
			top[k].Stack = top[k].Stack[:min(len(top[k].Stack), pageFrames)]
		}
		data.Evidence = append(data.Evidence, pageEvidence{e, top})
	}
	return page.Execute(w, data)
}

// about says what was done, and how to read it.
func (p *Page) about() string {
	s := fmt.Sprintf("%s, %s", p.Started.UTC().Format("2006-01-02 15:04 UTC"), time.Duration(p.Took*float64(time.Second)).Round(time.Second))
	if p.PID != 0 {
		s += fmt.Sprintf(", process %d", p.PID)
	}
	return s + fmt.Sprintf(". Kinds of events in alternating blocks, order by seed %d; the process was read after each.", p.Seed)
}

// lines are the sentences of the summary after the verdict, and the notes.
func (p *Page) lines() []pageLine {
	var list []pageLine
	for _, text := range p.Summary[1:] {
		line := pageLine{text, string(VerdictRetention)}
		for _, a := range p.Activities {
			if a.Summary == text {
				line.Class = string(a.Verdict)
			}
		}
		list = append(list, line)
	}
	for _, text := range p.Warnings {
		list = append(list, pageLine{"note: " + text, "note"})
	}
	return list
}

// facts are figures of the whole.
func (p *Page) facts() [][2]string {
	events, failed := 0.0, 0
	for i := range p.Blocks {
		if b := &p.Blocks[i]; b.Activity >= 0 && p.Activities[b.Activity].Event != IdleEvent {
			events, failed = events+b.Events, failed+b.Failed
		}
	}
	first, last := p.Blocks[0].Readings, p.last().Readings
	return [][2]string{
		{"events", grouped(events)},
		{"failed", grouped(float64(failed))},
		{"warm-up + trial", fmt.Sprintf("%d + %d rounds", p.WarmUps, p.Rounds)},
		{"resident, first reading", Bytes(first[Resident])},
		{"last reading", Bytes(last[Resident])},
		{"kept by the warm-up", Bytes(p.Retained)},
	}
}

// shown are the quantities of the page: what is kept as a whole, and what grew.
func (p *Page) shown() []Quantity {
	list := []Quantity{Kept}
	for _, a := range p.Activities {
		for _, f := range a.Findings {
			if !slices.Contains(list, f.Quantity) {
				list = append(list, f.Quantity)
			}
		}
	}
	return list
}

// amount writes a number of a quantity.
func (q Quantity) amount(n float64) string {
	if q.IsCount() {
		return fmt.Sprintf("%.3g", n)
	}
	return Bytes(n)
}
