package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/proxy/field"
)

// captured is the first message of a connection, as our engine understood it.
type captured struct {
	pseudo  map[string]string
	fields  map[string][]string
	body    []byte
	trailer map[string][]string
	done    bool
}

func collect(l *field.List) (pseudo map[string]string, values map[string][]string) {
	pseudo, values = map[string]string{}, map[string][]string{}
	for i := range l.Len() {
		switch name := l.Name(i); {
		case name == nil:
		case name[0] == ':':
			pseudo[string(name)] = string(l.Value(i))
		default:
			k := http.CanonicalHeaderKey(string(name))
			values[k] = append(values[k], string(l.Value(i)))
		}
	}
	return pseudo, values
}

// capture makes r keep the first message whose head is no 1xx.
func capture(r *recorder) *captured {
	m := &captured{}
	r.onHead = func(_ *Stream, head *field.List, end bool) {
		if m.pseudo != nil || bytes.HasPrefix(head.Get(":status"), []byte("1")) {
			return
		}
		m.pseudo, m.fields = collect(head)
		m.done = end
	}
	r.onData = func(_ *Stream, p []byte, end bool) {
		if !m.done {
			m.body = append(m.body, p...)
			m.done = end
		}
	}
	r.onTrail = func(l *field.List) {
		if !m.done {
			_, m.trailer = collect(l)
		}
	}
	next := r.onEnd
	r.onEnd = func(s *Stream) {
		m.done = true
		next(s)
	}
	return m
}

// checkRequest holds that what we accept net/http accepts with the same meaning.
func checkRequest(t *testing.T, raw []byte) {
	t.Helper()
	r := &recorder{onEnd: func(*Stream) {}} // the first request only
	m := capture(r)
	c := NewServer(Config{}, r)
	err := c.Feed(0, raw)
	if err != nil || !m.done || r.s.TooLarge {
		return
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\r\n")))))
	if _, ok := errors.AsType[*url.Error](err); ok {
		return // net/http decodes the URL, we pass it on as it is
	}
	if err != nil {
		t.Fatalf("we accept what net/http refuses: %v\n%q", err, raw)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatalf("net/http refuses the body: %v\n%q", err, raw)
	}
	target := req.RequestURI
	if req.URL.IsAbs() {
		_, target, _ = strings.Cut(target, "://")
		target = target[min(len(target), len(m.pseudo[":authority"])):]
		if target == "" && req.Method == http.MethodOptions {
			target = "*"
		} else if target == "" || target[0] == '?' {
			target = "/" + target
		}
	}
	if m.pseudo[":method"] != req.Method || m.pseudo[":path"] != target || m.pseudo[":authority"] != req.Host && !strings.Contains(m.pseudo[":authority"], "%") {
		t.Fatalf("%v, net/http says %s %s %s\n%q", m.pseudo, req.Method, req.Host, target, raw)
	}
	checkMessage(t, m, req.Header, req.Trailer, body, raw)
}

func checkMessage(t *testing.T, m *captured, header, trailer http.Header, body, raw []byte) {
	t.Helper()
	if !bytes.Equal(m.body, body) {
		t.Fatalf("body %q, net/http says %q\n%q", m.body, body, raw)
	}
	for name, values := range m.fields {
		if name == "Te" || name == "Trailer" { // normalized by us, removed by net/http
			continue
		}
		if !slices.Equal(values, header[name]) {
			t.Fatalf("%s: %q, net/http says %q\n%q", name, values, header[name], raw)
		}
	}
	for name, values := range m.trailer {
		if !slices.Equal(values, trailer[name]) {
			t.Fatalf("trailer %s: %q, net/http says %q\n%q", name, values, trailer[name], raw)
		}
	}
}

// checkResponse is checkRequest for a response to method.
func checkResponse(t *testing.T, raw []byte, method string) {
	t.Helper()
	c, r, _ := newClient(t, Config{}, method)
	m := capture(r)
	if err := c.Feed(0, raw); err != nil && m.pseudo == nil {
		return
	}
	c.FeedEOF()
	if r.err != nil || !m.done || m.pseudo[":status"] == "204" && bytes.Contains(bytes.ToLower(raw), []byte("chunked")) {
		return // net/http would wait for the last chunk of a 204
	}
	in := bufio.NewReader(bytes.NewReader(raw))
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("we accept what net/http refuses: %v\n%q", err, raw)
		}
		if resp.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatalf("net/http refuses the body: %v\n%q", err, raw)
		}
		if m.pseudo[":status"] != resp.Status[:3] {
			t.Fatalf("status %s, net/http says %s\n%q", m.pseudo[":status"], resp.Status, raw)
		}
		checkMessage(t, m, resp.Header, resp.Trailer, body, raw)
		return
	}
}

func seeds(t testing.TB, file string) (all [][]byte) {
	t.Helper()
	for _, v := range readVectors(t, file) {
		if raw := v.bytes(t); len(raw) < 2000 {
			all = append(all, raw)
		}
	}
	return all
}

func TestVectorsMeanTheSameToNetHTTP(t *testing.T) {
	for _, raw := range seeds(t, "testdata/requests.txt") {
		checkRequest(t, raw)
	}
	for _, raw := range seeds(t, "testdata/responses.txt") {
		checkResponse(t, raw, "GET")
		checkResponse(t, raw, "HEAD")
	}
}

func FuzzServerFeed(f *testing.F) {
	f.Add([]byte(get), 1)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nA: b\r\n\r\n"+get), 2)
	f.Add([]byte("POST http://a/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close, x\r\nX: 1\r\n\r\nhi"), 7)
	f.Add([]byte("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"), 3)
	for _, raw := range seeds(f, "testdata/requests.txt") {
		f.Add(raw, 5)
	}
	f.Fuzz(func(t *testing.T, raw []byte, n int) {
		n = min(max(n, 1), 1<<12)
		if whole, pieces := serverEvents(raw, len(raw)+1), serverEvents(raw, n); whole != pieces {
			t.Fatalf("in pieces of %d:\n%s\nat once:\n%s", n, pieces, whole)
		}
		checkRequest(t, raw)
	})
}

func FuzzClientFeed(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), 1, false)
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n"), 2, false)
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nhello"), 3, false)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\nX: 1\r\n\r\n"), 4, true)
	for _, raw := range seeds(f, "testdata/responses.txt") {
		f.Add(raw, 5, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, n int, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		v := vector{method: method + " EOF"}
		// Whether the bytes after a response find it already idle depends on the pieces.
		exchange := func(n int) string {
			log, _, _ := strings.Cut(clientEvents(t, v, raw, n), "closing=")
			log, _, _ = strings.Cut(log, "idle\n")
			return log
		}
		n = min(max(n, 1), 1<<12)
		if whole, pieces := exchange(len(raw)+1), exchange(n); whole != pieces {
			t.Fatalf("in pieces of %d:\n%s\nat once:\n%s", n, pieces, whole)
		}
		checkResponse(t, raw, method)
	})
}
