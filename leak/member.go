package leak

import (
	"math"
	"time"
)

// member is what a Contrast knows of one process, by the hour.
type member struct {
	started time.Time
	last    int64    // hour of the newest complete value
	hour    int64    // being gathered
	blocks  []hourOf // of it
	hours   []hourOf
}

type hourOf struct {
	rss       float64
	opened    Opened // at its end
	residuals Values
}

// add gathers a block; the first of a new hour completes the one before.
func (m *member) add(r Report) {
	hour := r.Number / int64(perHour)
	if hour < m.hour {
		return
	}
	if hour > m.hour {
		m.complete()
		if gap := hour - m.hour - 1; gap > 0 {
			for range min(gap, keptHours) {
				m.push(missingHour(r.Opened))
			}
		}
		m.last, m.hour, m.blocks = hour-1, hour, m.blocks[:0]
	}
	if len(m.blocks) == perHour {
		return
	}
	b := missingHour(r.Opened)
	b.rss = r.RSS
	for i, c := range classes {
		if v, ok := r.Known[c]; ok {
			b.residuals[i] = v - r.Beta[c]*r.Connections
		}
	}
	m.blocks = append(m.blocks, b)
}

// complete condenses the blocks of an hour.
func (m *member) complete() {
	if len(m.blocks) == 0 {
		m.push(missingHour(Opened{}))
		return
	}
	median := func(of func(hourOf) float64) float64 {
		list := make([]float64, 0, perHour)
		for _, b := range m.blocks {
			list = append(list, of(b))
		}
		return Median(known(list))
	}
	h := hourOf{opened: m.blocks[len(m.blocks)-1].opened, rss: median(func(b hourOf) float64 { return b.rss })}
	for i := range classes {
		h.residuals[i] = median(func(b hourOf) float64 { return b.residuals[i] })
	}
	m.push(h)
}

func (m *member) push(h hourOf) {
	if len(m.hours) == keptHours {
		m.hours = append(m.hours[:0], m.hours[1:]...)
	}
	m.hours = append(m.hours, h)
}

func missingHour(o Opened) hourOf {
	h := hourOf{opened: o, rss: math.NaN()}
	for i := range h.residuals {
		h.residuals[i] = math.NaN()
	}
	return h
}

// newest returns the last n hours of a class; ok if enough of them are known.
func (m *member) newest(class, n int) (r []float64, opened Opened, ok bool) {
	if len(m.hours) < n {
		return nil, opened, false
	}
	r = make([]float64, n)
	missing := 0
	for i, h := range m.hours[len(m.hours)-n:] {
		if r[i] = h.residuals[class]; math.IsNaN(r[i]) {
			missing++
		}
	}
	return r, m.opened(n), missing*10 <= n
}

// opened counts the connections of the last n hours.
func (m *member) opened(n int) Opened {
	last := len(m.hours) - 1
	return m.hours[last].opened.sub(m.hours[max(0, last-n)].opened)
}
