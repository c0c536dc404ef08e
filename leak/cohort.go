package leak

// Cohort is the kind of connections that a leak belongs to. The list is closed.
type Cohort string

const (
	// CohortUnknown: nobody has compared processes yet, or there is only one.
	CohortUnknown Cohort = ""
	CohortTLS     Cohort = "tls"  // security profile 2: TLS without a client certificate
	CohortMTLS    Cohort = "mtls" // security profile 3: mutual TLS
	CohortBoth    Cohort = "both"
	// CohortUndetermined: the processes were compared, and their shares of mutual
	// TLS are too alike to tell. Skew the placement: route the stations so that
	// the shares differ between gateways.
	CohortUndetermined Cohort = "undetermined"
)

// Cohorts lists them, as metric labels; unknown is the empty text.
func Cohorts() []Cohort {
	return []Cohort{CohortUnknown, CohortTLS, CohortMTLS, CohortBoth, CohortUndetermined}
}

// Opened counts connections that were established since the start of a process,
// by whether they presented a client certificate. Connections without TLS are
// in neither.
type Opened struct {
	TLS  int64 `json:"tls"`
	MTLS int64 `json:"mtls"`
}

func (o Opened) sub(p Opened) Opened { return Opened{o.TLS - p.TLS, o.MTLS - p.MTLS} }

func (o Opened) total() int64 { return o.TLS + o.MTLS }
