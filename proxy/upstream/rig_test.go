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

	connected, dialFailed, fellBack int // on the shard
}

// bubble runs f in fake time with a rig whose cluster has these endpoints, given
// as URLs. When f returns, nothing may be left of any exchange.
func bubble(t *testing.T, urls []string, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		origin := time.Now()
		r := &rig{t: t, net: testkit.NewNet(), shard: shard.New(0, origin)}
		snap, err := snapshot.Compile(snapshot.Source{Role: "outbound", Upstreams: urls, Timeout: time.Second, Idle: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		now := func() int64 { return int64(time.Since(origin)) }
		r.cluster = NewCluster(snap.Local, now, func(c Transition) { r.changes = append(r.changes, c) })
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
			for _, e := range r.cluster.Endpoints {
				if e.Active() != 0 || e.Conns() != 0 {
					t.Errorf("endpoint %s: %d exchanges and %d connections left, want none", e.Address, e.Active(), e.Conns())
				}
			}
			time.Sleep(time.Second) // net/http's server lingers half a second on some closes
		})
		f(r)
	})
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
	held   bool // the stream is kept when the response is over

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
	for _, e := range c.Endpoints {
		n += e.Counts().Requests
	}
	return n
}

func (x *try) OnUnavailable(err error) {
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
