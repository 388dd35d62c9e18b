package h1

import (
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

// loop is an owner that answers every request with the same reply.
type loop struct {
	reply *field.List
	body  []byte
	done  int
}

func (l *loop) OnHead(s *Stream, head *field.List, end bool) {
	if end {
		l.answer(s)
	}
}

func (l *loop) OnData(s *Stream, p []byte, end bool) {
	s.Consume(len(p))
	if end {
		l.answer(s)
	}
}

func (l *loop) answer(s *Stream) {
	l.done++
	if s.c.server {
		s.WriteHead(l.reply, false)
		s.WriteData(l.body, true)
	}
	s.Release()
}

func (l *loop) OnTrailers(s *Stream, _ *field.List) { l.answer(s) }
func (l *loop) OnReset(*Stream, error)              {}
func (l *loop) OnSent(*Stream, int)                 {}
func (l *loop) OnOutput(*Conn)                      {}
func (l *loop) OnIdle(*Conn)                        {}

// exchange carries one request and its response between two connections.
type exchange struct {
	client, server     *Conn
	toServer, toClient []byte
	request            *field.List
	atClient, atServer loop
}

func newExchange(chunked bool) *exchange {
	x := &exchange{request: fields(":method", "GET", ":scheme", "http", ":authority", "stats.example:8080",
		":path", "/api/v2/metrics/query?metric=pv&from=1&to=2", "x-tenant-id", "acme", "accept", "application/json",
		"user-agent", "quadnine-test", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}
	x.atServer.body = make([]byte, 200)
	x.atServer.reply = fields(":status", "200", "content-type", "application/json", "content-length", "200")
	if chunked {
		x.atServer.reply = fields(":status", "200", "content-type", "application/json")
	}
	x.client, x.server = NewClient(Config{}, &x.atClient), NewServer(Config{}, &x.atServer)
	return x
}

func (x *exchange) run() error {
	s, err := x.client.OpenStream(nil)
	if err != nil {
		return err
	}
	s.WriteHead(x.request, true)
	x.toServer = x.client.TakeOutput(x.toServer)
	x.client.Backlog(0)
	if err := x.server.Feed(0, x.toServer); err != nil {
		return err
	}
	x.toClient = x.server.TakeOutput(x.toClient)
	x.server.Backlog(0)
	return x.client.Feed(0, x.toClient)
}

func TestExchangeDoesNotAllocate(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		x := newExchange(chunked)
		allocs := testing.AllocsPerRun(100, func() {
			if err := x.run(); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 || x.atClient.done < 100 || x.atServer.done != x.atClient.done {
			t.Errorf("chunked %v: %v allocations an exchange, %d served, %d answered", chunked, allocs, x.atServer.done, x.atClient.done)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	b.ReportAllocs()
	x := newExchange(false)
	for b.Loop() {
		if err := x.run(); err != nil {
			b.Fatal(err)
		}
	}
}
