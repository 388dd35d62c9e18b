// Command reverseproxy is the standard library's HTTP/2 proxy as a rival:
// httputil.ReverseProxy between an http.Server and an http.Transport.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	upstream := flag.String("upstream", "", "URL of the upstream")
	http1 := flag.Bool("http1", false, "speak HTTP/1.1 to the upstream")
	cert := flag.String("cert", "", "certificate file: TLS on both sides, the upstream checked by the same file")
	key := flag.String("key", "", "its key")
	flag.Parse()
	if err := serve(*listen, *upstream, *http1, *cert, *key); err != nil {
		log.Fatal(err)
	}
}

// serve runs the proxy until it fails.
func serve(listen, upstream string, http1 bool, cert, key string) error {
	to, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	down, up := new(http.Protocols), new(http.Protocols)
	transport := &http.Transport{
		Protocols:           up,
		DisableCompression:  true, // no Accept-Encoding added, no body decoded
		MaxIdleConnsPerHost: 512,  // over HTTP/1.1: the default of 2 would open connections all the time
		IdleConnTimeout:     time.Hour,
	}
	switch {
	case cert != "":
		down.SetHTTP2(true)
		up.SetHTTP2(true)
		pem, err := os.ReadFile(cert)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	case http1:
		down.SetUnencryptedHTTP2(true)
		up.SetHTTP1(true)
	default:
		down.SetUnencryptedHTTP2(true)
		up.SetUnencryptedHTTP2(true)
	}
	srv := &http.Server{
		Addr:              listen,
		Protocols:         down,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 256},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Hour,
		Handler: &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport:     transport,
			BufferPool:    &pool{}, // else 32 KiB of garbage a request
			FlushInterval: -1,      // messages of long streams go on at once
			ErrorLog:      log.New(io.Discard, "", 0),
		},
	}
	if cert != "" {
		return srv.ListenAndServeTLS(cert, key)
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
