package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quadnine/quadnine/proxy/field"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/upstream"
)

// relay passes the first request of a caller's engine to an upstream's, as the
// pipeline does.
type relay struct {
	up       upstream.Stream
	head     field.List
	body     []byte
	trailers field.List
	begun    bool
	ended    bool
	broken   bool // by either engine
}

func (r *relay) onHead(head *field.List, end, tooLarge bool) {
	if r.begun || tooLarge {
		return
	}
	r.head.CopyFrom(head)
	r.begun, r.ended = true, end
	r.up.WriteHead(&r.head, end)
}

func (r *relay) onData(p []byte, end bool) {
	if r.ended {
		return
	}
	r.body = append(r.body, p...)
	r.ended = end
	r.up.WriteData(p, end)
}

func (r *relay) onTrailers(t *field.List) {
	if r.ended {
		return
	}
	r.trailers.CopyFrom(t)
	r.ended = true
	r.up.WriteTrailers(&r.trailers)
}

func (r *relay) onReset() { r.broken = r.broken || !r.ended }

// The engines' handlers: a caller's relays, an upstream's only breaks off.
type (
	down1 struct{ *relay }
	down2 struct{ *relay }
	up1   struct{ *relay }
	up2   struct{ *relay }
)

func (d down1) OnHead(s *h1.Stream, l *field.List, end bool) { d.onHead(l, end, s.TooLarge) }
func (d down1) OnData(s *h1.Stream, p []byte, end bool)      { d.onData(p, end); s.Consume(len(p)) }
func (d down1) OnTrailers(_ *h1.Stream, t *field.List)       { d.onTrailers(t) }
func (d down1) OnReset(*h1.Stream, error)                    { d.onReset() }
func (d down1) OnSent(*h1.Stream, int)                       {}
func (d down1) OnOutput(*h1.Conn)                            {}
func (d down1) OnIdle(*h1.Conn)                              {}

func (d down2) OnHead(s *h2.Stream, l *field.List, end bool) { d.onHead(l, end, s.TooLarge) }
func (d down2) OnData(s *h2.Stream, p []byte, end bool)      { d.onData(p, end); s.Consume(len(p)) }
func (d down2) OnTrailers(_ *h2.Stream, t *field.List)       { d.onTrailers(t) }
func (d down2) OnReset(*h2.Stream, error)                    { d.onReset() }
func (d down2) OnSent(*h2.Stream, int)                       {}
func (d down2) OnOutput(*h2.Conn)                            {}
func (d down2) OnSettings(*h2.Conn)                          {}
func (d down2) OnGoAway(*h2.Conn)                            {}

func (up1) OnHead(*h1.Stream, *field.List, bool) {}
func (up1) OnData(*h1.Stream, []byte, bool)      {}
func (up1) OnTrailers(*h1.Stream, *field.List)   {}
func (u up1) OnReset(*h1.Stream, error)          { u.broken = true }
func (up1) OnSent(*h1.Stream, int)               {}
func (up1) OnOutput(*h1.Conn)                    {}
func (up1) OnIdle(*h1.Conn)                      {}

func (up2) OnHead(*h2.Stream, *field.List, bool) {}
func (up2) OnData(*h2.Stream, []byte, bool)      {}
func (up2) OnTrailers(*h2.Stream, *field.List)   {}
func (u up2) OnReset(*h2.Stream, error)          { u.broken = true }
func (up2) OnSent(*h2.Stream, int)               {}
func (up2) OnOutput(*h2.Conn)                    {}
func (up2) OnSettings(*h2.Conn)                  {}
func (up2) OnGoAway(*h2.Conn)                    {}

// over relays what feed gives a caller's engine to an upstream of each protocol,
// and checks what that gets.
func over(t *testing.T, feed func(r *relay)) {
	t.Helper()
	r := new(relay)
	c1 := h1.NewClient(h1.DefaultConfig(), up1{r})
	s1, err := c1.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.up = s1
	feed(r)
	checkH1(t, r, c1.TakeOutput(nil))

	r = new(relay)
	c2 := h2.NewClient(h2.DefaultConfig(), up2{r})
	s2, err := c2.OpenStream(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.up = s2
	feed(r)
	checkH2(t, r, c2.TakeOutput(nil))
}

// sameFields checks that what an upstream reads under a name is what was passed on
// under it: nothing was smuggled in, nothing torn apart.
func sameFields(t *testing.T, where string, l *field.List, name string, values []string) {
	t.Helper()
	var sent []string
	for i := range l.Len() {
		if n := l.Name(i); n != nil && strings.EqualFold(string(n), name) {
			sent = append(sent, string(l.Value(i)))
		}
	}
	if !slices.Equal(sent, values) {
		t.Fatalf("%s %q: the upstream reads %q, what was passed on is %q", where, name, values, sent)
	}
}

// checkH1 reads out as net/http does.
func checkH1(t *testing.T, r *relay, out []byte) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(out))
	req, err := http.ReadRequest(in)
	if err != nil {
		if len(out) > 0 && r.ended && !r.broken && !strings.Contains(err.Error(), "invalid URL") && !strings.Contains(err.Error(), "invalid URI") {
			t.Fatalf("net/http refuses what was sent: %v\n%q", err, out)
		}
		return
	}
	body, err := io.ReadAll(req.Body)
	if !r.ended || r.broken {
		if err == nil && len(body) != len(r.body) {
			t.Fatalf("a request that was broken off is complete to the upstream\n%q", out)
		}
		return
	}
	rest, _ := io.ReadAll(in)
	if err != nil || len(rest) > 0 || !bytes.Equal(body, r.body) {
		t.Fatalf("body %q, %v, and then %q; what was passed on is %q\n%q", body, err, rest, r.body, out)
	}
	if req.Method != string(r.head.Get(":method")) || req.RequestURI != string(r.head.Get(":path")) || req.Host != string(r.head.Get(":authority")) && !strings.Contains(req.Host, "%") {
		t.Fatalf("%s %s at %q\n%q", req.Method, req.RequestURI, req.Host, out)
	}
	for name, values := range req.Header {
		switch name {
		case "Connection", "Te", "Content-Length":
		default:
			sameFields(t, "field", &r.head, name, values)
		}
	}
	for name, values := range req.Trailer {
		if values != nil {
			sameFields(t, "trailer", &r.trailers, name, values)
		}
	}
}

// checkH2 reads out as x/net's Framer does.
func checkH2(t *testing.T, r *relay, out []byte) {
	t.Helper()
	rest, ok := bytes.CutPrefix(out, []byte(http2.ClientPreface))
	if !ok {
		t.Fatalf("no preface: %q", out)
	}
	fr := http2.NewFramer(io.Discard, bytes.NewReader(rest))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var body []byte
	heads, ended := 0, false
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the Framer refuses what was sent: %v, %v", err, fr.ErrorDetail())
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			l, where := &r.head, "field"
			if heads++; heads > 1 {
				l, where = &r.trailers, "trailer"
			}
			got := make(map[string][]string)
			for _, h := range f.Fields {
				got[h.Name] = append(got[h.Name], h.Value)
			}
			for name, values := range got {
				sameFields(t, where, l, name, values)
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			return
		}
	}
	if r.ended && !r.broken && (!ended || !bytes.Equal(body, r.body)) && len(r.body) < 60000 {
		t.Fatalf("ended %v, body %q; what was passed on is %q", ended, body, r.body)
	}
	if ended && !r.ended {
		t.Fatal("a request that did not end is complete to the upstream")
	}
	if length := r.head.Get("content-length"); ended && length != nil && string(length) != strconv.Itoa(len(body)) {
		if n, err := strconv.Atoi(string(length)); err != nil || n != len(body) {
			t.Fatalf("content-length %s, body of %d bytes", length, len(body))
		}
	}
}

// vectorRequests are the requests of the HTTP/1.1 engine's vectors.
func vectorRequests(f *testing.F) (all [][]byte) {
	f.Helper()
	data, err := os.ReadFile("h1/testdata/requests.txt")
	if err != nil {
		f.Fatal(err)
	}
	for block := range strings.SplitSeq(string(data), "\n== ") {
		_, rest, _ := strings.Cut(block, "\n")
		_, rest, _ = strings.Cut(rest, "\n") // the verdict
		raw, _, _ := strings.Cut(rest, "----\n")
		if strings.Contains(raw, "repeat(") {
			continue
		}
		if s, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(raw, `"`, `\"`), "\n", "") + `"`); err == nil {
			all = append(all, []byte(s))
		}
	}
	if len(all) < 100 {
		f.Fatalf("%d vectors", len(all))
	}
	return all
}

// FuzzBridgeFromH1: whatever bytes an HTTP/1.1 caller sends, what reaches an upstream
// of either protocol is one well-formed request with the same meaning, or none that
// is complete.
func FuzzBridgeFromH1(f *testing.F) {
	for _, raw := range vectorRequests(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		over(t, func(r *relay) {
			_ = h1.NewServer(h1.DefaultConfig(), down1{r}).Feed(0, raw)
		})
	})
}

// FuzzBridgeFromH2: so for whatever field lists an HTTP/2 caller sends.
func FuzzBridgeFromH2(f *testing.F) {
	f.Add("GET", "http", "a", "/", "x", "y", "te", "trailers", "", "", "")
	f.Add("POST", "http", "a:80", "/q?a=b", "content-length", "2", "host", "a:80", "hi", "x-t", "1")
	f.Add("CONNECT", "http", "a", "/", ":protocol", "websocket", "x", "y", "hi", "", "")
	f.Add("GET", "http", "u@a", "/ HTTP/1.1\r\nx: y", "x\r\ny", "z", "x", "a\r\nb: c", "", "", "")
	f.Add("POST", "http", "a", "/", "transfer-encoding", "chunked", "connection", "x", "0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "content-length", "3")
	f.Add("HEAD", "https", "[::1]", "*", "content-length", "+1", "content-length", "1", "x", ":path", "/")
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, n1, v1, n2, v2, body, tn, tv string) {
		var in bytes.Buffer
		in.WriteString(http2.ClientPreface)
		fr := http2.NewFramer(&in, nil)
		_ = fr.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, h := range [][2]string{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}, {n1, v1}, {n2, v2}} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		if block.Len() > 16000 || len(body) > 16000 {
			return
		}
		end := body == "" && tn == ""
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Clone(block.Bytes()), EndHeaders: true, EndStream: end})
		if body != "" {
			_ = fr.WriteData(1, tn == "", []byte(body))
		}
		if tn != "" {
			block.Reset()
			_ = enc.WriteField(hpack.HeaderField{Name: tn, Value: tv})
			if block.Len() > 16000 {
				return
			}
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
		over(t, func(r *relay) {
			_ = h2.NewServer(h2.DefaultConfig(), down2{r}).Feed(0, bytes.Clone(in.Bytes()))
		})
	})
}
