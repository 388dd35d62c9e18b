// Command stats answers GET /stats with 1 KB of JSON over HTTP/1.1, by the
// standard library's server or by fasthttp: the two that are often compared.
// The body is made once, so that the servers are measured, not an encoder.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/quadnine/quadnine/bench/rivals"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	server := flag.String("server", "nethttp", "nethttp or fasthttp")
	flag.Parse()
	var err error
	switch *server {
	case "nethttp":
		err = netHTTP(*listen)
	case "fasthttp":
		err = fastHTTP(*listen)
	default:
		err = fmt.Errorf("no server %q: use nethttp or fasthttp", *server)
	}
	log.Fatal(err)
}

func netHTTP(listen string) error {
	body := rivals.StatsBody()
	length := strconv.Itoa(len(body))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+rivals.StatsPath, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", length)
		_, _ = w.Write(body)
	})
	srv := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return srv.ListenAndServe()
}

func fastHTTP(listen string) error {
	body := rivals.StatsBody()
	srv := &fasthttp.Server{
		Name: "stats",
		Handler: func(c *fasthttp.RequestCtx) {
			if string(c.Path()) != rivals.StatsPath || !c.IsGet() {
				c.Error("not found", http.StatusNotFound)
				return
			}
			c.SetContentType("application/json")
			c.SetBody(body)
		},
	}
	return srv.ListenAndServe(listen)
}
