package proxy

import (
	"bytes"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/quadnine/quadnine"
	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/upstream"
	"github.com/quadnine/quadnine/snapshot"
)

// maxInput is the longest reply that is read for a number, in bytes: a
// statistic's is a few hundred.
const maxInput = 64 << 10

var errNotWanted = errors.New("the exchange that asked for this input ended")

// input is one number that a version computes from: an exchange of its own, of
// which it is the caller. It lives on the shard of both.
type input struct {
	parent *Exchange
	child  *Exchange // nil when it is done
	metric string

	done      bool
	dropped   bool // nobody waits for it any more
	whole     bool // the reply ended well
	broken    bool
	long      bool // the reply is longer than maxInput
	crowded   bool // the process has no memory left for it
	explained bool // the reply is our own error
	asked     bool // a peer was asked
	status    int
	head      field.List
	body      []byte
	age       time.Duration // of a stored reply; negative otherwise
	step      policy.Step
	err       *quadnine.Error // what went wrong, also where a degrade step made it good
}

var _ upstream.Stream = (*input)(nil)

// begin asks for metric as x was asked for its own. The exchange starts at the
// route: it has no model, so a chain of models ends here.
func (in *input) begin(x *Exchange, metric string) {
	c := x.loop.take(x.conn, in)
	c.site = x.site
	*in = input{parent: x, child: c, metric: metric, age: -1, step: policy.Explain}
	c.input = in
	c.Key = quadnine.Key{Tenant: x.Key.Tenant, Metric: metric}
	c.Deadline, c.hop, c.method, c.remote = x.Deadline, x.hop, x.method, x.remote
	c.req.CopyFrom(&x.req)
	if c.method == methodHead {
		c.method = methodGet
		c.req.Set(":method", "GET")
	}
	if c.method == methodPost {
		c.reqBody = append(c.reqBody, x.reqBody...)
	} else {
		c.req.Del("content-length")
	}
	for _, name := range [...]string{
		hopHeader, "expect", "accept", "accept-encoding", // JSON, and readable
		"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", // whole
	} {
		c.req.Del(name)
	}
	c.rename(x.site.Keys.Metric, metric)
	c.path, c.query, _ = bytes.Cut(c.req.Get(":path"), []byte("?"))
	c.took(true)
	c.touch()
	c.at = atRoute
	c.run()
}

// rename has the request ask for another metric. Every header and parameter
// that can name the metric is replaced, so that it does not matter which of them
// the upstream looks at; a segment of the path only if it is what named it.
func (x *Exchange) rename(sources []snapshot.KeySource, metric string) {
	path, query, hasQuery := bytes.Cut(x.req.Get(":path"), []byte("?"))
	x.path, x.query = path, query
	named := false
	for i := range sources {
		s := &sources[i]
		gives := len(look(x, s)) > 0
		switch {
		case s.Kind == snapshot.FromHeader && x.req.Has(s.Name):
			x.req.Set(s.Name, metric)
		case s.Kind == snapshot.FromQuery:
			query = replaceParam(query, s.Name, url.QueryEscape(metric))
		case s.Kind == snapshot.FromPathSegment && gives && !named:
			path = replaceSegment(path, s.Index, url.PathEscape(metric))
		}
		named = named || gives
	}
	target := string(path)
	if hasQuery {
		target += "?" + string(query)
	}
	x.req.Set(":path", target)
}

// replaceParam returns query with the first parameter called name set to value
// and its others left out. One that is not there is not added.
func replaceParam(query []byte, name, value string) []byte {
	out := make([]byte, 0, len(query)+len(value))
	found := false
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		k, _, _ := bytes.Cut(pair, []byte("="))
		same := sameParam(k, name)
		if same && found {
			continue
		}
		if len(out) > 0 {
			out = append(out, '&')
		}
		if same {
			found = true
			out = append(append(append(out, k...), '='), value...)
		} else {
			out = append(out, pair...)
		}
	}
	return out
}

// sameParam reports whether k, which may be escaped, is name to any reader.
func sameParam(k []byte, name string) bool {
	if bytes.ContainsAny(k, "%+") {
		if s, err := url.QueryUnescape(string(k)); err == nil {
			return s == name
		}
	}
	return string(k) == name
}

// replaceSegment returns path with its n-th segment, from 0, set to value.
func replaceSegment(path []byte, n int, value string) []byte {
	segments := bytes.Split(path, []byte("/"))
	if n++; n < len(segments) { // the part before the first slash is empty
		segments[n] = []byte(value)
	}
	return bytes.Join(segments, []byte("/"))
}

// settle notes what came of the input's exchange, which is finishing.
func (in *input) settle(c *Exchange) {
	in.done, in.child = true, nil
	in.step, in.asked = c.step, c.asked
	in.err = c.firstErr
	if in.err == nil {
		in.err = c.err
	}
	in.explained = c.isLocal && c.step == policy.Explain
	if in.step == policy.Stale {
		if s, err := strconv.Atoi(string(in.head.Get("age"))); err == nil {
			in.age = time.Duration(s) * time.Second
		}
	}
}

// dropInputs ends the inputs' exchanges that are under way, as a caller that
// goes away does.
func (x *Exchange) dropInputs() {
	for i := range x.inputs {
		in := &x.inputs[i]
		in.dropped = true
		if in.child != nil {
			in.child.onCancel(errNotWanted)
		}
	}
}

// waitsForInputs reports whether an input's exchange is under way.
func (x *Exchange) waitsForInputs() bool {
	for i := range x.inputs {
		if !x.inputs[i].done && !x.inputs[i].dropped {
			return true
		}
	}
	return false
}

// WriteHead takes the reply's head; informational ones are for nobody.
func (in *input) WriteHead(head *field.List, end bool) {
	status, ok := parseStatus(head.Get(":status"))
	if !ok || status < 200 {
		return
	}
	in.status, in.whole = status, end
	in.head.CopyFrom(head)
}

// WriteData takes body bytes, all of them: what there is no room for is left out.
func (in *input) WriteData(p []byte, end bool) int {
	x := in.parent
	switch {
	case in.long || in.dropped || len(in.body)+len(p) > maxInput:
		in.long = true
	case in.crowded || !x.loop.server.budget.take(len(p)):
		in.crowded = true
	default:
		x.budgeted += len(p)
		in.body = append(in.body, p...)
	}
	in.whole = end
	return len(p)
}

// WriteTrailers ends the reply.
func (in *input) WriteTrailers(*field.List) { in.whole = true }

// Consume does nothing: the request was whole from the start.
func (in *input) Consume(int) {}

// Reset ends a reply that breaks off.
func (in *input) Reset(uint32) { in.broken = true }

// Buffered returns 0: what is written is taken.
func (in *input) Buffered() int { return 0 }

// ReadEnded returns true: the request was whole from the start.
func (in *input) ReadEnded() bool { return true }

// WriteEnded reports whether the reply is over.
func (in *input) WriteEnded() bool { return in.whole || in.broken }

// Release does nothing: settle does.
func (in *input) Release() {}
