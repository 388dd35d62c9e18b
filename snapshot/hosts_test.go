package snapshot

import (
	"errors"
	"strings"
	"testing"
)

// hostTable returns a table with a virtual host for each domain, named by it.
func hostTable(t *testing.T, ignorePort bool, domains ...string) *RouteTable {
	t.Helper()
	table := &RouteTable{Name: "r", IgnorePort: ignorePort}
	for _, d := range domains {
		table.Hosts = append(table.Hosts, &VirtualHost{Name: d, Domains: []string{d}})
	}
	if err := table.Finish(nil); err != nil {
		t.Fatal(err)
	}
	return table
}

// TestDomainsAreTakenAsEnvoyDoes holds what Envoy 1.40 answered.
func TestDomainsAreTakenAsEnvoyDoes(t *testing.T) {
	domains := []string{
		"*", "foo.com", "*.foo.com", "*-bar.foo.com", "foo.*", "foo.bar.*", "*.com", "a.b:80", "x.*", "[::1]", "*:81",
		"UPPER.com", "*.up.COM", "a*b.c",
	}
	given, ignored := hostTable(t, false, domains...), hostTable(t, true, domains...)
	for authority, want := range map[string][2]string{
		"foo.com": {"foo.com", "foo.com"}, "FOO.com": {"foo.com", "foo.com"}, "foo.com:80": {"foo.*", "foo.com"},
		"a.foo.com": {"*.foo.com", "*.foo.com"}, "x-bar.foo.com": {"*-bar.foo.com", "*-bar.foo.com"},
		"-bar.foo.com": {"*.foo.com", "*.foo.com"}, ".foo.com": {"*.com", "*.com"}, "foo.org": {"foo.*", "foo.*"},
		"foo.": {"*", "*"}, "foo.bar.x": {"foo.bar.*", "foo.bar.*"}, "foo.bar.com": {"*.com", "*.com"},
		".com": {"*", "*"}, "a.b": {"*", "*"}, "a.b:80": {"a.b:80", "*"}, "a.b:81": {"*:81", "*"}, "a.b:": {"*", "*"},
		"x.y:81": {"*:81", "x.*"}, "[::1]": {"[::1]", "[::1]"}, "[::1]:80": {"*", "[::1]"}, "upper.com": {"UPPER.com", "UPPER.com"},
		"q.UP.com": {"*.up.COM", "*.up.COM"}, "aXb.c": {"*", "*"}, "a*b.c": {"a*b.c", "a*b.c"}, "foo.com:abc": {"foo.*", "foo.com"},
	} {
		for i, table := range []*RouteTable{given, ignored} {
			if got := table.Host([]byte(authority)); got == nil || got.Name != want[i] {
				t.Errorf("%s (port ignored: %v): %v, want %s", authority, i == 1, got, want[i])
			}
		}
	}
	if given.Host(nil) != nil {
		t.Error("a request without an authority has a virtual host among several")
	}
	if hostTable(t, false, "*").Host(nil) == nil {
		t.Error("a request without an authority is not taken by the only virtual host, *")
	}
	if hostTable(t, false, "foo.com").Host([]byte("bar.com")) != nil {
		t.Error("a virtual host for an authority that none names")
	}
}

func TestADomainStandsOnce(t *testing.T) {
	for _, twice := range [][2]string{{"*", "*"}, {"a.com", "A.com"}, {"*.a", "*.A"}, {"a.*", "A.*"}} {
		table := &RouteTable{Name: "r", Hosts: []*VirtualHost{{Name: "v", Domains: []string{"x", twice[0]}}, {Name: "w", Domains: []string{"y", twice[1]}}}}
		var e *DomainError
		if err := table.Finish(nil); !errors.As(err, &e) || e.Host != 1 || e.Domain != 1 || e.Value != twice[1] || e.First != "v" || !strings.HasPrefix(err.Error(), "virtual_hosts[1].domains[1]: ") {
			t.Errorf("%v: error %v", twice, err)
		}
	}
}
