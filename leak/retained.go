package leak

import "math"

const (
	// retainedLeast and retainedChecks: so many closed connections that the
	// collector could have freed, growing over so many blocks in a row.
	retainedLeast  = 10
	retainedChecks = 3
)

// retained looks at the exact count of closed connections that were not freed.
// It needs no statistics: it is zero in a healthy process.
func (d *Detector) retained() []Verdict {
	i := Retained.Index()
	w := &d.classes[i]
	n := len(d.series.blocks)
	at := func(back int) float64 {
		if back >= n {
			return math.NaN()
		}
		return d.series.blocks[n-1-back].Values[i]
	}
	if math.IsNaN(at(0)) {
		return nil
	}
	rising := at(0) >= retainedLeast
	for k := range retainedChecks - 1 {
		rising = rising && at(k) > at(k+1)
	}
	state := OK
	if rising {
		state = Leaking
	} else if w.active && at(0) >= retainedLeast {
		state = Leaking // they are still there
	}
	now := d.series.blocks[n-1].Time()
	switch {
	case state == Leaking && !w.active:
		w.active, w.state = true, Leaking
		w.count++
		w.leak = Verdict{ID: verdictID(d.cfg.Process, d.cfg.Start, Retained, w.count), Process: d.cfg.Process, Class: Retained,
			State: Leaking, Time: now, Changed: now, WindowHours: 1, Growth: at(0), Kept: at(0), Cohort: retainedCohort(d.last.Zombies, d.last.Opened)}
		return []Verdict{w.leak}
	case state == OK && w.active:
		w.active, w.state = false, OK
		w.leak.State, w.leak.Changed, w.leak.Ended = OK, now, now
		return []Verdict{w.leak}
	}
	if !w.active {
		w.state = OK
	}
	return nil
}

const (
	// retainedShare of the retained connections belongs to one cohort if it leaks
	// alone, although the other one had at least retainedOthers connections.
	retainedShare  = 0.95
	retainedOthers = 50
)

// retainedCohort needs no comparison of processes: the retained connections
// themselves are known.
func retainedCohort(zombies, opened Opened) Cohort {
	total := float64(zombies.total())
	switch {
	case total < retainedLeast:
		return CohortUnknown
	case float64(zombies.MTLS) >= retainedShare*total:
		if opened.TLS < retainedOthers {
			return CohortUndetermined
		}
		return CohortMTLS
	case float64(zombies.TLS) >= retainedShare*total:
		if opened.MTLS < retainedOthers {
			return CohortUndetermined
		}
		return CohortTLS
	}
	return CohortBoth
}
