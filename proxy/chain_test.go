package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quadnine/quadnine/internal/testkit"
	"github.com/quadnine/quadnine/snapshot"
	"github.com/quadnine/quadnine/telemetry"
)

func TestChainsAreChosenAsEnvoyDoes(t *testing.T) {
	cs := &chains{base: &chain{match: &snapshot.ChainMatch{Transport: "default"}}}
	for name, m := range map[string]snapshot.ChainMatch{
		"exact":       {ServerNames: []string{"a.example.com"}},
		"wild":        {ServerNames: []string{"*.example.com"}},
		"wild com":    {ServerNames: []string{"*.com"}, Transport: "tls"},
		"any h2":      {Transport: "tls", Applications: []string{"h2"}},
		"any tls":     {Transport: "tls"},
		"raw":         {Transport: "raw_buffer"},
		"port":        {Port: 444, ServerNames: []string{"a.example.com"}},
		"exact istio": {ServerNames: []string{"i.example.com"}, Transport: "tls", Applications: []string{"istio", "istio-h2"}},
	} {
		c := &chain{match: &m, place: new(place)}
		cs.add(c)
		c.place.site.Store(&site{Listener: &snapshot.Listener{Name: name}})
	}
	for _, tc := range []struct {
		hello
		want string // "": the default one
	}{
		{hello{tls: true, name: "a.example.com"}, "exact"},
		{hello{tls: true, name: "b.example.com"}, "wild"},
		{hello{tls: true, name: "c.b.example.com"}, "wild"},
		{hello{tls: true, name: "b.example.org"}, "any tls"},
		{hello{tls: true, name: "other.com"}, "wild com"},
		{hello{tls: true, name: "com"}, "any tls"},
		{hello{tls: true, name: ".com"}, "wild com"},
		{hello{tls: true, name: "a."}, "any tls"},
		{hello{tls: true}, "any tls"},
		{hello{tls: true, offered: []string{"http/1.1", "h2"}}, "any h2"},
		{hello{tls: true, offered: []string{"http/1.1"}}, "any tls"},
		{hello{}, "raw"},
		{hello{tls: true, name: "i.example.com", offered: []string{"istio-h2"}}, "exact istio"},
		{hello{tls: true, name: "i.example.com", offered: []string{"h2"}}, ""}, // nothing left out comes back
		{hello{tls: true, name: "i.example.com"}, ""},
		{hello{port: 444, tls: true, name: "a.example.com"}, "port"},
		{hello{port: 444, tls: true, name: "b.example.com"}, ""},
		{hello{port: 443, tls: true, name: "a.example.com"}, "exact"},
	} {
		got := ""
		if c := cs.choose(&tc.hello); c == nil {
			got = "none"
		} else if c != cs.base {
			got = c.place.site.Load().Name
		}
		if got != tc.want {
			t.Errorf("%+v: chain %q, want %q", tc.hello, got, tc.want)
		}
	}
	cs.base = nil
	if c := cs.choose(&hello{port: 444}); c != nil {
		t.Error("a connection that nothing matches got a chain")
	}
}

// serving makes a listener's routes answer with text.
func serving(l *snapshot.Listener, text string) *snapshot.Listener {
	out := *l
	out.HTTP.Envoy = true // direct responses are for these
	out.Inline = &snapshot.RouteTable{Name: text, Hosts: []*snapshot.VirtualHost{{Name: text, Domains: []string{"*"}, Routes: []*snapshot.Route{
		{Direct: &snapshot.DirectResponse{Status: 200, Body: []byte(text)}},
	}}}}
	if err := out.Inline.Finish(nil); err != nil {
		panic(err)
	}
	return &out
}

// withChains gives a rig's listener one chain in plain text, and two for names.
func withChains(ca *testkit.CA, a, b, plain string) func(l *snapshot.Listener) *snapshot.Listener {
	return func(l *snapshot.Listener) *snapshot.Listener {
		out := *l
		out.NoDefault, out.Chains = true, nil
		for _, c := range []struct{ name, text string }{{"a.test", a}, {"b.test", b}} {
			if c.text == "" {
				continue
			}
			own := serving(l, c.text)
			own.TLS = &snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue(c.name))}}
			out.Chains = append(out.Chains, &snapshot.Chain{Name: c.name, Match: snapshot.ChainMatch{ServerNames: []string{c.name}, Transport: "tls"}, Listener: own})
		}
		if plain != "" {
			out.Chains = append(out.Chains, &snapshot.Chain{Name: "plain", Match: snapshot.ChainMatch{Transport: "raw_buffer"}, Listener: serving(l, plain)})
		}
		return &out
	}
}

// replace applies the snapshot with its only listener changed.
func (r *rig) replace(change func(*snapshot.Listener) *snapshot.Listener) {
	r.t.Helper()
	snap := *r.server.Config()
	snap.Listeners = []*snapshot.Listener{change(snap.Listeners[0])}
	if err := r.server.Apply(&snap); err != nil {
		r.t.Fatal(err)
	}
}

// TestChainsAreServed: one port serves names with certificates of their own, and
// plain text of both protocols.
func TestChainsAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, func(o *Options) {
			o.Snapshot.Listeners[0] = withChains(ca, "this is a", "this is b", "this is plain")(o.Snapshot.Listeners[0])
		})
		named := func(name string) *http.Client {
			return r.tlsClient(&tls.Config{RootCAs: ca.Pool(), ServerName: name}, true)
		}
		a := named("a.test")
		get := func(c *http.Client, want string) {
			t.Helper()
			got, err := r.getTLS(c, "/")
			if err != nil {
				t.Fatal(err)
			}
			got.want(t, 200, want)
		}
		get(a, "this is a")
		get(named("b.test"), "this is b")
		r.get("/").want(t, 200, "this is plain")
		if got := r.raw("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"); !strings.HasSuffix(got, "this is plain") {
			t.Errorf("HTTP/1.1 in plain text was answered %q", got)
		}
		if _, err := r.getTLS(named("c.test"), "/"); err == nil {
			t.Error("a name of no chain was served")
		}
		synctest.Wait()
		if n := r.reg.Total(telemetry.RefusedNoChain); n != 1 {
			t.Errorf("%d connections without a chain counted, want 1", n)
		}
		// What a chain's routes say now holds for the connections it has.
		dials := r.net.Dials("sidecar:80")
		r.replace(withChains(ca, "a has changed", "this is b", "this is plain"))
		get(a, "a has changed")
		if n := r.net.Dials("sidecar:80") - dials; n != 0 {
			t.Errorf("%d new connections, want the one that was open", n)
		}
		// A chain that is gone drains its own connections and nobody else's.
		r.replace(withChains(ca, "", "b remains", "this is plain"))
		synctest.Wait()
		time.Sleep(time.Minute) // it may finish what it has begun
		if got, err := r.getTLS(a, "/"); err == nil {
			t.Errorf("a chain that is gone was served: %q", got.body)
		}
		get(named("b.test"), "b remains")
		r.settled()
	})
}

// TestHeldConnectionsFollowTheirChain: they outlive a rotation, and neither the
// chain that they came by nor the terms on which they were let in.
func TestHeldConnectionsFollowTheirChain(t *testing.T) {
	ca := testkit.NewCA(t, "test")
	own := func(change func(*snapshot.TLS)) *snapshot.TLS {
		out := &snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("a.test"))}}
		change(out)
		return out
	}
	change := func(f func(*snapshot.TLS)) func(l, c *snapshot.Listener) {
		return func(l, c *snapshot.Listener) { l.TLS, c.TLS = own(f), own(f) }
	}
	for name, tc := range map[string]struct {
		change func(l, c *snapshot.Listener) // the default chain, and the other
		stays  bool
	}{
		"another certificate":  {change(func(*snapshot.TLS) {}), true},
		"none, for now":        {change(func(t *snapshot.TLS) { t.Certificates, t.Missing = nil, "secret a has not come" }), true},
		"callers need one":     {change(func(t *snapshot.TLS) { t.RequireClient = true }), false},
		"callers are verified": {change(func(t *snapshot.TLS) { t.Validation = &snapshot.Validation{Roots: inline(ca.PEM), Depth: -1} }), false},
		"plain text":           {func(l, c *snapshot.Listener) { l.TLS, c.TLS = nil, nil }, false},
		"no chain":             {func(l, c *snapshot.Listener) { l.NoDefault, c.Name = true, "gone" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				with := func(f func(l, c *snapshot.Listener)) func(*snapshot.Listener) *snapshot.Listener {
					return func(old *snapshot.Listener) *snapshot.Listener {
						l := serving(old, "default")
						l.NoDefault = false
						c := serving(old, "a")
						l.TLS, c.TLS, c.Name = own(func(*snapshot.TLS) {}), own(func(*snapshot.TLS) {}), "a"
						f(l, c)
						l.Chains = nil
						if c.Name != "gone" {
							l.Chains = []*snapshot.Chain{{Name: "a", Match: snapshot.ChainMatch{ServerNames: []string{"a.test"}}, Listener: c}}
						}
						return l
					}
				}
				first := with(func(_, _ *snapshot.Listener) {})
				r := newRig(t, snapshot.Source{}, func(o *Options) { o.Snapshot.Listeners[0] = first(o.Snapshot.Listeners[0]) })
				for name, want := range map[string]string{"a.test": "a", "": "default"} {
					config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
					nc, err := r.net.Dial(t.Context(), "sidecar:80")
					if err != nil {
						t.Fatal(err)
					}
					c := tls.Client(nc, config)
					t.Cleanup(func() { _ = nc.Close() })
					ask := func() string {
						_ = nc.SetDeadline(time.Now().Add(time.Minute))
						if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"); err != nil {
							return err.Error()
						}
						resp, err := http.ReadResponse(bufio.NewReader(c), nil)
						if err != nil {
							return err.Error()
						}
						b, _ := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if resp.Close {
							return "the last " + string(b)
						}
						return string(b)
					}
					if got := ask(); got != want {
						t.Fatalf("%q was answered %q, want %q", name, got, want)
					}
					r.replace(with(tc.change))
					synctest.Wait()
					if !tc.stays {
						want = "the last " + want // as it was
					}
					if got := ask(); got != want {
						t.Errorf("%q was answered %q after the change, want %q", name, got, want)
					}
					r.replace(first)
				}
			})
		})
	}
}

// TestChainsOfTheOtherKind: TLS to a plain chain is closed, and plain text to a chain with TLS.
func TestChainsOfTheOtherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, func(o *Options) {
			l := serving(o.Snapshot.Listeners[0], "default")
			own := serving(l, "secret")
			own.TLS = &snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("a.test"))}}
			l.Chains = []*snapshot.Chain{{Name: "a", Match: snapshot.ChainMatch{ServerNames: []string{"a.test"}}, Listener: own}}
			o.Snapshot.Listeners[0] = l
		})
		if _, err := r.getTLS(r.tlsClient(&tls.Config{RootCAs: ca.Pool(), ServerName: "b.test"}, true), "/"); err == nil {
			t.Error("TLS was served by the default chain, which is in plain text")
		}
		r.get("/").want(t, 200, "default")
		got, err := r.getTLS(r.tlsClient(&tls.Config{RootCAs: ca.Pool(), ServerName: "a.test"}, false), "/")
		if err != nil {
			t.Fatal(err)
		}
		got.want(t, 200, "secret")
		r.settled()
	})
}

// TestSchemeBehindTLS: what is managed says that the caller came by TLS.
func TestSchemeBehindTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testkit.NewCA(t, "test")
		r := newRig(t, snapshot.Source{}, secured(&snapshot.TLS{Certificates: []snapshot.Certificate{certificate(ca.Issue("sidecar"))}},
			func(l *snapshot.Listener) { l.HTTP.Envoy, l.HTTP.UseRemoteAddress = true, true }))
		r.app("app:80", func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, req.Header.Get("x-forwarded-proto"))
		})
		for _, h2 := range []bool{true, false} {
			got, err := r.getTLS(r.tlsClient(&tls.Config{RootCAs: ca.Pool()}, h2), "/")
			if err != nil {
				t.Fatal(err)
			}
			got.want(t, 200, "https")
		}
		r.settled()
	})
}
