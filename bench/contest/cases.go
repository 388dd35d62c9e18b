package contest

import (
	"strconv"
	"time"

	"github.com/quadnine/quadnine/bench/load/driver"
	"github.com/quadnine/quadnine/bench/rivals"
)

// testCase is one row: a load on a stand.
type testCase struct {
	name   string // for flags and files
	title  string // as it stands in the table
	kind   Kind
	stand  *standSpec
	rounds int
	length time.Duration
	direct bool // also measured without a proxy, for what one adds to the latency
	load   load
}

// The names that goals and flags refer to.
const (
	caseStatic    = "saturated-static"
	caseUnique    = "saturated-unique"
	caseUnbatched = "unbatched"
	caseLow       = "rate-2k"
	caseStreaming = "streaming"
	caseTLS       = "tls"
	caseIdle      = "idle"
	caseFresh     = "connections-0"
	caseThousand  = "connections-1000"
	caseShards    = "shards"
	caseRoutes    = "routes"
	caseClusters  = "clusters"
	caseKeys      = "keys"
	caseServers   = "servers"
)

// The loads' shape: 8 connections, because a sidecar's callers hold few and long
// ones, with 32 requests at once on each where the proxy is to be busy.
const (
	connections = 8
	streams     = 32
)

// cases returns all cases, those of one stand behind each other.
func cases() []*testCase {
	main := &standSpec{name: "main", mode: rivals.Plain, body: 200, entrants: proxies}
	second := time.Second
	list := []*testCase{
		{name: caseStatic, title: "saturated, static headers (h2load)", stand: main, rounds: 5, length: second, load: h2load{clients: connections, streams: streams}},
		{name: caseUnique, title: "saturated, unique headers", stand: main, rounds: 5, length: second, load: drive{plan(streams, unique)}},
		{name: caseUnbatched, title: "unbatched: 8 × 1 stream", stand: main, rounds: 9, length: second, load: drive{plan(1, unique)}},
		{name: caseLow, title: "2,000/s, open loop", stand: main, rounds: 4, length: 2 * second, direct: true, load: drive{plan(100, unique, at(2_000))}},
		{name: "rate-50k", title: "50,000/s, open loop", stand: main, rounds: 3, length: second, direct: true, load: drive{plan(100, unique, at(50_000))}},
		{name: "rate-100k", title: "100,000/s, open loop", stand: main, rounds: 3, length: second, direct: true, load: drive{plan(100, unique, at(100_000))}},
		{name: "rate-180k", title: "180,000/s, open loop", stand: main, rounds: 3, length: second, direct: true, load: drive{plan(100, unique, at(180_000))}},
		{name: caseStreaming, title: "gRPC streaming, 100-byte messages there and back", stand: main, rounds: 3, length: second, load: drive{plan(16, messages(100, 4))}},
		{name: caseIdle, title: "idle, after the load", kind: Idle, stand: main, rounds: 1, length: time.Minute, load: idle{}},
	}
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		stand := &standSpec{name: "body-" + strconv.Itoa(size), mode: rivals.Plain, body: size, entrants: proxies}
		list = append(list, &testCase{
			name: "body-" + strconv.Itoa(size>>10) + "k", title: sizeTitle(size) + " replies", stand: stand, rounds: 3, length: second,
			load: drive{plan(max(1, min(streams, (4<<20)/size)), unique)},
		})
	}
	secure := &standSpec{name: "tls", mode: rivals.TLS, body: 200, entrants: proxies}
	old := &standSpec{name: "http1", mode: rivals.HTTP1, body: 200, entrants: proxies}
	list = append(list,
		&testCase{name: caseTLS, title: "TLS on both sides, saturated (h2load)", stand: secure, rounds: 5, length: second, load: h2load{clients: connections, streams: streams, tls: true}},
		&testCase{name: "http1-upstream", title: "HTTP/1.1 upstream, saturated", stand: old, rounds: 3, length: second, load: drive{plan(streams, unique)}},
	)
	for _, n := range []int{0, 1000, 10_000} {
		title := "just started, nothing asked but one request"
		if n > 0 {
			title = thousands(n) + " connections, mostly idle"
		}
		list = append(list, &testCase{
			name: "connections-" + strconv.Itoa(n), title: title, kind: Memory, rounds: 1, length: second,
			stand: &standSpec{name: "fresh", mode: rivals.Plain, body: 200, entrants: proxies, fresh: n + 128}, load: hold{connections: n},
		})
	}
	list = append(list, curves()...)
	alone := &standSpec{name: "servers", entrants: servers}
	return append(list, &testCase{name: caseServers, title: "GET /stats, 1 KB of JSON, HTTP/1.1, 64 connections (h2load)", kind: Servers, stand: alone, rounds: 5, length: second, load: h2load{clients: 64, streams: 1, http1: true}})
}

// plan makes a driver's plan of the usual shape.
func plan(streams int, more ...func(*driver.Plan)) driver.Plan {
	p := driver.Plan{Path: rivals.QueryPath, Connections: connections, Streams: streams}
	for _, m := range more {
		m(&p)
	}
	return p
}

// unique makes each request's headers its own: 16 tenants, 64 metrics, and a
// traceparent that no other has.
func unique(p *driver.Plan) { p.Unique, p.Tenants, p.Metrics = true, 16, 64 }

// at sends at a fixed rate.
func at(rate float64) func(*driver.Plan) { return func(p *driver.Plan) { p.Rate = rate } }

// messages makes long streams with so many messages of that size on their way.
func messages(size, outstanding int) func(*driver.Plan) {
	return func(p *driver.Plan) { p.Path, p.Message, p.Outstanding = rivals.StreamPath, size, outstanding }
}

// proxies are the entrants of most stands, servers those of the servers' one.
func proxies() []entrantSpec { return entrants(rivals.All()) }
func servers() []entrantSpec { return entrants(rivals.Servers()) }

func entrants(all []rivals.Rival) []entrantSpec {
	out := make([]entrantSpec, 0, len(all))
	for _, r := range all {
		out = append(out, entrantSpec{Rival: r})
	}
	return out
}

// sizeTitle writes 65536 as "64 KB".
func sizeTitle(n int) string {
	if n >= 1<<20 {
		return strconv.Itoa(n>>20) + " MB"
	}
	return strconv.Itoa(n>>10) + " KB"
}

// thousands writes 10000 as "10,000".
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
