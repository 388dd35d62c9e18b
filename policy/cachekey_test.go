package policy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quadnine/quadnine"
)

// variant is one request, described by what may differ.
type variant struct {
	key                            quadnine.Key
	method, authority, path, query string
	fields                         list
	body, model                    string
}

var plain = variant{key: acme, method: "GET", authority: "stats.example", path: "/q", query: "a=1&b=2"}

func (v variant) with(change func(*variant)) variant {
	change(&v)
	return v
}

func (v variant) build(c *Cache) CacheKey {
	q := &Query{Key: v.key, Method: []byte(v.method), Authority: []byte(v.authority), Path: []byte(v.path), Query: []byte(v.query), Model: v.model}
	if v.body != "" {
		q.HasBody = true
		copy(q.Body[:], v.body)
	}
	return c.Key(nil, q, v.fields)
}

func same(a, b CacheKey) bool { return bytes.Equal(a.canon, b.canon) && a.hash == b.hash }

func TestKeyIsTheSame(t *testing.T) {
	c := newCache(t, nil)
	want := plain.build(c)
	for name, v := range map[string]variant{
		"order":          plain.with(func(v *variant) { v.query = "b=2&a=1" }),
		"empty":          plain.with(func(v *variant) { v.query = "&a=1&&b=2&" }),
		"encoding":       plain.with(func(v *variant) { v.query = "%61=%31&b=2"; v.path = "/%71" }),
		"authority case": plain.with(func(v *variant) { v.authority = "Stats.Example" }),
		"other fields":   plain.with(func(v *variant) { v.fields = list{{"user-agent", "x"}, {"traceparent", "y"}, {"", "gone"}} }),
	} {
		if !same(v.build(c), want) {
			t.Errorf("%s: another key", name)
		}
	}
	hex := plain.with(func(v *variant) { v.query = "a=%2f%2F" })
	if !same(hex.build(c), plain.with(func(v *variant) { v.query = "a=%2F%2f" }).build(c)) {
		t.Error("the case of hex digits makes another key")
	}
}

// Every one of these is a different request; no two may share a key.
func TestKeyDiffers(t *testing.T) {
	c := newCache(t, nil)
	all := map[string]variant{
		"plain":        plain,
		"tenant":       plain.with(func(v *variant) { v.key.Tenant = "umbra" }),
		"metric":       plain.with(func(v *variant) { v.key.Metric = "uv" }),
		"shifted key":  plain.with(func(v *variant) { v.key = quadnine.Key{Tenant: "acmep", Metric: "v"} }),
		"method":       plain.with(func(v *variant) { v.method = "POST" }),
		"authority":    plain.with(func(v *variant) { v.authority = "stats.example:80" }),
		"path":         plain.with(func(v *variant) { v.path = "/q/" }),
		"path slash":   plain.with(func(v *variant) { v.path = "/%2Fq" }),
		"value":        plain.with(func(v *variant) { v.query = "a=1&b=3" }),
		"swapped":      plain.with(func(v *variant) { v.query = "a=2&b=1" }),
		"fewer":        plain.with(func(v *variant) { v.query = "a=1" }),
		"doubled":      plain.with(func(v *variant) { v.query = "a=1&b=2&b=2" }),
		"no value":     plain.with(func(v *variant) { v.query = "a&b=2" }),
		"empty value":  plain.with(func(v *variant) { v.query = "a=&b=2" }),
		"amp encoded":  plain.with(func(v *variant) { v.query = "a=1%26b=2" }),
		"eq encoded":   plain.with(func(v *variant) { v.query = "a%3D1&b=2" }),
		"plus":         plain.with(func(v *variant) { v.query = "a=1+&b=2" }),
		"space":        plain.with(func(v *variant) { v.query = "a=1%20&b=2" }),
		"encoded plus": plain.with(func(v *variant) { v.query = "a=1%2B&b=2" }),
		"bad percent":  plain.with(func(v *variant) { v.query = "a=1%&b=2" }),
		"cut encoding": plain.with(func(v *variant) { v.query = "a=%2%46&b=2" }),
		"slash":        plain.with(func(v *variant) { v.query = "a=%2F&b=2" }),
		"encoded %":    plain.with(func(v *variant) { v.query = "a=1%25&b=2" }),
		"user 1":       plain.with(func(v *variant) { v.fields = list{{"authorization", "Bearer 1"}} }),
		"user 2":       plain.with(func(v *variant) { v.fields = list{{"authorization", "Bearer 2"}} }),
		"empty user":   plain.with(func(v *variant) { v.fields = list{{"authorization", ""}} }),
		"both users":   plain.with(func(v *variant) { v.fields = list{{"authorization", "Bearer 1"}, {"authorization", "Bearer 2"}} }),
		"other field":  plain.with(func(v *variant) { v.fields = list{{"x-api-key", "Bearer 1"}} }),
		"cookies":      plain.with(func(v *variant) { v.fields = list{{"cookie", "a=1"}, {"cookie", "b=2"}} }),
		"one cookie":   plain.with(func(v *variant) { v.fields = list{{"cookie", "a=1"}} }),
		"accept":       plain.with(func(v *variant) { v.fields = list{{"accept", "text/csv"}} }),
		"encoding":     plain.with(func(v *variant) { v.fields = list{{"accept-encoding", "gzip"}} }),
		"language":     plain.with(func(v *variant) { v.fields = list{{"accept-language", "de"}} }),
		"body 1":       plain.with(func(v *variant) { v.body = "1" }),
		"body 2":       plain.with(func(v *variant) { v.body = "2" }),
		"version 1":    plain.with(func(v *variant) { v.model = "score@1" }),
		"version 2":    plain.with(func(v *variant) { v.model = "score@2" }),
		"body, model":  plain.with(func(v *variant) { v.body = "1"; v.model = "score@1" }),
	}
	for n1, v1 := range all {
		for n2, v2 := range all {
			if n1 != n2 && same(v1.build(c), v2.build(c)) {
				t.Errorf("%q and %q share a key", n1, n2)
			}
		}
	}
}

// Any order of parameters of different names gives one key, and another order of
// those of one name another key; past maxSorted nothing is sorted.
func TestKeySortsQueries(t *testing.T) {
	c := newCache(t, nil)
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{2, 3, 10, maxSorted} {
		params := make([]string, n)
		for i := range params {
			params[i] = fmt.Sprintf("p%d=%d", i, r.IntN(30))
		}
		v := plain.with(func(v *variant) { v.query = strings.Join(params, "&") })
		want := v.build(c)
		for range 20 {
			r.Shuffle(n, func(i, j int) { params[i], params[j] = params[j], params[i] })
			v.query = strings.Join(params, "&")
			if !same(v.build(c), want) {
				t.Fatalf("%s: another key", v.query)
			}
		}
	}
	one, other := plain.with(func(v *variant) { v.query = "b=1&a=1&a=2" }), plain.with(func(v *variant) { v.query = "a=2&a=1&b=1" })
	if same(one.build(c), other.build(c)) {
		t.Error("two orders of a repeated parameter share a key")
	}
	if !same(one.build(c), plain.with(func(v *variant) { v.query = "a=1&b=1&a=2" }).build(c)) {
		t.Error("a repeated parameter keeps others from being sorted")
	}
	long := strings.Repeat("b=1&a=2&", maxSorted)
	if !same(plain.with(func(v *variant) { v.query = long }).build(c), plain.with(func(v *variant) { v.query = long }).build(c)) {
		t.Error("a long query is not even its own key")
	}
}

func TestKeyHoldsNoCredentials(t *testing.T) {
	c := newCache(t, nil)
	scratch := make([]byte, 0, 1024)
	q := &Query{Key: acme, Path: []byte("/")}
	k := c.Key(scratch, q, list{{"authorization", "Bearer hunter2-hunter2-hunter2-hunter2-hunter2"}})
	if bytes.Contains(scratch[:cap(scratch)], []byte("hunter2")) || bytes.Contains(k.Bytes(), []byte("hunter2")) {
		t.Fatal("the credential is in the scratch")
	}
}

// atoms spells a parameter out, one atom for each thing that means something:
// "l" and a literal character, "e" and an encoded one that must stay encoded, "s"
// for a stray "%". doubled says that a stray one is written "%%".
func atoms(p string, doubled bool) string {
	var out strings.Builder
	for i := 0; i < len(p); i++ {
		b, err := hex.DecodeString(p[min(i+1, len(p)):min(i+3, len(p))])
		switch {
		case p[i] != '%':
			out.WriteString("l" + p[i:i+1])
		case doubled && strings.HasPrefix(p[i+1:], "%"):
			out.WriteString("s")
			i++
		case err != nil || len(b) != 1:
			out.WriteString("s")
		case unreserved(b[0]):
			out.WriteString("l" + string(b))
			i += 2
		default:
			out.WriteString("e" + string(b))
			i += 2
		}
	}
	return out.String()
}

func sortedAtoms(q string, doubled bool) []string {
	var out []string
	for p := range strings.SplitSeq(q, "&") {
		if p != "" {
			out = append(out, atoms(p, doubled))
		}
	}
	slices.Sort(out)
	return out
}

// FuzzKeyQuery: the canonical query means what the query means, no more and no
// less, and does not depend on what the scratch held.
func FuzzKeyQuery(f *testing.F) {
	for _, s := range []string{"", "a=1", "b=2&a=1", "%", "%4", "%41", "%%41", "%2%46", "&&=&a", "a=%zz&%61=+", strings.Repeat("x&", 70)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, q []byte) {
		got := appendQuery(nil, q)
		if g, w := sortedAtoms(string(got), true), sortedAtoms(string(q), false); !slices.Equal(g, w) {
			t.Fatalf("%q → %q: means %q, want %q", q, got, g, w)
		}
		dirty := bytes.Repeat([]byte{0xaa}, 64)
		if d := appendQuery(dirty[:8], q); !bytes.Equal(d[8:], got) {
			t.Fatalf("%q in a dirty scratch: %q, want %q", q, d[8:], got)
		}
	})
}
