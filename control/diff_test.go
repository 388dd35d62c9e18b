package control

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func group(t *testing.T, text string) *Group {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := Read(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestDiff(t *testing.T) {
	before := cluster("a", "1s") + cluster("gone", "1s") + listener("in", 8080) + routes("a")
	after := strings.NewReplacer(
		"port_value: 8080", "port_value: 8081", "stat_prefix: in", "stat_prefix: out",
		"- name: all\n", "- name: first\n  domains: [x]\n- name: all\n  include_request_attempt_count: true\n", "{cluster: a}", "{cluster: b}", "{prefix: /}", "{path: /p}",
	).Replace(cluster("a", "2s") + cluster("new", "1s") + listener("in", 8080) + routes("a"))
	var got []string
	for _, d := range Diff(group(t, before), group(t, after)) {
		got = append(got, d.Change+" "+d.API+" "+d.Name)
		for _, f := range d.Fields {
			got = append(got, "  "+f.Path+": "+f.Before+" → "+f.After)
		}
	}
	want := []string{
		"changed CDS a", "  connect_timeout: 1s → 2s", "removed CDS gone", "added CDS new", "removed EDS gone", "added EDS new",
		"changed LDS in", "  address.socket_address.port_value: 8080 → 8081",
		`  filter_chains[0].filters["envoy.filters.network.http_connection_manager"].typed_config.stat_prefix: in → out`,
		"changed RDS routes",
		`  virtual_hosts["all"].routes[0].match.prefix: / → `, `  virtual_hosts["all"].routes[0].match.path:  → /p`,
		`  virtual_hosts["all"].routes[0].route.cluster: a → b`, `  virtual_hosts["all"].include_request_attempt_count:  → true`,
		`  virtual_hosts["first"]:  → {"name":"first","domains":["x"]}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := Diff(group(t, before), group(t, before)); d != nil {
		t.Errorf("the same: %+v", d)
	}
}

func TestBlame(t *testing.T) {
	items := []item{{"c1", "1"}, {"c10", "1"}, {"outbound|80||x.y", "1"}, {"known", "1"}, {"gone", ""}}
	accepted := func(name string) string { return map[string]string{"known": "1"}[name] }
	for reason, want := range map[string]string{
		`Cluster "c1": type: unsupported`:                       "c1",
		"Error adding/updating cluster(s) c10: no, known: why":  "c10",
		"Error adding/updating cluster(s) outbound|80||x.y: no": "outbound|80||x.y",
		"cluster c1.":                       "c1",
		"something is wrong":                "c1 c10 outbound|80||x.y",
		`Cluster "c1": a; Cluster "c10": b`: "c1 c10",
	} {
		if got := strings.Join(sortedKeys(blame(reason, items, accepted)), " "); got != want {
			t.Errorf("%q is about %q, want %q", reason, got, want)
		}
	}
	if got := blame("no", []item{{"known", "1"}}, accepted); !got["known"] {
		t.Errorf("nothing new: %v", got)
	}
}
