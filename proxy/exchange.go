package proxy

import (
	"net/netip"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/internal/invariant"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

// The error codes of RFC 9113 section 7 that exchanges end streams with.
const (
	codeNoError  = 0x0
	codeProtocol = 0x1
	codeInternal = 0x2
	codeRefused  = 0x7
	codeCancel   = 0x8
)

// Exchange is one request and its response. It belongs to its loop and is reused:
// its progress is assigned anew, its buffers are emptied.
type Exchange struct {
	loop *loop
	buffers
	progress
}

// buffers keep their memory from one request to the next.
type buffers struct {
	req         field.List
	reqTrailers field.List
	resp        field.List
	trailers    field.List
	reqBody     []byte // received and not sent on yet; kept for another try once collected
	body        []byte // of the held reply
	keyBuf      []byte // what cacheKey is built in
	local       []byte // scratch for replies of our own making
	scored      []byte // the reply that a worker wrote
}

// progress is all that is known of a request. Fields are grouped by the stage that
// fills them; no stage writes another's.
type progress struct {
	conn *downConn
	site *site           // the configuration that it began under
	down upstream.Stream // the caller's side; same methods as an upstream's

	// What came from the caller.
	reqEnded    bool   // the request is complete
	hasTrailers bool   // it ended with trailers
	owed        int    // body bytes received for which the caller has no credit yet
	upgrade     string // protocol that the caller asked to change to
	extended    bool   // by an extended CONNECT (RFC 8441)
	leftEarly   bool   // whose caller ended the tunnel before it was granted
	upgrading   bool   // the wish is passed on
	tunnel      bool   // and was granted: both bodies are bytes of that protocol
	twoWay      bool   // whose directions have an end of their own each
	tooLarge    bool   // the header list is over the limit and cut
	start       int64  // ns on the shard's time line
	wholeAt     int64  // ns; when the request was complete, 0 before
	received    int64  // body bytes

	// decode, of listeners of a management server
	remote   netip.AddrPort // who asks, as far as proxies in front are believed
	internal bool           // one of the listener's internal addresses asks
	edge     bool           // the request enters the mesh here

	// decode
	Key      quadnine.Key
	Deadline int64 // ns; 0 without one
	method   method
	grpc     bool
	hop      bool // a trusted sidecar sent this: it is never sent to a peer
	span     telemetry.Span
	path     []byte // without the query; aliases req
	query    []byte // without "?"; aliases req

	// filters
	filtered bool                  // a health check filter looked at it
	checking *snapshot.HealthCheck // the request is a health check of this filter
	cached   bool                  // and was answered as another was

	// version
	model     *Model // nil: none has a say
	lease     Lease
	assigned  *Arm // of the experiment that the caller is assigned to, nil without one
	pinned    bool // a trusted caller chose the version
	mode      snapshot.ModelMode
	echoed    bool // the upstream said that it was the version
	testified bool // the trial knows what came of it

	// route
	lot      uint64 // what the exchange draws; 0 until it does
	host     *snapshot.VirtualHost
	Route    *snapshot.Route
	weighted *snapshot.WeightedCluster // of the route's, the one that was drawn
	policies snapshot.Policies
	breakers *policy.Breakers // nil: no breaker per key
	cache    *policy.Cache    // nil: replies are not stored

	// guard
	permit     policy.Permit
	guarded    bool // the permit is to be recorded
	recorded   bool
	collecting bool // the request's body is gathered for the cache key
	collected  bool // reqBody is the whole body
	storable   bool // the reply may be stored under cacheKey
	cacheKey   policy.CacheKey
	job        shard.Job
	digest     [32]byte
	hashing    bool

	// compute
	phase         phase
	input         *input        // this exchange is one of another's inputs
	inputs        []input       // those of this one
	subject       *ModelVersion // what a worker evaluates
	beside        Shadow        // what computes the same once more; nil: nothing
	score         float64       // that the evaluation gave: of several rows their mean
	rows          int           // that were computed: 1, or those of a query of several
	listed        bool          // the query is of several rows, however many it had
	scoreErr      error         // of the evaluation
	inputErr      error         // of reading what came
	evaluating    bool          // a worker has it
	computed      bool          // the reply is a computed one
	previousTried bool

	// forward
	cluster     *upstream.Cluster
	clusterName string
	dispatched  bool          // the cluster is chosen and the request is what it is to see
	timeout     time.Duration // of the response; 0: none
	timedFrom   int64         // ns; when timeout began
	altTimeout  bool          // a time-out is told as 204
	target      []byte        // :path before it was rewritten; nil: it was not; aliases req
	authority   []byte        // :authority before it was rewritten, likewise
	endpoint    *upstream.Endpoint
	dialFailed  error  // why the last endpoint could not be reached
	headAt      int64  // ns; when the response's head came
	transport   string // why an endpoint could not be reached, for logs

	want     upstream.Request
	up       upstream.Stream
	sentBody bool // request bytes went to an upstream that cannot be replayed
	sentHead bool
	retry    retrying
	toPeer   bool
	asked    bool // the peer step was taken
	upOwed   int  // response bytes received for which the upstream has no credit yet
	headSeen bool
	status   int
	holding  bool // the reply is buffered: nothing was sent to the caller yet
	budgeted int  // bytes of the process budget that the buffers hold
	bodyRoom int  // of those, for the held reply's body
	upEnded  bool // the response is complete
	upHasTr  bool

	// respond, rescue
	err        *quadnine.Error
	firstErr   *quadnine.Error // what went wrong first, when a degrade step was taken
	step       policy.Step
	reply      []byte // the body of a local reply: local, or a stored body, which nobody may write
	rest       []byte // of a whole reply's body, what was not written yet
	isLocal    bool
	headSent   bool
	gone       bool  // nobody is there to answer
	answeredAt int64 // ns; when the reply's head was sent
	sent       int64 // body bytes
	flags      flags
	details    string // how the response came about, for logs
	streamGone bool   // the caller reset the stream, its connection goes on

	// the pipeline
	at       int
	running  bool
	again    bool
	finished bool
	touched  int64 // ns; the last progress of either body
	timer    shard.Timer
}

// The most that an exchange's buffers keep for the next one, in bytes.
const keepBuffer = 64 << 10

// reset readies x for another request, keeping what its buffers have grown to
// unless that is unusually much.
func (x *Exchange) reset() {
	x.buffers.empty()
	x.progress = progress{}
	x.step = policy.Explain
	x.timer.To = (*deadline)(x)
	x.want.Receiver = (*upSide)(x)
	x.job.Task, x.job.Done.To, x.job.Shard = (*hashBody)(x), (*hashed)(x), x.loop.shard
}

func (b *buffers) empty() {
	for _, l := range [...]*field.List{&b.req, &b.resp, &b.reqTrailers, &b.trailers} {
		if l.Bytes() > keepBuffer {
			*l = field.List{}
		}
		l.Void()
	}
	b.body = emptied(b.body)
	for _, p := range [...]*[]byte{&b.reqBody, &b.body, &b.keyBuf, &b.local, &b.scored} {
		if cap(*p) > keepBuffer {
			*p = nil
		}
		invariant.Poison(*p)
		*p = (*p)[:0]
	}
}

// fail notes the first error of the current try.
func (x *Exchange) fail(code quadnine.Code, origin quadnine.Origin, op string, reason policy.Reason, err error) {
	if x.err == nil {
		x.err = &quadnine.Error{Code: code, Origin: origin, Op: op, Key: x.Key, Err: err}
		if reason != policy.Unspecified {
			x.err.Reason = reason.String()
		}
	}
}

// touch notes progress, which moves the idle deadline.
func (x *Exchange) touch() { x.touched = x.loop.shard.Now() }

// method is a request method as far as the pipeline tells them apart.
type method uint8

const (
	methodOther method = iota
	methodGet
	methodHead
	methodPost
	methodOptions
	methodPut
	methodDelete
	methodConnect
)

func parseMethod(b []byte) method {
	switch string(b) {
	case "GET":
		return methodGet
	case "HEAD":
		return methodHead
	case "POST":
		return methodPost
	case "OPTIONS":
		return methodOptions
	case "PUT":
		return methodPut
	case "DELETE":
		return methodDelete
	case "CONNECT":
		return methodConnect
	default:
		return methodOther
	}
}

// idempotent is RFC 9110 section 9.2.2.
func (m method) idempotent() bool {
	switch m {
	case methodGet, methodHead, methodOptions, methodPut, methodDelete:
		return true
	default:
		return false
	}
}
