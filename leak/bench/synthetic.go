package bench

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"

	"holdfast/leak"
)

// Scenario is what happens to a simulated healthy process beside its daily life.
type Scenario string

const (
	Diurnal       Scenario = "diurnal, churn, storms"
	Ramp          Scenario = "connections grow by 60 %"
	WarmUp        Scenario = "warm-up of a cache"
	Plateau       Scenario = "fragmentation plateau"
	Deployment    Scenario = "step of 3 to 18 %"
	Wandering     Scenario = "nearly a random walk"
	MoreMessages  Scenario = "message load grows by 50 %"
	Certificates  Scenario = "certificate renewal wave"
	FirmwareRound Scenario = "firmware campaign"
)

// Scenarios lists them.
func Scenarios() []Scenario {
	return []Scenario{Diurnal, Ramp, WarmUp, Plateau, Deployment, Wandering, MoreMessages, Certificates, FirmwareRound}
}

// SyntheticLeak is what leaks in a simulated process.
type SyntheticLeak struct {
	Class  leak.Class
	Rate   float64 // percent of the resident set, per hour
	Onset  float64 // hours after the start
	Bursty bool    // in bursts some hours apart
	// PerMTLS is bytes for each new connection with a client certificate, instead
	// of Rate.
	PerMTLS float64
}

// Synthetic is a simulated gateway pod of some 10,000 stations. The same values
// give the same series.
type Synthetic struct {
	Seed     uint64
	Scenario Scenario
	Noise    float64        // times the usual one; zero means 1
	Leak     *SyntheticLeak // nil: healthy
	// MTLSShare is the share of mutual TLS among the connections; 0 means half of
	// them, negative none.
	MTLSShare float64
}

const (
	syntheticInterval = 2 * time.Minute
	syntheticDay      = 24.0
	goroutineBytes    = 8 << 10 // a hung goroutine with its stack and buffers
	socketKeeps       = 4 << 10
	threadBytes       = 32 << 10
)

var syntheticStart = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// Run feeds the samples of so many hours to f until it returns false, and returns
// the resident set that rates are a share of, in bytes.
func (c Synthetic) Run(hours int, f func(leak.Sample) bool) float64 {
	name := fnv.New64a()
	fmt.Fprint(name, c.Scenario, c.Leak) // other cases get other numbers
	r := rand.New(rand.NewPCG(c.Seed, name.Sum64()))
	between := func(a, b float64) float64 { return a + (b-a)*r.Float64() }
	share := c.MTLSShare
	if share == 0 {
		share = 0.5
	}
	share = max(share, 0)
	noise := c.Noise
	if noise == 0 {
		noise = 1
	}
	start := syntheticStart

	// What this pod is like.
	n0 := between(8000, 12000)
	swing, phase := between(0.05, 0.3), between(0, syntheticDay)
	loadPhase := phase + between(-4, 4) // messages follow the connections, not quite
	beta := leak.Values{}
	for i, class := range leak.Classes() {
		beta[i] = map[leak.Class]float64{leak.HeapLive: 3700, leak.HeapUnused: 350, leak.Metadata: 190, leak.OffHeap: 20, leak.Files: 1}[class] * between(0.9, 1.1)
	}
	beta[leak.Files.Index()] = 1
	base := leak.Values{between(15, 30) * (1 << 20), 4 << 20, 6 << 20, 2 << 20, 0, 60, 12, 30}
	rss0 := base[0] + base[1] + base[2] + base[3] + 24<<20 + n0*(beta[0]*1.3+beta[1]+beta[2])
	loadShare := between(0.01, 0.04) * noise

	// What happens.
	event := between(8, 60) // hours
	size := between(0.03, 0.18)
	tau := between(2, 10)
	warm := between(0.05, 0.25)
	wanderTau := between(12, 36)
	leaked, bursts := 0.0, 0.0
	nextBurst := 0.0
	ar := func(state *float64, tau, sigma, dt float64) float64 {
		k := math.Exp(-dt / tau)
		*state = *state*k + sigma*math.Sqrt(1-k*k)*r.NormFloat64()
		return *state
	}
	var nNoise, load, wander, meta, unusedHigh, socketNoise float64
	storm, pods := 0.0, 1.0
	var opened leak.Opened
	highest := 0.0
	before := n0
	dt := syntheticInterval.Hours()
	for k := 0; float64(k)*dt < float64(hours); k++ {
		h := float64(k) * dt
		wave := math.Sin(2 * math.Pi * (h - phase) / syntheticDay)
		n := n0 * (1 + swing*wave + ar(&nNoise, 2, 0.01*noise, dt)) * pods
		if c.Scenario == Ramp {
			n *= 1 + 0.6*min(1, max(0, (h-6)/60))
		}
		if r.Float64() < dt/20 { // a storm every 20 hours
			storm = between(0.1, 0.7)
		}
		if r.Float64() < dt/24 { // an autoscaler adds or takes pods
			pods = min(1.3, max(0.7, pods*between(0.85, 1.18)))
		}
		n *= 1 - storm
		storm *= math.Exp(-dt / 0.3)
		n = math.Round(n)
		if h < 0.3 { // they come
			n = math.Round(n * h / 0.3)
		}
		churn := n*0.04*dt + max(0, n-before) // 4 % an hour, and those that come back
		before = n
		mtls := math.Round(churn * share)
		opened.MTLS += int64(mtls)
		opened.TLS += int64(math.Round(churn) - mtls)
		highest = max(highest, n)

		messages := 1 + 0.5*math.Sin(2*math.Pi*(h-loadPhase)/syntheticDay) + ar(&load, 1, 0.2*noise, dt)
		live := base[0] + beta[0]*n + rss0*loadShare*messages
		unused := base[1] + beta[1]*n
		offHeap := base[3] + beta[3]*n
		switch c.Scenario {
		case WarmUp:
			live += warm * rss0 * (1 - math.Exp(-h/tau))
		case Plateau:
			unused += warm * rss0 * (1 - math.Exp(-max(0, h-event/3)/tau))
		case Deployment:
			if h > event {
				live += size * rss0
			}
		case Wandering:
			live += rss0 * ar(&wander, wanderTau, 0.03*noise, dt)
		case MoreMessages:
			live += rss0 * loadShare * 0.5 * min(1, max(0, (h-event)/12))
		case Certificates:
			if h > event { // remembered chains of both generations, for a while
				live += rss0 * 0.03 * math.Exp(-(h-event)/12)
			}
		case FirmwareRound:
			if h > event && h < event+8 {
				live += rss0 * 0.05 * (1 + 0.2*r.NormFloat64())
			}
		}
		live *= 1 + 0.004*noise*r.NormFloat64()
		unused += ar(&unusedHigh, 8, 0.004*rss0*noise, dt)
		meta = max(meta, base[2]+beta[2]*highest)
		sockets := 64<<10 + math.Abs(ar(&socketNoise, 0.5, 256<<10, dt))*noise
		if r.Float64() < 0.02 {
			sockets += between(1, 3) * (1 << 20) // a slow reader
		}
		goroutines := base[5] + 20*messages + 3*r.NormFloat64()*noise + 200*storm
		threads := base[6] + math.Floor(4*min(1, h/10))
		files := base[7] + n + math.Floor(2*r.Float64())

		if l := c.Leak; l != nil && h >= l.Onset {
			step := l.Rate / 100 * rss0 * dt
			if l.PerMTLS > 0 {
				leaked += l.PerMTLS * mtls
			} else if l.Bursty {
				if h >= nextBurst {
					bursts = step / dt * between(2, 6) // what the hours until the next one would have leaked
					leaked += bursts
					nextBurst = h + bursts/(step/dt)
				}
			} else {
				leaked += step * (1 + 0.1*r.NormFloat64())
			}
			switch l.Class {
			case leak.HeapLive:
				live += leaked
			case leak.HeapUnused:
				unused += leaked
			case leak.Metadata:
				meta += 0
			case leak.OffHeap:
				offHeap += leaked
			case leak.SocketBuffers:
				sockets += leaked
			case leak.Goroutines:
				live += leaked / 2
				goroutines += leaked / goroutineBytes
			case leak.Threads:
				threads += leaked / threadBytes
			case leak.Files:
				live += leaked / 8
				files += leaked / socketKeeps
			}
		}
		metadata := meta
		if c.Leak != nil && c.Leak.Class == leak.Metadata {
			metadata += leaked
		}
		offHeap += 0.0008 * rss0 * noise * r.NormFloat64()
		s := leak.Sample{
			Time: start.Add(time.Duration(k) * syntheticInterval), Connections: int(n), Opened: opened,
			RSS: int64(live*1.25 + unused + metadata + offHeap + 24<<20), Limit: int64(4 * rss0), GOGC: 25,
			Values: leak.Values{live, unused, metadata, offHeap, sockets, math.Round(goroutines), threads, files, 0},
		}
		s.WorkingSet = s.RSS + int64(n)*3900 + int64(sockets)
		if !f(s) {
			break
		}
	}
	return rss0
}

// PerDay is what a leak of so much of a resident set adds to its class in a day.
func (l *SyntheticLeak) PerDay(rss float64) float64 {
	unit := 1.0
	switch l.Class {
	case leak.Goroutines:
		unit = goroutineBytes
	case leak.Threads:
		unit = threadBytes
	case leak.Files:
		unit = socketKeeps
	}
	return 24 * l.Rate / 100 * rss / unit
}
