package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quadnine/quadnine"
)

// list is a header list for tests; a pair whose name is "" is a deleted field.
type list [][2]string

func (l list) Len() int { return len(l) }

func (l list) Name(i int) []byte {
	if l[i][0] == "" {
		return nil
	}
	return []byte(l[i][0])
}

func (l list) Value(i int) []byte { return []byte(l[i][1]) }

func (l list) Get(name string) []byte {
	for _, f := range l {
		if f[0] == name {
			return []byte(f[1])
		}
	}
	return nil
}

func newCache(tb testing.TB, change func(*CacheConfig)) *Cache {
	tb.Helper()
	cfg := DefaultCacheConfig()
	if change != nil {
		change(&cfg)
	}
	c, err := NewCache(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func pathKey(c *Cache, path string, h list) CacheKey {
	return c.Key(nil, &Query{Key: acme, Method: []byte("GET"), Authority: []byte("stats"), Path: []byte(path)}, h)
}

func TestCacheReturnsACopyUntilTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, nil)
		k, body := pathKey(c, "/a", nil), []byte("42")
		if !c.Put(k, 200, list{{":status", "200"}, {"content-type", "application/json"}}, body, clock()) {
			t.Fatal("not stored")
		}
		body[0] = 'x'
		time.Sleep(12 * time.Second)
		s, age, ok := c.Get(pathKey(c, "/a", nil), clock())
		if !ok || age != 12*time.Second || s.Status != 200 || string(s.Body) != "42" || string(s.Get("content-type")) != "application/json" {
			t.Fatalf("%v %v %+v", ok, age, s)
		}
		if s.Get(":status") != nil || s.Len() != 1 {
			t.Fatalf("pseudo-header fields are stored: %d fields", s.Len())
		}
		if n, newest := c.ForKey(acme, clock()); n != 1 || newest != 12*time.Second {
			t.Fatalf("ForKey: %d, %v", n, newest)
		}
		if n, _ := c.ForKey(umbra, clock()); n != 0 {
			t.Fatalf("ForKey of another key: %d", n)
		}
		time.Sleep(48 * time.Second)
		if _, age, ok := c.Get(k, clock()); !ok || age != 60*time.Second {
			t.Fatalf("at 60 s: %v, %v", ok, age)
		}
		time.Sleep(1)
		if _, _, ok := c.Get(k, clock()); ok {
			t.Fatal("older than TTL, still a hit")
		}
		if n, _ := c.ForKey(acme, clock()); n != 0 {
			t.Fatal("ForKey counts what Get refuses")
		}
		if n := c.Expire(clock()); n != 1 {
			t.Fatalf("Expire dropped %d", n)
		}
		if got, want := c.Stats(), (CacheStats{Hits: 2, Misses: 1, Stores: 1}); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func TestCacheReplaces(t *testing.T) {
	c := newCache(t, nil)
	k := pathKey(c, "/a", nil)
	c.Put(k, 200, list{}, []byte("old"), 0)
	c.Put(k, 200, list{}, []byte("new"), 5)
	if s, age, ok := c.Get(k, 6); !ok || string(s.Body) != "new" || age != 1 {
		t.Fatalf("%v %v %+v", ok, age, s)
	}
	if st := c.Stats(); st.Entries != 1 || st.Bytes != int64(mustGet(t, c, k).Bytes()) {
		t.Fatalf("%+v", st)
	}
}

func mustGet(t *testing.T, c *Cache, k CacheKey) *Stored {
	t.Helper()
	s, _, ok := c.Get(k, 0)
	if !ok {
		t.Fatal("a miss")
	}
	return s
}

// Two keys with one hash are told apart by their bytes.
func TestCacheComparesTheKey(t *testing.T) {
	c := newCache(t, nil)
	k, other := pathKey(c, "/a", nil), pathKey(c, "/b", nil)
	c.Put(k, 200, list{}, []byte("a"), 0)
	other.hash = k.hash
	if _, _, ok := c.Get(other, 0); ok {
		t.Fatal("a hit for another key with the same hash")
	}
}

func TestCacheStripsWhatMustNotBeToldAgain(t *testing.T) {
	c := newCache(t, nil)
	k := pathKey(c, "/a", nil)
	c.Put(k, 200, list{
		{":status", "200"},
		{"set-cookie", "sid=1"},
		{"connection", "close, X-Hop"},
		{"x-hop", "1"},
		{"keep-alive", "timeout=5"},
		{"transfer-encoding", "chunked"},
		{"cache-status", "up; hit"},
		{"age", "7"},
		{"x-quadnine-model", "m@1"},
		{"", "deleted"},
		{"proxy-authenticate", "Basic"},
		{"etag", `"v"`},
		{"x-empty", ""},
		{"vary", "accept"},
		{"date", "now"},
		{"vary", "cookie"},
	}, []byte("{}"), 0)
	var got []string
	s := mustGet(t, c, k)
	for i := range s.Len() {
		got = append(got, string(s.Name(i))+"="+string(s.Value(i)))
	}
	if want := []string{`etag="v"`, "x-empty=", "vary=accept", "date=now", "vary=cookie"}; !slices.Equal(got, want) {
		t.Fatalf("stored %q, want %q", got, want)
	}
	if v := s.Get("x-empty"); v == nil || len(v) != 0 {
		t.Fatalf("an empty field reads %v", v)
	}
}

func TestCacheRefusesWhatIsTooLongOrCut(t *testing.T) {
	c := newCache(t, func(c *CacheConfig) { c.MaxBodyBytes = 4 })
	k := pathKey(c, "/a", nil)
	for _, x := range []struct {
		body, length string
		want         bool
	}{{"12345", "", false}, {"123", "4", false}, {"1234", "4", true}, {"", "0", true}, {"12", "", true}} {
		h := list{}
		if x.length != "" {
			h = list{{"content-length", x.length}}
		}
		if got := c.Put(k, 200, h, []byte(x.body), 0); got != x.want {
			t.Errorf("%q with content-length %q: %v", x.body, x.length, got)
		}
	}
}

func TestCacheStaysWithinItsBytes(t *testing.T) {
	c := newCache(t, func(c *CacheConfig) { c.MaxBytes, c.MaxBodyBytes = 1<<20, 64<<10 })
	body := bytes.Repeat([]byte("x"), 10_000)
	for i := range 1000 {
		c.Put(pathKey(c, fmt.Sprint("/", i), nil), 200, list{{"x-long", strings.Repeat("h", 2000)}}, body, 0)
		if i%100 != 99 {
			continue
		}
		st := c.Stats()
		if st.Bytes > 1<<20 || st.Entries < 40 || st.Bytes < int64(st.Entries)*12_000 {
			t.Fatalf("after %d: %+v", i+1, st)
		}
	}
}

func TestCacheCloses(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newCache(t, nil)
	k := pathKey(c, "/a", nil)
	c.Put(k, 200, list{}, []byte("a"), 0)
	c.Close()
	if _, _, ok := c.Get(k, 0); ok {
		t.Fatal("a hit after Close")
	}
	if c.Put(k, 200, list{}, nil, 0) || c.Stats().Entries != 0 {
		t.Fatal("stored after Close")
	}
	c.Close()
}

func TestCacheConcurrently(t *testing.T) {
	c := newCache(t, func(c *CacheConfig) { c.MaxBytes, c.MaxBodyBytes = 64<<10, 4096 })
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			var scratch []byte
			for i := range 2000 {
				path := fmt.Sprint("/", (i*7+g)%100)
				k := c.Key(scratch, &Query{Key: acme, Method: []byte("GET"), Path: []byte(path)}, list{})
				scratch = k.Bytes()
				if s, _, ok := c.Get(k, int64(i)); ok {
					if string(s.Body) != path {
						t.Errorf("%s: %s", path, s.Body)
					}
				} else {
					c.Put(k, 200, list{}, []byte(path), int64(i))
				}
				if i%500 == 0 {
					c.Expire(int64(i))
				}
			}
		})
	}
	wg.Wait()
	if st := c.Stats(); st.Bytes > 64<<10 || st.Hits+st.Misses != 12_000 {
		t.Fatalf("%+v", st)
	}
}

func TestStorable(t *testing.T) {
	c := newCache(t, nil)
	get := list{{":method", "GET"}}
	for _, x := range []struct {
		status    int
		req, resp list
		why       string
	}{
		{200, get, list{{"cache-control", "no-store, private"}, {"set-cookie", "a=b"}}, ""},
		{200, list{{":method", "POST"}}, list{{"content-type", "application/json"}}, ""},
		{200, get, list{{"vary", "Accept-Encoding, ,cookie"}, {"vary", "X-API-Key"}}, ""},
		{200, list{{":method", "HEAD"}}, nil, "method"},
		{200, list{{":method", "DELETE"}}, nil, "method"},
		{200, nil, nil, "method"},
		{204, get, nil, "status"},
		{206, get, nil, "status"},
		{304, get, nil, "status"},
		{500, get, nil, "status"},
		{200, get, list{{"content-range", "bytes 0-1/2"}}, "partial"},
		{200, get, list{{"vary", "*"}}, "vary"},
		{200, get, list{{"vary", "accept, origin"}}, "vary"},
		{200, get, list{{"vary", "accept"}, {"vary", "origin"}}, "vary"},
		{200, list{{":method", "POST"}}, list{{"content-type", "application/grpc+proto"}}, "grpc"},
		{200, list{{":method", "POST"}}, list{{"content-type", "Application/GRPC-web"}}, "grpc"},
		{200, get, list{{"content-type", "text/event-stream; charset=utf-8"}}, "event-stream"},
		{200, get, list{{"trailer", "x-sum"}}, "trailers"},
		{200, list{{":method", "GET"}, {"upgrade", "websocket"}}, nil, "upgrade"},
	} {
		ok, why := c.Storable(x.status, x.req, x.resp)
		if ok != (x.why == "") || why != x.why {
			t.Errorf("%d %v %v: %v, %q; want %q", x.status, x.req, x.resp, ok, why, x.why)
		}
	}
}

// fixed is a header list that costs nothing to read.
type fixed struct{ names, values [][]byte }

func (f *fixed) Len() int           { return len(f.names) }
func (f *fixed) Name(i int) []byte  { return f.names[i] }
func (f *fixed) Value(i int) []byte { return f.values[i] }
func (f *fixed) Get(string) []byte  { return nil }

func benchQuery() (*Query, *fixed) {
	q := &Query{
		Key: acme, Method: []byte("GET"), Authority: []byte("stats.example"), Path: []byte("/api/v2/metrics/query"),
		Query: []byte("to=1700000000&metric=uv&from=1699990000&tenant=acme"),
	}
	h := &fixed{
		names:  [][]byte{[]byte("accept"), []byte("authorization"), []byte("user-agent")},
		values: [][]byte{[]byte("*/*"), []byte("Bearer abcdef"), []byte("curl/8")},
	}
	return q, h
}

func TestCacheAllocs(t *testing.T) {
	c := newCache(t, nil)
	q, h := benchQuery()
	k := c.Key(nil, q, h)
	c.Put(k, 200, &fixed{}, []byte("42"), 0)
	scratch := make([]byte, 0, 1024)
	wantAllocs(t, "Key and Get", func() {
		k := c.Key(scratch, q, h)
		if _, _, ok := c.Get(k, 1); !ok {
			t.Fatal("a miss")
		}
	})
	miss := *q
	miss.Key = quadnine.Key{Tenant: "none"}
	wantAllocs(t, "a miss", func() { c.Get(c.Key(scratch, &miss, h), 1) })
}

func BenchmarkCacheKey(b *testing.B) {
	c := newCache(b, nil)
	q, h := benchQuery()
	scratch := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		c.Key(scratch, q, h)
	}
}

func BenchmarkCacheGet(b *testing.B) {
	c := newCache(b, nil)
	q, h := benchQuery()
	k := c.Key(nil, q, h)
	c.Put(k, 200, &fixed{}, []byte("42"), 0)
	b.ReportAllocs()
	for b.Loop() {
		c.Get(k, 1)
	}
}
