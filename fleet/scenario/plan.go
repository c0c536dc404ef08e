package scenario

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/fleet"
)

// What is the kind of an Action.
type What string

const (
	Join      What = "join"       // the station connects
	Leave     What = "leave"      // it closes its connection and stays away
	Fault     What = "fault"      // it misbehaves
	Double    What = "double"     // a second station of its identity connects
	DoubleEnd What = "double_end" // and goes
	Call      What = "command"    // the operator sends it a CALL
)

// Action is one thing that is done to one station.
type Action struct {
	At      time.Duration // since the beginning
	Phase   int
	What    What
	Station int         // index into the stations of the plan
	Fault   fleet.Fault // of Fault
	Command *Command    // of Call
}

// Station is a station of a plan.
type Station struct {
	fleet.Identity
	Cohort int // index into Scenario.Cohorts
}

// Assign gives every station its cohort and, unless its credentials fix them
// already, its profile and version. The same number is in the same cohort
// however many processes share the stations.
func (s *Scenario) Assign(list []fleet.Identity, fixed bool) []Station {
	out := make([]Station, len(list))
	count := make([]int, len(s.Cohorts))
	for i := range list {
		// 61 and 100 have no common divisor: every hundred stations hold each
		// share exactly, and few stations hold some of each.
		place, k := i*61%100, 0
		for sum := int(s.Cohorts[0].Share); place >= sum && k < len(s.Cohorts)-1; sum += int(s.Cohorts[k].Share) {
			k++
		}
		c := &s.Cohorts[k]
		out[i] = Station{Identity: list[i], Cohort: k}
		n := count[k]
		count[k]++
		if fixed {
			continue
		}
		profiles, versions := s.Profiles, s.Versions
		if len(c.Profiles) > 0 {
			profiles = c.Profiles
		}
		if len(c.Versions) > 0 {
			versions = c.Versions
		}
		out[i].Profile, out[i].Version = profiles[n%len(profiles)], versions[n/len(profiles)%len(versions)]
		out[i].Connectors = s.Connectors
	}
	return out
}

// Length is how long the plan for so many stations takes: the phases, and what a
// rate makes longer.
func (s *Scenario) Length(stations []Station) time.Duration {
	ends := s.ends(stations)
	return ends[len(ends)-1]
}

// ends are when the phases end.
func (s *Scenario) ends(stations []Station) []time.Duration {
	p := newPlanner(s, stations, 0)
	ends := make([]time.Duration, len(s.Phases))
	var total time.Duration
	for i := range s.Phases {
		total += p.length(i)
		ends[i] = total
	}
	return ends
}

// Plan yields what is done to the stations, in the order of time. It depends on
// the scenario, the stations and the seed alone.
func (s *Scenario) Plan(stations []Station, seed uint64) iter.Seq[Action] {
	return func(yield func(Action) bool) {
		p := newPlanner(s, stations, seed)
		var start time.Duration
		for i := range s.Phases {
			length := p.length(i)
			streams := p.phase(i, length)
			for {
				next := -1
				for k := range streams {
					if streams[k].more && (next < 0 || streams[k].head.At < streams[next].head.At) {
						next = k
					}
				}
				if next < 0 {
					break
				}
				a := streams[next].head
				a.At, a.Phase = a.At+start, i
				if !yield(a) {
					return
				}
				streams[next].advance()
			}
			start += length
		}
	}
}

// planner knows who is to be here.
type planner struct {
	s        *Scenario
	stations []Station
	seed     uint64
	members  map[string][]int // by cohort
	here     []bool
}

func newPlanner(s *Scenario, stations []Station, seed uint64) *planner {
	p := &planner{s: s, stations: stations, seed: seed, members: make(map[string][]int), here: make([]bool, len(stations))}
	for i, x := range stations {
		p.members[everybody] = append(p.members[everybody], i)
		if name := s.Cohorts[x.Cohort].Name; name != everybody {
			p.members[name] = append(p.members[name], i)
		}
	}
	return p
}

func (p *planner) who(name string) []int { return p.members[cmp.Or(name, everybody)] }

// length of a phase: what is asked for, or what a given rate needs.
func (p *planner) length(i int) time.Duration {
	d := time.Duration(p.s.Phases[i].For)
	for _, list := range [][]Presence{p.s.Phases[i].Connect, p.s.Phases[i].Leave} {
		for _, x := range list {
			if x.Rate > 0 {
				d = max(d, time.Duration(float64(len(p.who(x.Who)))*float64(x.share())/100/float64(x.Rate)*float64(time.Second)))
			}
		}
	}
	return d
}

func (x Presence) share() Share { return cmp.Or(x.Share, 100) }

// stream is a source of actions in the order of time.
type stream struct {
	next func() (Action, bool)
	head Action
	more bool
}

func (s *stream) advance() { s.head, s.more = s.next() }

// phase makes the streams of a phase of the given length. Each has random numbers
// of its own, so that one does not change the other.
func (p *planner) phase(i int, length time.Duration) []stream {
	phase := &p.s.Phases[i]
	var streams []stream
	add := func(f func(r *rand.Rand) func() (Action, bool)) {
		r := rand.New(rand.NewPCG(p.seed, uint64(i)<<32|uint64(len(streams))))
		streams = append(streams, stream{next: f(r)})
	}
	for _, x := range phase.Leave {
		add(func(r *rand.Rand) func() (Action, bool) {
			return p.presence(r, x, Leave, p.choose(r, x, false), length)
		})
	}
	for _, x := range phase.Connect {
		add(func(r *rand.Rand) func() (Action, bool) {
			return p.presence(r, x, Join, p.choose(r, x, true), length)
		})
	}
	for _, x := range phase.Storm {
		add(func(r *rand.Rand) func() (Action, bool) { return p.storm(r, x) })
	}
	for _, x := range phase.Duplicates {
		chosen := p.sample(rand.New(rand.NewPCG(p.seed, uint64(i))), x.Who, x.Share)
		for _, what := range []What{Double, DoubleEnd} {
			at := time.Duration(0)
			if what == DoubleEnd {
				at = length
			}
			add(func(*rand.Rand) func() (Action, bool) {
				return list(chosen, func(k int) Action { return Action{At: at, What: what, Station: chosen[k]} })
			})
		}
	}
	for _, x := range phase.Churn {
		add(func(r *rand.Rand) func() (Action, bool) { return p.churn(r, x, length) })
	}
	for k := range phase.Commands {
		add(func(r *rand.Rand) func() (Action, bool) { return p.commands(r, &phase.Commands[k], length) })
	}
	for k := range streams {
		streams[k].advance()
	}
	return streams
}

// sample is a share of a cohort, drawn at random.
func (p *planner) sample(r *rand.Rand, who string, share Share) []int {
	members := slices.Clone(p.who(who))
	r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return members[:(len(members)*int(share)+99)/100]
}

// choose picks who joins, so that a share of the cohort is here, or a share that
// leaves.
func (p *planner) choose(r *rand.Rand, x Presence, join bool) []int {
	shuffled := p.sample(r, x.Who, 100)
	want := (len(shuffled)*int(x.share()) + 99) / 100
	if join {
		for _, i := range shuffled {
			if p.here[i] {
				want--
			}
		}
	}
	var chosen []int
	for _, i := range shuffled {
		if len(chosen) < want && p.here[i] != join {
			chosen = append(chosen, i)
			p.here[i] = join
		}
	}
	return chosen
}

// presence spreads the chosen over a time.
func (p *planner) presence(r *rand.Rand, x Presence, what What, chosen []int, length time.Duration) func() (Action, bool) {
	within := length
	switch n := len(chosen); {
	case x.Arrival == AtOnce:
		within = 0
	case x.Rate > 0:
		within = time.Duration(float64(n) / float64(x.Rate) * float64(time.Second))
	case x.Within > 0:
		within = time.Duration(x.Within)
	}
	times := make([]float64, len(chosen)) // fractions of within
	for k := range times {
		switch x.Arrival {
		case Poisson: // so many of a Poisson process are spread evenly at random
			times[k] = r.Float64()
		case Diurnal:
			times[k] = dayQuantile(r.Float64())
		default:
			times[k] = float64(k) / float64(len(chosen))
		}
	}
	slices.Sort(times)
	return list(chosen, func(k int) Action {
		return Action{At: time.Duration(times[k] * float64(within)), What: what, Station: chosen[k]}
	})
}

func (p *planner) storm(r *rand.Rand, x Storm) func() (Action, bool) {
	fault, _ := fleet.FaultByName(x.Fault) // checked
	chosen := slices.DeleteFunc(p.sample(r, x.Who, cmp.Or(x.Share, 100)), func(i int) bool {
		return !p.here[i] && !fault.Connecting() || !p.suits(fault, i)
	})
	return list(chosen, func(k int) Action {
		at := time.Duration(x.At) + time.Duration(float64(k)/float64(len(chosen))*float64(x.Within))
		return Action{At: at, What: Fault, Station: chosen[k], Fault: fault}
	})
}

// drawing is how often a fitting station is looked for at random.
const drawing = 32

// suits reports whether a fault means something to station i.
func (p *planner) suits(f fleet.Fault, i int) bool {
	return f.Suits(p.stations[i].Profile, p.stations[i].Version)
}

// pick draws a member that suits; -1 if none was found.
func (p *planner) pick(r *rand.Rand, members []int, suits func(i int) bool) int {
	for range drawing {
		if len(members) == 0 {
			break
		}
		if i := members[r.IntN(len(members))]; suits(i) {
			return i
		}
	}
	return -1
}

func (p *planner) churn(r *rand.Rand, x Churn, length time.Duration) func() (Action, bool) {
	names := slices.Sorted(maps.Keys(x.Faults))
	sum := 0
	for _, n := range names {
		sum += x.Faults[n]
	}
	return each(arrivals(r, x.Arrival, x.Rate, length), func(at time.Duration) (Action, bool) {
		draw := r.IntN(sum)
		var fault fleet.Fault
		for _, n := range names {
			if draw -= x.Faults[n]; draw < 0 {
				fault, _ = fleet.FaultByName(n) // checked
				break
			}
		}
		i := p.pick(r, p.who(x.Who), func(i int) bool {
			return (p.here[i] || fault.Connecting()) && p.suits(fault, i)
		})
		return Action{At: at, What: Fault, Station: i, Fault: fault}, i >= 0
	})
}

func (p *planner) commands(r *rand.Rand, x *Command, length time.Duration) func() (Action, bool) {
	return each(arrivals(r, x.Arrival, x.Rate, length), func(at time.Duration) (Action, bool) {
		i := p.pick(r, p.who(x.Who), func(i int) bool {
			return p.here[i] && (len(x.Version) == 0 || slices.Contains(x.Version, p.stations[i].Version))
		})
		return Action{At: at, What: Call, Station: i, Command: x}, i >= 0
	})
}

// each yields an action for each arrival for which there is one.
func each(next func() (time.Duration, bool), action func(at time.Duration) (Action, bool)) func() (Action, bool) {
	return func() (Action, bool) {
		for {
			at, ok := next()
			if !ok {
				return Action{}, false
			}
			if a, ok := action(at); ok {
				return a, true
			}
		}
	}
}

// list yields one action for each of the chosen.
func list(chosen []int, action func(k int) Action) func() (Action, bool) {
	k := 0
	return func() (Action, bool) {
		if k == len(chosen) {
			return Action{}, false
		}
		k++
		return action(k - 1), true
	}
}

// arrivals yields the times of an arrival process up to length.
func arrivals(r *rand.Rand, a Arrival, rate Rate, length time.Duration) func() (time.Duration, bool) {
	n, t := 0, 0.0 // seconds
	end := length.Seconds()
	return func() (time.Duration, bool) {
		switch a {
		case Even:
			t = float64(n) / float64(rate)
			n++
		case Diurnal: // thinning
			for {
				t += r.ExpFloat64() / (float64(rate) * busiest)
				if t >= end || r.Float64()*busiest < dayWeight(t/end) {
					break
				}
			}
		default:
			t += r.ExpFloat64() / float64(rate)
		}
		return time.Duration(t * float64(time.Second)), t < end
	}
}

// day is how busy each hour is, from midnight; the mean is 1: people come home
// in the evening, and to work in the morning.
var day = [24]float64{0.3, 0.2, 0.15, 0.15, 0.2, 0.4, 0.8, 1.3, 1.5, 1.2, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.5, 2.0, 2.2, 1.9, 1.4, 1.0, 0.8, 0.5}

var busiest = slices.Max(day[:])

// dayWeight is how busy a fraction of the day is.
func dayWeight(x float64) float64 { return day[min(23, int(x*24))] / daySum * 24 }

var daySum = func() (sum float64) {
	for _, w := range day {
		sum += w
	}
	return sum
}()

// dayQuantile is the fraction of the day by which a fraction of all has come.
func dayQuantile(q float64) float64 {
	for h, w := range day {
		if w /= daySum; q < w || h == 23 {
			return math.Min(1, (float64(h)+q/w)/24)
		} else {
			q -= w
		}
	}
	return 1
}
