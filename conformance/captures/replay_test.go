package captures

import (
	"strings"
	"testing"
)

// The bootstraps are taken as they were written, with the sockets of agents that
// are not there: what cannot be used of them is named, and the rest is served.
func TestBootstrapsStart(t *testing.T) {
	for _, x := range servers {
		t.Run(x.name, func(t *testing.T) {
			s := startSidecar(t, x.bootstrap, x.node, startManagement(t, x.node).addr, "")
			if err := s.AwaitTCP(deadline(t), s.admin); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What the servers sent is taken, or refused for the reasons that the list gives;
// what is taken carries traffic.
func TestAsSent(t *testing.T) {
	list := refused(t)
	total, not := 0, 0
	eachServer(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.push(t)
		listed := make(map[string]bool)
		for key := range list[s.server] {
			listed[key] = true
		}
		for _, r := range s.resources {
			total++
			why, bad := list[s.server][r.key()]
			delete(listed, r.key())
			got := s.states[r.api+" "+r.name]
			switch {
			case !bad && !s.taken(r):
				t.Errorf("%s is %s and not on the list: %s", r.key(), got.State, got.Error)
			case bad && got.State != "rejected":
				t.Errorf("%s is on the list and %s", r.key(), got.State)
			case bad:
				not++
				for _, reason := range why {
					if !strings.Contains(got.Error, reason) {
						t.Errorf("%s: /xds/status does not say %q, but\n%s", r.key(), reason, got.Error)
					}
				}
				var told string
				said := until(t, func() bool { // /xds/status knows it first
					told = strings.Join(s.manager.rejections(), "\n")
					return strings.Contains(told, r.kind+` "`+r.name+`": `+why[0]) || strings.Contains(told, " more")
				})
				if !said {
					t.Errorf("%s: no NACK says %q, but %s", r.key(), why[0], told)
				}
			}
		}
		for key := range listed {
			t.Errorf("the list has %s, and the capture does not", key)
		}
		carried := s.traffic(t)
		if carried == 0 {
			t.Error("nothing carried traffic")
		}
		t.Logf("%d of requests through what is taken reached the backend", carried)
	})
	t.Logf("%d resources of all servers are taken as sent, %d refused", total-not, not)
}

// With the refused fields taken out, everything is taken and carries traffic.
func TestReduced(t *testing.T) {
	eachServer(t, func(t *testing.T, s *stage) {
		t.Helper()
		s.reduce(t)
		s.push(t)
		if n := s.manager.rejections(); len(n) != 0 {
			t.Errorf("%d NACKs: %s", len(n), strings.Join(n, "\n"))
		}
		for _, r := range s.resources {
			if !s.skip(r) && !s.taken(r) {
				t.Errorf("%s is not taken: %+v", r.key(), s.states[r.api+" "+r.name])
			}
		}
		t.Logf("%d requests reached the backend", s.traffic(t))
	})
}

// reduce takes the refused fields out of everything.
func (s *stage) reduce(t *testing.T) {
	t.Helper()
	empty := make(map[*resource]bool)
	for _, r := range s.resources {
		gone, ok := r.reduce(t, s.backend.addr)
		if !ok {
			empty[r] = true
			t.Logf("%s is left out: nothing is left of it without %s", r.key(), strings.Join(gone, ", "))
		} else if len(gone) > 0 {
			t.Logf("%s is sent without %s", r.key(), strings.Join(gone, ", "))
		}
	}
	s.skip = func(r *resource) bool { return empty[r] }
}
