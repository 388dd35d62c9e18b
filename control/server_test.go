package control

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestServesWhatTheDirectoryHolds(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a"))
		c := r.connect("n", delta, nil)
		c.holds(Endpoints, "a", "127.0.0.1")
		c.holds(Routes, "routes", "all")
		r.idle()
		before := len(c.said())
		if err := r.server.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.change("a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a")+"# the same\n")
		r.change("b.yaml", cluster("b", "2s"))
		c.holds(Endpoints, "b", "127.0.0.1")
		c.holds(Endpoints, "a", "127.0.0.1")
		r.idle()
		for _, line := range c.said()[before:] {
			if strings.HasPrefix(line, "LDS") || strings.HasPrefix(line, "RDS") {
				t.Errorf("%q was sent, and nothing of it has changed", line)
			}
		}
		s := r.server.Status("n")
		if len(s.Nodes) != 1 || s.Nodes[0].Streams != 1 || s.Nodes[0].Agent != "test" {
			t.Fatalf("nodes %+v", s.Nodes)
		}
		for _, res := range s.Nodes[0].Resources {
			if res.State != stateAccepted {
				t.Errorf("%+v is not accepted", res)
			}
		}
		if n := len(s.Nodes[0].Resources); n != 6 {
			t.Errorf("%d resources, want 6: %+v", n, s.Nodes[0].Resources)
		}
	})
}

// A cluster that takes the place of another comes before the route to it, and
// goes after the route from it.
func TestSwapInOrder(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a"))
		c := r.connect("n", delta, nil)
		c.holds(Endpoints, "a", "127.0.0.1")
		c.holds(Routes, "routes", "all")
		r.idle()
		before := len(c.said())
		r.change("a.yaml", cluster("b", "1s")+listener("in", 8080)+routes("b"))
		c.until("a is gone", func() bool { return c.has[Clusters]["a"] == "" })
		got := c.said()[before:]
		want := []string{"CDS a b", "EDS b", "RDS routes", "CDS b"}
		if delta {
			want = []string{"CDS b", "EDS b", "RDS routes", "CDS -a"}
		}
		got = slices.DeleteFunc(got, func(s string) bool { return strings.HasPrefix(s, "EDS -") })
		if !slices.Equal(got, want) {
			t.Errorf("responses %q, want %q", got, want)
		}
	})
}

// One rejected resource costs one NACK until it changes, whatever else changes.
func TestNoNackStorm(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "good.yaml", cluster("good", "1s"), "x.yaml", cluster("x", "7s"))
		c := r.connect("n", delta, func(k Kind, name string) string {
			if k == Clusters && strings.HasPrefix(name, "x ") && strings.Contains(name, "\x22\x02\x08\x07") {
				return "seven seconds are too long"
			}
			return ""
		})
		c.holds(Endpoints, "good", "127.0.0.1")
		c.until("one NACK", func() bool {
			return slices.ContainsFunc(c.log, func(l string) bool { return strings.HasPrefix(l, "NACK") })
		})
		r.idle()
		for _, timeout := range []string{"2s", "3s", "4s", "5s"} {
			r.change("good.yaml", cluster("good", timeout))
			c.holds(Clusters, "good", "\x22\x02\x08"+string(rune(timeout[0]-'0')))
			r.idle()
		}
		if n := c.count("NACK"); n != 1 {
			t.Errorf("%d NACKs, want 1:\n%s", n, strings.Join(c.said(), "\n"))
		}
		s := r.server.Status("")
		bad := s.Groups[0].Rejected
		if len(bad) != 1 || bad[0].Name != "x" || bad[0].Nodes != 1 || bad[0].Instead != "" || !strings.Contains(bad[0].Reason, "seven seconds") || !strings.HasSuffix(bad[0].Where, "x.yaml:2") {
			t.Fatalf("rejected: %+v", bad)
		}
		// It is not asked again when it comes back; others are, as there is no
		// version that anybody took.
		c.stop()
		back := r.connect("n", delta, c.reject)
		back.holds(Clusters, "good", "\x22\x02\x08\x05")
		easy := r.connect("easy", delta, nil)
		easy.holds(Clusters, "x", "\x22\x02\x08\x07")
		r.idle()
		if n := back.count("NACK"); n != 0 {
			t.Errorf("%d NACKs after it came back", n)
		}
		r.change("x.yaml", cluster("x", "6s"))
		back.holds(Clusters, "x", "\x22\x02\x08\x06")
		r.idle()
		if bad := r.server.Status("").Groups[0].Rejected; len(bad) != 0 {
			t.Errorf("still rejected: %+v", bad)
		}
	})
}

// Nodes that come later get the last version that was accepted.
func TestNewcomersGetWhatWasAccepted(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "x.yaml", cluster("x", "1s"), "y.yaml", cluster("y", "1s"))
		reject := func(k Kind, name string) string {
			if k == Clusters && strings.HasPrefix(name, "x ") && strings.Contains(name, "\x22\x02\x08\x07") {
				return "too long"
			}
			return ""
		}
		old := r.connect("old1", delta, reject)
		easy := r.connect("easy1", delta, nil)
		old.holds(Endpoints, "x", "127")
		easy.holds(Endpoints, "x", "127")
		r.idle()
		r.change("x.yaml", cluster("x", "7s"))
		old.until("a NACK", func() bool { return len(c0(old.log, "NACK")) > 0 })
		easy.holds(Clusters, "x", "\x22\x02\x08\x07")
		r.idle()

		late := r.connect("late1", delta, reject)
		late.holds(Clusters, "x", "\x22\x02\x08\x01")
		late.holds(Endpoints, "x", "127")
		// The one that accepted it keeps it when it comes again.
		easy.stop()
		again := r.connect("easy1", delta, nil)
		again.holds(Clusters, "x", "\x22\x02\x08\x07")
		// The one that rejected it is not asked a second time.
		old.stop()
		back := r.connect("old1", delta, reject)
		back.holds(Clusters, "x", "\x22\x02\x08\x01")
		r.idle()

		// What else changes reaches all, and takes nobody back.
		r.change("y.yaml", cluster("y", "3s"))
		for _, c := range []*client{late, again, back} {
			c.holds(Clusters, "y", "\x22\x02\x08\x03")
		}
		again.holds(Clusters, "x", "\x22\x02\x08\x07")
		r.idle()
		r.change("x.yaml", cluster("x", "2s"))
		for _, c := range []*client{late, again, back} {
			c.holds(Clusters, "x", "\x22\x02\x08\x02")
			if n := c.count("NACK"); n != 0 {
				t.Errorf("%s: %d NACKs", c.id, n)
			}
		}
		r.idle()
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		for _, st := range r.server.streams {
			for k := range st.kinds {
				if w := st.kinds[k].open; w != nil && w.lane.key.holds != "" {
					t.Errorf("%s is still on a lane of its own", st.node.id)
				}
			}
		}
	})
}

func c0(log []string, prefix string) (out []string) {
	for _, l := range log {
		if strings.HasPrefix(l, prefix) {
			out = append(out, l)
		}
	}
	return out
}

// An address that one node cannot open is nothing against the version.
func TestAddressInUseIsOfOneNode(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a"))
		busy := r.connect("busy", delta, func(k Kind, name string) string {
			if k == Listeners && strings.Contains(name, "\x18\x91\x3f") {
				return "cannot bind 127.0.0.1:8081: address already in use"
			}
			return ""
		})
		busy.holds(Routes, "routes", "all")
		r.idle()
		r.change("a.yaml", cluster("a", "1s")+listener("in", 8081)+routes("a"))
		busy.until("a NACK", func() bool { return len(c0(busy.log, "NACK")) > 0 })
		r.idle()
		r.connect("late", delta, nil).holds(Listeners, "in", "\x18\x91\x3f")
		r.idle()
		if n := busy.count("NACK"); n != 1 {
			t.Errorf("%d NACKs, want one", n)
		}
		busy.stop()
		back := r.connect("busy", delta, busy.reject)
		back.holds(Listeners, "in", "\x18\x90\x3f")
		r.idle()
		if n := back.count("NACK"); n != 0 {
			t.Errorf("it is asked again: %d NACKs", n)
		}
	})
}

func TestLocalRejections(t *testing.T) {
	for _, c := range []struct {
		kind         Kind
		reason, name string
		want         bool
	}{
		{Listeners, `listener "in": address: cannot bind 0.0.0.0:80: address already in use`, "in", true},
		{Listeners, "Error adding/updating listener(s) in: cannot bind '0.0.0.0:80': Address already in use\n", "in", true},
		{Listeners, `listener "in": address: cannot bind 0.0.0.0:80: permission denied; listener "out": filter_chains: is empty`, "in", true},
		{Listeners, `listener "in": address: cannot bind 0.0.0.0:80: permission denied; listener "out": filter_chains: is empty`, "out", false},
		{Listeners, `cannot bind 0.0.0.0:80`, "in", false},
		{Clusters, `cluster "in": cannot bind 0.0.0.0:80`, "in", false},
	} {
		if got := local(c.kind, c.reason, c.name); got != c.want {
			t.Errorf("%s of %s: %v, want %v", c.reason, c.name, got, c.want)
		}
	}
}

func TestBadFileChangesNothing(t *testing.T) {
	r := newRig(t, "a.yaml", cluster("a", "1s")+listener("in", 8080)+routes("a"))
	c := r.connect("n", true, nil)
	c.holds(Endpoints, "a", "127")
	for _, bad := range []struct{ name, text, want string }{
		{"typo", strings.Replace(routes("a"), "virtual_hosts", "virtual_hostz", 1), "bad.yaml:4: virtual_hostz is no field of envoy.config.route.v3.RouteConfiguration"},
		{"value", strings.Replace(cluster("b", "1s"), "type: EDS", "type: EDZ", 1), "bad.yaml:4: type: "},
		{"duration", cluster("b", "soon"), "bad.yaml:5: connect_timeout: "},
		{"yaml", "a: [", "bad.yaml:1: "},
		{"type", "\"@type\": type.googleapis.com/nobody.knows.It\n", "bad.yaml:1: @type type.googleapis.com/nobody.knows.It is not known here"},
		{"kind", "\"@type\": type.googleapis.com/google.protobuf.Empty\n", "bad.yaml:1: a google.protobuf.Empty cannot be served"},
		{"twice", cluster("a", "2s"), `bad.yaml:2: cluster "a" stands at `},
		{"address", listener("in2", 8080), `bad.yaml:2: listener "in2" has the address 127.0.0.1:8080 of listener "in"`},
		{"regex", strings.Replace(strings.Replace(routes("a"), "name: routes", "name: r2", 1), "{prefix: /}", `{safe_regex: {regex: "("}}`, 1), "bad.yaml:8: "},
		{"strict table", strings.Replace(routes("nowhere"), "name: routes", "validate_clusters: true\nname: r2", 1), "validate_clusters is set"},
	} {
		r.write("bad.yaml", bad.text)
		err := r.server.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: error %v, want %q", bad.name, err, bad.want)
		}
		s := r.server.Status("")
		if len(s.Config.Errors) == 0 || s.Config.Failing == nil || s.Config.Resources != 4 {
			t.Errorf("%s: status %+v", bad.name, s.Config)
		}
	}
	if err := os.Remove(filepath.Join(r.dir, "bad.yaml")); err != nil {
		t.Fatal(err)
	}
	r.change()
	if s := r.server.Status(""); s.Config.Errors != nil || s.Config.Failing != nil {
		t.Errorf("status %+v", s.Config)
	}
	if err := os.Remove(filepath.Join(r.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "serving nothing would take everything") {
		t.Errorf("an empty directory: %v", err)
	}
	if len(c0(c.said(), "CDS -")) > 0 {
		t.Error("a cluster was taken away")
	}
}

func TestGroups(t *testing.T) {
	bothVariants(t, func(t *testing.T, delta bool) {
		t.Helper()
		r := newRig(t, "a.yaml", cluster("a", "1s")+cluster("b", "1s"), "nodes/web/a.yaml", cluster("a", "2s"))
		web, other := r.connect("web1", delta, nil), r.connect("other1", delta, nil)
		web.holds(Clusters, "a", "\x22\x02\x08\x02")
		web.holds(Clusters, "b", "\x22\x02\x08\x01")
		other.holds(Clusters, "a", "\x22\x02\x08\x01")
		r.idle()
		// A group that appears and one that goes reach who is connected.
		r.change("nodes/oth*/b.yaml", cluster("b", "5s"))
		other.holds(Clusters, "b", "\x22\x02\x08\x05")
		if err := os.RemoveAll(filepath.Join(r.dir, "nodes", "web")); err != nil {
			t.Fatal(err)
		}
		r.change()
		web.holds(Clusters, "a", "\x22\x02\x08\x01")
		r.idle()
		s := r.server.Status("")
		if len(s.Groups) != 2 || s.Groups[0].Nodes != 1 || s.Groups[1].Name != "oth*" || s.Groups[1].Nodes != 1 {
			t.Errorf("groups %+v", s.Groups)
		}
	})
}
