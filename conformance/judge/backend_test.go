package judge

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// echo is what a backend says of a request it got.
type echo struct {
	Backend, Host, Path string
	Header              http.Header
}

// backend is a plain HTTP/1.1 server that replies with what it was asked, and
// takes an upgrade to websocket as a pipe that brings back what goes in.
type backend struct {
	name string
	port int
}

func startBackend(t *testing.T, name string) *backend {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{name: name}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	b.port, _ = strconv.Atoi(port)
	srv := &http.Server{Handler: b, ReadHeaderTimeout: within}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("backend %s: %v", name, err)
		}
	})
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		b.pipe(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// A caller who has left is its own test's business.
	_ = json.NewEncoder(w).Encode(echo{b.name, r.Host, r.URL.Path, r.Header})
}

// pipe switches protocols and brings lines back.
func (b *backend) pipe(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		return
	}
	for lines := bufio.NewScanner(rw); lines.Scan(); {
		if _, err := io.WriteString(c, b.name+" "+lines.Text()+"\n"); err != nil {
			return
		}
	}
}
