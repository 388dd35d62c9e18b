package differential

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echo is what a backend says of a request it got.
type echo struct {
	Backend   string
	Method    string
	Authority string
	Path      string
	Protocol  string
	Headers   http.Header
	Conn      int64
	Body      string
}

// backend is an HTTP server, HTTP/2 with prior knowledge and HTTP/1.1, that
// replies with what it was asked. Request fields tell it to behave otherwise:
//
//	q-status: 503        the status
//	q-set: name=value    a response field; repeatable
//	q-trailer: name=value
//	q-delay: 200ms       before the response
//	q-stall: 200ms       between two halves of the body
//	q-size: 100000       the body's length, instead of the echo
//	q-hold: key          no response until release(key)
//	q-abort: 1           the stream is reset without a response
type backend struct {
	id, addr string
	conns    atomic.Int64
	open     atomic.Int64 // connections that are open now

	mu   sync.Mutex
	held map[string]*hold
}

type hold struct {
	gate    chan struct{}
	arrived chan struct{} // a token for each request that waits
}

type connKey struct{}

// startBackend starts a backend that ends with the test.
func startBackend(t *testing.T, id string) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{id: id, addr: l.Addr().String(), held: make(map[string]*hold)}
	srv := &http.Server{
		Handler:   b,
		Protocols: new(http.Protocols),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, b.conns.Add(1))
		},
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				b.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				b.open.Add(-1)
			default:
			}
		},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return b
}

func (b *backend) port() string {
	_, p, _ := net.SplitHostPort(b.addr)
	return p
}

// holding returns the requests that wait under key.
func (b *backend) holding(key string) *hold {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[key]
	if h == nil {
		h = &hold{make(chan struct{}), make(chan struct{}, 10_000)}
		b.held[key] = h
	}
	return h
}

func (b *backend) release(key string) { close(b.holding(key).gate) }

// ServeHTTP implements http.Handler.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	conn, _ := r.Context().Value(connKey{}).(int64)
	h := w.Header()
	h.Set("X-Backend", b.id)
	h.Set("Content-Type", "application/json")
	for _, v := range r.Header.Values("Q-Set") {
		name, value, _ := strings.Cut(v, "=")
		h.Add(name, value)
	}
	if b.attempt(w, r) {
		return
	}
	if key := r.Header.Get("Q-Hold"); key != "" {
		h := b.holding(key)
		h.arrived <- struct{}{}
		select {
		case <-h.gate:
		case <-r.Context().Done():
			return
		}
	}
	if !pause(r.Context(), r.Header.Get("Q-Delay")) {
		return
	}
	if r.Header.Get("Q-Abort") != "" {
		panic(http.ErrAbortHandler)
	}
	out, _ := json.Marshal(echo{b.id, r.Method, r.Host, r.RequestURI, r.Proto, r.Header, conn, string(body)})
	if n, err := strconv.Atoi(r.Header.Get("Q-Size")); err == nil {
		out = make([]byte, n)
	}
	for _, v := range r.Header.Values("Q-Trailer") {
		name, value, _ := strings.Cut(v, "=")
		h.Add(http.TrailerPrefix+name, value)
	}
	if n, err := strconv.Atoi(r.Header.Get("Q-Status")); err == nil {
		w.WriteHeader(n)
	}
	if d := r.Header.Get("Q-Stall"); d != "" {
		w.Write(out[:len(out)/2])
		w.(http.Flusher).Flush()
		if !pause(r.Context(), d) {
			return
		}
		out = out[len(out)/2:]
	}
	w.Write(out)
}

// pause waits as long as the text says; false when the caller is gone first.
func pause(ctx context.Context, text string) bool {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
