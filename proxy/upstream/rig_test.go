package upstream

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/snapshot"
)

// rig is a pool on a running shard and an in-memory network, with one cluster.
type rig struct {
	t       *testing.T
	net     *testkit.Net
	shard   *shard.Shard
	pool    *Pool
	cluster *Cluster
	changes []Transition
	gone    []*Endpoint // of before updates

	connected, dialFailed, fellBack int // on the shard
}

// bubble runs f in fake time with a rig whose cluster has these endpoints, given
// as URLs. When f returns, nothing may be left of any exchange.
func bubble(t *testing.T, urls []string, f func(r *rig)) {
	t.Helper()
	snap, err := snapshot.Compile(snapshot.Source{Role: "outbound", Upstreams: urls, Timeout: time.Second, Idle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	bubbleOf(t, snap.Clusters[snapshot.LocalCluster], f)
}

// bubbleOf is bubble with a cluster as it is configured.
func bubbleOf(t *testing.T, c *snapshot.Cluster, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		origin := time.Now()
		r := &rig{t: t, net: testkit.NewNet(), shard: shard.New(0, origin)}
		now := func() int64 { return int64(time.Since(origin)) }
		r.cluster = NewCluster(c, now, func(c Transition) { r.changes = append(r.changes, c) })
		r.pool = NewPool(r.shard, r.net.Dial, Events{
			Connected:  func() { r.connected++ },
			DialFailed: func() { r.dialFailed++ },
			FellBack:   func() { r.fellBack++ },
		})
		go r.shard.Run()
		t.Cleanup(func() {
			r.shard.Shutdown()
			<-r.shard.Done()
			r.pool.Close()
			for _, e := range append(r.gone, r.cluster.Endpoints()...) {
				if e.Active() != 0 || e.Conns() != 0 {
					t.Errorf("endpoint %s: %d exchanges and %d connections left, want none", e.Address, e.Active(), e.Conns())
				}
			}
			dials := int64(0) // that the shard did not live to see the end of
			if l := r.pool.lanes[r.cluster]; l != nil {
				for _, h := range l.hosts {
					dials += int64(h.dialing)
				}
			}
			for p := range r.cluster.usage {
				if u := r.cluster.Usage(snapshot.Priority(p)); u.Connections > dials || u.Pending != 0 || u.Requests != 0 {
					t.Errorf("priority %d: %+v left, want nothing", p, u)
				}
			}
			time.Sleep(time.Second) // net/http's server lingers half a second on some closes
		})
		f(r)
	})
}

// managed is a cluster as a management server configures it, with these
// endpoints in one locality.
func managed(endpoints ...snapshot.Endpoint) *snapshot.Cluster {
	return &snapshot.Cluster{
		ClusterSettings: &snapshot.ClusterSettings{
			Name: "managed", Protocol: snapshot.H2C, ConnectTimeout: time.Second, IdleTimeout: time.Hour,
			Balance:    snapshot.Balance{Policy: snapshot.RoundRobin, Choices: 2, Panic: 50},
			Thresholds: [2]snapshot.Thresholds{snapshot.DefaultThresholds, snapshot.DefaultThresholds},
		},
		Assignment: &snapshot.Assignment{Endpoints: endpoints, Overprovisioning: 140, Localities: []snapshot.Locality{{}}},
	}
}

// to are endpoints at these addresses.
func to(addresses ...string) (out []snapshot.Endpoint) {
	for _, a := range addresses {
		out = append(out, snapshot.Endpoint{Address: a, Weight: 1})
	}
	return out
}

// update applies c; endpoints that go are looked at when the test ends.
func (r *rig) update(c *snapshot.Cluster) {
	r.gone = append(r.gone, r.cluster.Endpoints()...)
	r.cluster.Update(c)
}

// errand runs a function on the shard.
type errand struct {
	shard.Mail
	do   func()
	done chan struct{}
}

func (e *errand) Receive(*shard.Mail) {
	e.do()
	close(e.done)
}

func (r *rig) do(f func()) {
	e := &errand{do: f, done: make(chan struct{})}
	e.To = e
	r.shard.Post(&e.Mail)
	<-e.done
}

// serve starts Go's own server at address.
func (r *rig) serve(address string, h http.HandlerFunc, ps ...testkit.Protocol) testkit.Listener {
	if len(ps) == 0 {
		ps = []testkit.Protocol{testkit.H2}
	}
	l := testkit.Serve(r.net, address, h, ps...)
	r.t.Cleanup(l.Kill)
	return l
}

// serveConns gives every connection to address to f, on a goroutine of its own.
func (r *rig) serveConns(address string, f func(net.Conn)) {
	l := r.net.Listen(address)
	r.t.Cleanup(l.Kill)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
}

// hang has dials to address wait until the returned function is called, which
// refuses them.
func (r *rig) hang(address string) func() {
	l := r.net.Listen(address)
	return func() {
		l.Kill()
		synctest.Wait()
	}
}

// limited starts an HTTP/2 server that allows n streams a connection.
func (r *rig) limited(address string, n int, h http.HandlerFunc) {
	l := r.net.Listen(address)
	r.t.Cleanup(l.Kill)
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: n}}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
}

// try is one exchange: a GET that counts its events.
type try struct {
	rig    *rig
	path   string
	want   Request
	stream Stream
	retry  func(error) // instead of ending when there is no stream
	held   bool        // the stream is kept when the response is over

	status string
	body   string
	served int // the how-many-th of the rig's exchanges that got a stream
	fail   *Failure
	err    error // of Open, or what OnUnavailable brought
	over   chan struct{}
	calls  int // ends that were told; more than one is a defect
}

// get opens an exchange. It may be waiting, running or over when get returns.
func (r *rig) get(path string) *try {
	x := r.prepare(path)
	r.do(x.open)
	return x
}

func (r *rig) prepare(path string) *try {
	x := &try{rig: r, path: path, over: make(chan struct{})}
	x.want.Receiver = x
	return x
}

func (x *try) open() {
	s, err := x.rig.pool.Open(x.rig.cluster, &x.want)
	switch {
	case err != nil:
		x.err = err
		x.end()
	case s != nil:
		x.OnUpstream(s)
	}
}

func (x *try) end() {
	if x.calls++; x.calls == 1 {
		close(x.over)
	}
}

// release gives the stream back.
func (x *try) release() {
	if x.stream != nil {
		x.stream.Release()
		x.stream = nil
		x.rig.pool.Done(&x.want)
	}
}

func (x *try) OnUpstream(s Stream) {
	x.stream = s
	x.served = int(x.rig.cluster.requests())
	var head field.List
	head.Add(":method", "GET")
	head.Add(":scheme", "http")
	head.Add(":authority", "app")
	head.Add(":path", x.path)
	s.WriteHead(&head, true)
}

// requests sums the streams that were opened.
func (c *Cluster) requests() (n uint64) {
	for _, e := range c.Endpoints() {
		n += e.Counts().Requests
	}
	return n
}

func (x *try) OnUnavailable(err error) {
	if x.retry != nil {
		x.retry(err)
		return
	}
	x.err = err
	x.end()
}

func (x *try) OnUpHead(head *field.List, end bool) {
	x.status = string(head.Get(":status"))
	x.done(end)
}

func (x *try) OnUpData(p []byte, end bool) {
	x.body += string(p)
	x.stream.Consume(len(p))
	x.done(end)
}

func (x *try) OnUpTrailers(*field.List) { x.done(true) }

func (x *try) done(end bool) {
	if !end {
		return
	}
	if !x.held {
		x.release()
	}
	x.end()
}

func (x *try) OnUpReset(f Failure) {
	x.fail = &f
	x.release()
	x.end()
}

func (x *try) OnUpSent(int) {}

// ok waits for the exchange and wants a 200 with this body.
func (x *try) ok(body string) *try {
	x.rig.t.Helper()
	<-x.over
	if x.err != nil || x.fail != nil || x.status != "200" || x.body != body || x.calls != 1 {
		x.rig.t.Fatalf("GET %s: status %q body %q, error %v, failure %+v, ended %d times; want 200 with %q",
			x.path, x.status, x.body, x.err, x.fail, x.calls, body)
	}
	return x
}

// running reports whether the exchange has a stream, and waiting whether it
// waits for one.
func (x *try) running() (yes bool) {
	x.rig.do(func() { yes = x.stream != nil })
	return yes
}

func (x *try) waiting() (yes bool) {
	x.rig.do(func() { yes = x.want.waiting })
	return yes
}

// hello answers with its path.
func hello(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.URL.Path) }

// protocolOf notes which major version of HTTP each request came in.
func protocolOf(seen *[]int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		*seen = append(*seen, req.ProtoMajor)
		hello(w, req)
	}
}

// gate is a handler that answers when it is told to, in any order.
type gate struct{ open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{})} }

func (g *gate) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case <-g.open:
		hello(w, req)
	case <-req.Context().Done():
	}
}

// pass lets one waiting request through.
func (g *gate) pass() { g.open <- struct{}{} }
