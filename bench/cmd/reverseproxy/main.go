// Command reverseproxy is the standard library's HTTP/2 proxy as a rival:
// httputil.ReverseProxy between an http.Server and an http.Transport.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	upstream := flag.String("upstream", "", "URL of the HTTP/2 upstream")
	flag.Parse()
	if err := serve(*listen, *upstream); err != nil {
		log.Fatal(err)
	}
}

// serve runs the proxy until it fails.
func serve(listen, upstream string) error {
	to, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Addr:              listen,
		Protocols:         h2c,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 256},
		ReadHeaderTimeout: 10 * time.Second,
		Handler: &httputil.ReverseProxy{
			Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport:  &http.Transport{Protocols: h2c, DisableCompression: true}, // no Accept-Encoding added, no body decoded
			BufferPool: &pool{},                                                   // else 32 KiB of garbage a request
			ErrorLog:   log.New(io.Discard, "", 0),
		},
	}
	return srv.ListenAndServe()
}

// pool lends the proxy its copy buffers.
type pool struct{ p sync.Pool }

// Get returns a buffer of 32 KiB, ReverseProxy's own size.
func (p *pool) Get() []byte {
	if b, ok := p.p.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

// Put takes a buffer back.
func (p *pool) Put(b []byte) { p.p.Put(&b) }
