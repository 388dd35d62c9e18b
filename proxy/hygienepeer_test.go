package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// heard is what one end of a bridge got: a line for each part, names in lower case.
type heard struct {
	verdict verdict
	text    string
}

// peer is an app on loopback that speaks one protocol, notes what it hears, and
// answers by the path.
type peer struct {
	t       *testing.T
	ln      net.Listener
	h2      bool
	began   chan struct{} // a head came
	heard   chan heard
	answers map[string]*family // by path; others get 200

	mu    sync.Mutex
	conns []net.Conn
}

func newPeer(t *testing.T, h2 bool, answers map[string]*family) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, ln: ln, h2: h2, began: make(chan struct{}, 1<<10), heard: make(chan heard, 1<<10), answers: answers}
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.conns {
			_ = c.Close()
		}
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			if h2 {
				go p.serve2(c)
			} else {
				go p.serve1(c)
			}
		}
	}()
	return p
}

// fieldLines are fields as heard has them.
func fieldLines(h http.Header) string {
	var b strings.Builder
	for name, values := range h {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	return b.String()
}

// serve1 reads with Go's own parser what the sidecar writes.
func (p *peer) serve1(c net.Conn) {
	defer func() { _ = c.Close() }()
	var raw bytes.Buffer
	in := bufio.NewReader(io.TeeReader(c, &raw))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		p.began <- struct{}{}
		body, err := io.ReadAll(req.Body)
		head, _, _ := strings.Cut(raw.String(), "\r\n\r\n")
		raw.Reset()
		if err != nil {
			p.heard <- heard{verdict: cut, text: err.Error()}
			return
		}
		p.heard <- heard{passed, fmt.Sprintf("%s %s\nauthority %s\n%s\n%s\n%s", req.Method, req.RequestURI, req.Host, strings.ReplaceAll(strings.ToLower(head), "\r", ""), body, fieldLines(req.Trailer))}
		f := p.answers[req.URL.Path]
		if f == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		_, _ = io.WriteString(c, f.h1)
		if f.eof {
			return
		}
	}
}

func (p *peer) serve2(c net.Conn) {
	defer func() { _ = c.Close() }()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	w := newWire(p.t, c)
	w.do(func(fr *http2.Framer) error { return fr.WriteSettings() })
	w.do(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
	got := make(map[uint32]string)
	for line := range w.frames {
		var id uint32
		var end bool
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "HEADERS", "DATA":
			_, _ = fmt.Sscanf(rest, "%d end=%v", &id, &end)
			if kind == "HEADERS" {
				p.began <- struct{}{}
				for _, f := range strings.Fields(rest)[2:] {
					name, value, _ := strings.Cut(f[1:], "=")
					got[id] += strings.Replace(f[:1]+name+": "+value+"\n", ":authority: ", "authority ", 1)
				}
			}
		case "RST_STREAM":
			_, _ = fmt.Sscanf(rest, "%d", &id)
			p.heard <- heard{verdict: cut, text: line}
		}
		if !end {
			continue
		}
		p.heard <- heard{passed, got[id] + w.said(id) + "\n"}
		_, path, _ := strings.Cut(got[id], ":path: ")
		path, _, _ = strings.Cut(path, "\n")
		f := p.answers[path]
		if f == nil {
			w.headers(id, true, ":status", "200")
			continue
		}
		w.say(id, &f.said, path, func() {})
	}
}

// say writes a message, and calls pause after its head.
func (w *wire) say(id uint32, s *said, row string, pause func()) {
	fields := make([]string, len(s.fields))
	for i, f := range s.fields {
		fields[i] = strings.ReplaceAll(f, "{row}", row)
	}
	w.headers(id, s.body == "" && s.trailers == nil && (s.endHead || fields[1] != "103"), fields...)
	pause()
	if s.body != "" {
		w.do(func(fr *http2.Framer) error { return fr.WriteData(id, s.trailers == nil, []byte(s.body)) })
	}
	if s.trailers != nil {
		w.headers(id, true, s.trailers...)
	}
}

// hears returns what the app hears next.
func (p *peer) hears() heard { return <-p.heard }

// silent returns an error when the app has heard something.
func (p *peer) silent() error {
	select {
	case h := <-p.heard:
		return fmt.Errorf("the app heard %q", h.text)
	default:
		return nil
	}
}
