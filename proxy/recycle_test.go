package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
)

// spoken is what a caller says in its n-th request: fields and a body that name it
// and nobody else, of lengths that make arenas grow and shrink.
func spoken(who string, n int) (fields [][2]string, body string) {
	for i := range 1 + n*7%13 {
		fields = append(fields, [2]string{fmt.Sprintf("X-%s-%d", who, i), who + strings.Repeat(fmt.Sprintf(".%d", n), i*n%60)})
	}
	return fields, strings.Repeat(who+" ", n*n*11%6000)
}

// Exchanges, streams, lists and buffers are used again and again by whoever comes
// next. Nothing of a tenant's may be found in another's request or reply, however
// the one before ended: whole, broken off, sent again, given up by its caller.
// Under the build tag invariants what is given back is overwritten first.
func TestNothingIsLeftForTheNextTenant(t *testing.T) {
	for _, down := range []testkit.Protocol{testkit.H2, testkit.H1} {
		for _, up := range []testkit.Protocol{testkit.H2, testkit.H1} {
			t.Run(fmt.Sprint(down, " to ", up), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { recycle(t, down, up) })
			})
		}
	}
}

func recycle(t *testing.T, down, up testkit.Protocol) {
	t.Helper()
	const callers, asks = 8, 60
	src := snapshot.Source{Upstreams: []string{string(up) + "://a:80", string(up) + "://b:80"}, Degrade: []string{"/kept"}, RetryBody: 64 << 10}
	r := newRig(t, src)
	var mu sync.Mutex
	tries := make(map[string]int)
	app := func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return // its caller gave up
		}
		who := req.Header.Get("X-Tenant-Id")
		var n int
		if _, err := fmt.Sscanf(req.URL.RawQuery, "n="+who+"-%d", &n); err != nil {
			t.Errorf("%s asked for %s", who, req.URL)
		}
		fields, body := spoken(who, n)
		if req.Method == http.MethodGet {
			body = ""
		}
		if string(b) != body {
			t.Errorf("%s %d: the body is %.60q, want %.60q", who, n, b, body)
		}
		checkSpoken(t, req.Header, who, fields)
		mu.Lock()
		tries[req.URL.RawQuery]++
		first := tries[req.URL.RawQuery] == 1
		mu.Unlock()
		if n%5 == 1 && first && who == fmt.Sprintf("T%d", n/5%callers) { // all at once would open the cluster's breaker
			panic(http.ErrAbortHandler)
		}
		if n%7 == 2 {
			time.Sleep(time.Second) // its caller does not wait for so long
		}
		for _, f := range fields {
			w.Header().Add(f[0], f[1])
		}
		w.Header().Set("Trailer", "X-End")
		_, _ = io.WriteString(w, "to "+who+" "+body)
		w.Header().Set("X-End", who)
	}
	r.app("a:80", app, up)
	r.app("b:80", app, up)
	client := r.newClient(down)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			who := fmt.Sprintf("T%d", c)
			for n := range asks {
				r.ask(client, who, n)
			}
		})
	}
	wg.Wait()
	time.Sleep(2 * time.Second) // what was given up ends at the app too
	r.settled()
}

// ask sends who's n-th request and looks at all of the reply.
func (r *rig) ask(client *http.Client, who string, n int) {
	t := r.t
	fields, body := spoken(who, n)
	method := []string{http.MethodGet, http.MethodPut, http.MethodPost}[n%3]
	if n%5 == 1 && method == http.MethodPost {
		method = http.MethodPut // it is broken off once, and sent again
	}
	path := []string{"/", "/kept"}[n%2]
	if method == http.MethodGet {
		body = ""
	}
	ctx := t.Context()
	if n%7 == 2 {
		c, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		ctx = c
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sidecar:80"+path+fmt.Sprintf("?n=%s-%d", who, n), strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	for _, f := range fields {
		req.Header.Add(f[0], f[1])
	}
	req.Header.Set("X-Tenant-Id", who)
	resp, err := client.Do(req)
	if err == nil {
		var b []byte
		b, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			if want := "to " + who + " " + body; resp.StatusCode != http.StatusOK || string(b) != want {
				t.Errorf("%s %d: got %d %.60q, want %.60q", who, n, resp.StatusCode, b, want)
			}
			if end := resp.Trailer.Get("X-End"); end != who {
				t.Errorf("%s %d: the trailer is %q", who, n, end)
			}
			checkSpoken(t, resp.Header, who, fields)
		}
	}
	if (err != nil) != (n%7 == 2) {
		t.Errorf("%s %d: %v", who, n, err)
	}
}

// checkSpoken wants who's fields in h, and nobody else's.
func checkSpoken(t *testing.T, h http.Header, who string, fields [][2]string) {
	t.Helper()
	for _, f := range fields {
		if got := h.Values(f[0]); len(got) != 1 || got[0] != f[1] {
			t.Errorf("%s: %s is %.60q, want %.60q", who, f[0], got, f[1])
		}
	}
	found := 0
	for name, values := range h {
		if strings.HasPrefix(name, "X-T") && name != "X-Tenant-Id" {
			found++
			if !strings.HasPrefix(name, "X-"+who+"-") {
				t.Errorf("%s is told %s", who, name)
			}
		}
		if bytes.ContainsRune([]byte(strings.Join(values, "")), 0x15) {
			t.Errorf("%s: %s is of memory that was given back", who, name)
		}
	}
	if found != len(fields) {
		t.Errorf("%s: %d fields, want %d", who, found, len(fields))
	}
}

// What is kept of a body for another try is let go with the reply's head: who goes
// on sending holds nothing.
func TestKeptBodyGoesWithTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, snapshot.Source{RetryBody: 1 << 20})
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.ReadFull(req.Body, make([]byte, 5))
			w.(http.Flusher).Flush()
			_, _ = io.Copy(w, req.Body)
		})
		body, write := io.Pipe()
		go func() { _, _ = io.WriteString(write, "first") }()
		resp, err := r.client.Do(r.request(http.MethodPut, "/", body))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(write, "and more")
		synctest.Wait()
		if n := r.server.budget.used.Load(); n != 0 {
			t.Errorf("%d bytes are kept of a request that is answered", n)
		}
		_ = write.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != "and more" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		_ = resp.Body.Close()
		r.settled()
	})
}

// The wait before a retry grows up to its bound, and not past what a number holds.
func TestBackOffIsBounded(t *testing.T) {
	for n, seconds := range map[uint32]int{1: 10, 2: 20, 4: 80, 5: 100, 31: 100, 40: 100, 1 << 31: 100} {
		p := &snapshot.Retry{Backoff: 10 * time.Second, MaxBackoff: 100 * time.Second}
		if got := longestWait(p, n); got.Seconds() != float64(seconds) {
			t.Errorf("before retry %d: %v, want %ds", n, got, seconds)
		}
	}
	if got := longestWait(&snapshot.Retry{MaxBackoff: time.Second}, 3); got != 0 {
		t.Errorf("%v without a back-off", got)
	}
}
