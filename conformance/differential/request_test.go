package differential

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// request is what goes to both proxies.
type request struct {
	method, target, host string
	head                 [][2]string
	body                 string
	h1                   bool
	once                 bool // on a connection of its own: Go's client tries again what was reset with PROTOCOL_ERROR
	absolute             bool // target is //authority/path: HTTP/1.1 sends it in absolute form
	patience             time.Duration
	times                int    // more than 1: the distribution is compared
	want                 string // what Envoy must answer, so that a case is not empty: "200 b1", "404"
	keep                 map[string]bool
	before               func(s *stand, x *proxy) // just before it is sent to x
}

func get(target string) *request {
	return &request{method: http.MethodGet, target: target, host: "q.example", patience: within, times: 1}
}

func post(target, body string) *request {
	r := get(target)
	r.method, r.body = http.MethodPost, body
	return r
}

// on sets the authority.
func (r *request) on(host string) *request { r.host = host; return r }

// h adds a field.
func (r *request) h(name, value string) *request {
	r.head = append(r.head, [2]string{name, value})
	return r
}

// one sends it over HTTP/1.1.
func (r *request) one() *request { r.h1 = true; return r }

// alone sends it on a connection of its own, once.
func (r *request) alone() *request { r.once = true; return r }

// is says what Envoy answers.
func (r *request) is(want string) *request { r.want = want; return r }

// many sends it n times.
func (r *request) many(n int) *request { r.times = n; return r }

// keeps compares response fields by value that are left out otherwise.
func (r *request) keeps(names ...string) *request {
	r.keep = make(map[string]bool)
	for _, n := range names {
		r.keep[n] = true
	}
	return r
}

// String returns the request as a line of text.
func (r *request) String() string {
	var b strings.Builder
	b.WriteString(r.method + " " + r.host + r.target)
	for _, h := range r.head {
		b.WriteString(" " + h[0] + ":" + h[1])
	}
	if r.h1 {
		b.WriteString(" (HTTP/1.1)")
	}
	return b.String()[:min(300, b.Len())]
}

// answer is what a proxy answered.
type answer struct {
	err     string // "" when a whole response came
	status  int
	header  http.Header
	trailer http.Header
	body    string
	echo    *echo // when a backend answered
}

// brief is the answer as request.want spells it.
func (a answer) brief() string {
	switch {
	case a.err != "":
		return "error"
	case a.echo != nil:
		return itoa(a.status) + " " + a.echo.Backend
	case a.header.Get("X-Backend") != "":
		return itoa(a.status) + " " + a.header.Get("X-Backend")
	default:
		return itoa(a.status)
	}
}

// send sends the request once.
func (x *proxy) send(t *testing.T, r *request) answer {
	t.Helper()
	ctx := deadline(t, r.patience)
	var body io.Reader = http.NoBody
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, "http://q.example/", body)
	if err != nil {
		t.Fatal(err)
	}
	// Opaque keeps the path as it is written.
	req.Host, req.URL = r.host, &url.URL{Scheme: "http", Host: "q.example", Opaque: r.target}
	if strings.HasPrefix(r.target, "//") && !r.absolute { // Opaque would be read as an authority
		path, query, asks := strings.Cut(r.target, "?")
		plain, err := url.PathUnescape(path)
		if err != nil {
			t.Fatal(err)
		}
		req.URL = &url.URL{Scheme: "http", Host: "q.example", Path: plain, RawPath: path, RawQuery: query, ForceQuery: asks}
	}
	for _, h := range r.head {
		req.Header.Add(h[0], h[1])
	}
	c := x.h2
	if r.h1 {
		c = x.h1
	}
	do := c.Do
	if r.once {
		tr, ok := c.Transport.(*http.Transport)
		if !ok {
			t.Fatalf("%T", c.Transport)
		}
		conn, err := tr.NewClientConn(ctx, "http", "q.example:80")
		if err != nil {
			return answer{err: err.Error()}
		}
		defer conn.Close()
		do = conn.RoundTrip
	}
	res, err := do(req)
	if err != nil {
		return answer{err: err.Error()}
	}
	defer res.Body.Close()
	p, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, header: res.Header, trailer: res.Trailer, body: string(p)}
	if err != nil {
		a.err = err.Error()
		return a
	}
	if res.Header.Get("X-Backend") != "" {
		e := new(echo)
		if json.Unmarshal(p, e) == nil && e.Backend != "" {
			a.echo = e
		}
	}
	return a
}

// drive sends the request r.times times, by 8 callers, and counts the answers.
func (x *proxy) drive(t *testing.T, r *request) map[string]int {
	t.Helper()
	const callers = 8
	out := make(chan map[string]int, callers)
	for c := range callers {
		go func() {
			n := make(map[string]int)
			for i := c; i < r.times; i += callers {
				n[x.send(t, r).brief()]++
			}
			out <- n
		}()
	}
	sum := make(map[string]int)
	for range callers {
		for k, n := range <-out {
			sum[k] += n
		}
	}
	return sum
}
