package differential

import (
	"strings"
	"testing"
)

// step is a configuration and the requests that are sent on it.
type step struct {
	part

	requests []*request
	do       func(t *testing.T, s *stand) // before the requests
	fails    string                       // the type whose resources both refuse, such as "Cluster"
}

// trial is one case: its steps, one after another on the same listener.
type trial struct {
	name  string
	steps []step
}

// one is a case of a single step.
func one(name string, p part, requests ...*request) trial {
	return trial{name, []step{{part: p, requests: requests}}}
}

// run runs cases on a stand, each on a listener of its own.
func (s *stand) run(t *testing.T, trials []trial) {
	t.Helper()
	for _, c := range trials {
		t.Run(c.name, func(t *testing.T) {
			s.seq++
			s.name = c.name
			a := addrs(t, 2)
			s.envoy.point(t, a[0])
			s.ours.point(t, a[1])
			for _, st := range c.steps {
				s.step(t, c.name, st)
			}
		})
	}
}

func (s *stand) step(t *testing.T, name string, st step) {
	t.Helper()
	refused := make(map[string]bool)
	for k, v := range s.push(t, st) {
		switch {
		case v.ok:
		case st.fails != "" && strings.HasSuffix(k.typeURL, "."+st.fails):
			refused[k.node] = true
		case !allowed.covers(name, "verdict"):
			t.Errorf("%s refuses %s %s: %s", k.node, k.typeURL, k.name, v.text)
		}
	}
	for _, x := range s.both() {
		if st.fails != "" && !refused[x.node] {
			t.Errorf("%s does not refuse the %s", x.node, st.fails)
		}
	}
	if st.do != nil {
		st.do(t, s)
	}
	for _, r := range st.requests {
		s.compare(t, name, r)
	}
}

// compare sends a request to both and compares the answers.
func (s *stand) compare(t *testing.T, name string, r *request) {
	t.Helper()
	if r.times > 1 {
		var found []difference
		for range 2 { // once in 1,000 two samples of one law look different; twice, never
			e, o := s.envoy.drive(t, r), s.ours.drive(t, r)
			t.Logf("%v: Envoy %v, quadnine %v", r, e, o)
			if found = diffCounts(e, o); len(found) == 0 {
				return
			}
		}
		report(t, name, r.String(), found)
		return
	}
	var answers [2]answer
	for i, x := range s.both() {
		if r.before != nil {
			r.before(s, x)
		}
		answers[i] = x.send(t, r)
	}
	e, o := answers[0], answers[1]
	if r.want != "" && e.brief() != r.want {
		t.Errorf("%s: %v: Envoy answers %s %.200q %s: want %s: the case does not test what it is for", name, r, e.brief(), e.body, e.err, r.want)
	}
	report(t, name, r.String(), diff(r, e, o))
}
