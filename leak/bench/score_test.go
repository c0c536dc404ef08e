package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/leak"
)

var testFaults = []Fault{
	{Name: "queue", Load: LoadDaily, Leaks: true, Classes: []leak.Class{leak.HeapLive}},
	{Name: "mmap", Load: LoadDaily, Leaks: true, Classes: []leak.Class{leak.OffHeap}},
	{Name: NoFault, Load: LoadDaily},
	{Name: "step", Load: LoadDaily},
}

func testPlan() Plan {
	return Plan{Faults: []string{"all"}, Rates: []float64{0.2, 1}, Placements: Placements(), Seeds: 1, First: 7, Hours: 72}
}

func TestPlan(t *testing.T) {
	plan := func(change func(*Plan)) []Case {
		t.Helper()
		p := testPlan()
		change(&p)
		cases, err := p.Cases(testFaults)
		if err != nil {
			t.Fatal(err)
		}
		return cases
	}
	all := plan(func(*Plan) {})
	if len(all) != 2*2+3+1 { // two faults at two rates, none with three loads, one step
		t.Errorf("%d cases: %v", len(all), all)
	}
	placements := make(map[Placement]int)
	for _, c := range all {
		placements[c.Placement]++
		if c.Onset < leastOnset || c.Onset > mostOnset || c.Leaks == (c.Cohort == leak.CohortUnknown) || c.Leaks == (c.Rate == 0) {
			t.Errorf("case %+v", c)
		}
	}
	if len(placements) != 3 {
		t.Errorf("placements %v", placements)
	}
	if again := plan(func(*Plan) {}); !reflect.DeepEqual(all, again) {
		t.Error("the same flags give other cases")
	}
	if each := plan(func(p *Plan) { p.Each, p.Seeds = true, 2 }); len(each) != 2*3*len(all) {
		t.Errorf("%d cases with every placement and two seeds", len(each))
	}
	// A case is the same whatever else is run, but for the placement's turn.
	for _, c := range plan(func(p *Plan) { p.Faults, p.Each = []string{"mmap"}, true }) {
		if c.Rate == all[2].Rate && (c.Onset != all[2].Onset || c.Cohort != all[2].Cohort) {
			t.Errorf("alone it is %+v, with others %+v", c, all[2])
		}
	}
	p := testPlan()
	p.Faults = []string{"nonsense"}
	if _, err := p.Cases(testFaults); err == nil {
		t.Error("an unknown fault is planned")
	}
}

// TestScore counts three runs whose outcome is given.
func TestScore(t *testing.T) {
	verdict := func(hour float64, class leak.Class) []*Verdict {
		return []*Verdict{{Hour: hour, Class: class}}
	}
	runs := []Run{
		{ // of four gateways three leak; one of these is found in another class, one alarmed before and is found, one is missed
			Case: Case{Fault: "queue", Leaks: true, Classes: []leak.Class{leak.HeapLive}, Rate: 1, Placement: Skewed, Cohort: leak.CohortMTLS, Onset: 10},
			Gateways: []Gateway{
				{Rate: 1, Verdicts: verdict(40, leak.OffHeap), RawMK: []float64{30}},
				{Rate: 0.5, Verdicts: []*Verdict{{Hour: 5, Class: leak.Files}, {Hour: 30, Class: leak.HeapLive}}},
				{Rate: 0.1},
				{Rate: 0},
			},
			Named: leak.CohortMTLS, Ever: []leak.Cohort{leak.CohortUndetermined, leak.CohortTLS, leak.CohortMTLS},
		},
		{ // only the comparison finds it, with the wrong cohort
			Case:     Case{Fault: "mmap", Leaks: true, Classes: []leak.Class{leak.OffHeap}, Rate: 0.2, Placement: Uniform, Cohort: leak.CohortTLS, Onset: 2},
			Gateways: []Gateway{{Rate: 0.2, Samples: 2, CPU: 6e6}},
			Fleet:    verdict(50, leak.OffHeap), Named: leak.CohortMTLS, Ever: []leak.Cohort{leak.CohortMTLS},
		},
		{ // healthy; one gateway and the comparison alarm
			Case:     Case{Fault: NoFault, Load: LoadRamp, Placement: Pure, Onset: 3},
			Gateways: []Gateway{{Verdicts: verdict(60, leak.HeapLive), OLS: []float64{20}}, {}},
			Fleet:    verdict(70, leak.HeapLive),
		},
	}
	rep := Score(testPlan(), "test", 5, runs)
	d := rep.Detector
	if d.Sure != 3 || d.SureFound != 2 || d.Slow != 1 || d.SlowFound != 0 || d.Alarmed != 3 || d.Healthy != 3 {
		t.Errorf("counts %+v", d)
	}
	if want := 2.0 / 5; d.Precision != want || math.Abs(d.Recall-2.0/3) > 1e-9 {
		t.Errorf("precision %v, recall %v", d.Precision, d.Recall)
	}
	if want := (3*10.0 + 72 + 2 + 2*72) / 24; math.Abs(d.PodDays-want) > 1e-9 {
		t.Errorf("%v pod-days, want %v", d.PodDays, want)
	}
	if rep.ClassRight != 1 || rep.RunsLeaking != 2 || rep.RunsFound != 2 || rep.CPUPercent != 100*3e6/30e9 {
		t.Errorf("class right %d, runs %d of %d, CPU %v", rep.ClassRight, rep.RunsFound, rep.RunsLeaking, rep.CPUPercent)
	}
	if c := rep.Cohorts[Skewed]; *c != (CohortRow{Runs: 1, Right: 1, WrongEver: 1}) {
		t.Errorf("skewed %+v", c)
	}
	if c := rep.Cohorts[Uniform]; *c != (CohortRow{Runs: 1, Wrong: 1, WrongEver: 1}) {
		t.Errorf("uniform %+v", c)
	}
	if rep.RawMK.SureFound != 1 || rep.OLS.Alarmed != 1 || rep.BlockMK.SureFound != 0 {
		t.Errorf("others %+v %+v %+v", rep.RawMK, rep.OLS, rep.BlockMK)
	}
	for _, target := range rep.Targets {
		if met := slices.ContainsFunc([]string{"CPU", "cohort right", "median delay"}, func(name string) bool { return strings.HasPrefix(target.Name, name) }); target.Met != met {
			t.Errorf("target %+v", target)
		}
	}
	if len(rep.Targets) != 10 {
		t.Errorf("%d targets: %+v", len(rep.Targets), rep.Targets)
	}
	var text bytes.Buffer
	rep.Print(&text)
	for _, want := range []string{"3 of 5 runs", "MISSED", "gw-0: class off_heap", "gw-1: false alarm of files", "cohort tls was named", "comparison: false alarm of heap_live at hour 70", "ramp load"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	if _, err := json.Marshal(rep); err != nil {
		t.Error(err)
	}
	if empty := Score(testPlan(), "test", 0, nil); empty.Faults == nil || empty.Detector.Precision != 0 {
		t.Errorf("no runs: %+v", empty)
	}
}
