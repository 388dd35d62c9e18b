package captures

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// holdHeader makes the backend keep a request until it is told to answer.
const holdHeader = "q-hold"

// backend is the one that every endpoint is.
type backend struct {
	addr    string
	arrived chan struct{} // a token for each request that is held
	answer  chan struct{} // closed: no request is held any more
}

// startBackend serves HTTP/1.1 and HTTP/2 with prior knowledge until the test
// ends.
func startBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String(), arrived: make(chan struct{}, 8), answer: make(chan struct{})}
	s := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(b.serve)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { s.Close() })
	return b
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(holdHeader) != "" {
		b.arrived <- struct{}{}
		select {
		case <-b.answer:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("q-backend", "fake")
	w.Header().Set("q-path", r.URL.RequestURI())
	io.WriteString(w, "fake")
}
