package control

import "github.com/prometheus/client_golang/prometheus"

// metric is one line of the catalog.
type metric struct {
	name, help string
	labels     []string
	counter    bool
	read       func(s *Server, emit func(v float64, labels ...string))
}

// catalog is every metric of a Server. It is called with the mutex held.
var catalog = []metric{
	{"quadnine_control_streams", "Open streams.", []string{"variant"}, false, func(s *Server, emit func(float64, ...string)) {
		var n [2]float64
		for id := range s.streams {
			if id.delta {
				n[1]++
			} else {
				n[0]++
			}
		}
		emit(n[0], "sotw")
		emit(n[1], "delta")
	}},
	{"quadnine_control_nodes", "Nodes with an open stream.", nil, false, func(s *Server, emit func(float64, ...string)) {
		var n float64
		for _, node := range s.nodes {
			if node.streams > 0 {
				n++
			}
		}
		emit(n)
	}},
	{"quadnine_control_resources", "Resources of the directory, over all groups of nodes.", []string{"api"}, false, func(s *Server, emit func(float64, ...string)) {
		for _, k := range Kinds() {
			var n int
			for _, g := range s.groups {
				n += len(g.history[k])
			}
			emit(float64(n), k.String())
		}
	}},
	{"quadnine_control_rejected_resources", "Resources that a node has rejected and that have not changed since.", []string{"api"}, false, func(s *Server, emit func(float64, ...string)) {
		for _, k := range Kinds() {
			var n float64
			for _, g := range s.groups {
				for _, h := range g.history[k] {
					if h.bad != nil {
						n++
					}
				}
			}
			emit(n, k.String())
		}
	}},
	{"quadnine_control_responses_total", "Responses sent.", []string{"api"}, true, func(s *Server, emit func(float64, ...string)) {
		for _, k := range Kinds() {
			emit(float64(s.counts.responses[k]), k.String())
		}
	}},
	{"quadnine_control_acks_total", "Responses that nodes took.", []string{"api"}, true, func(s *Server, emit func(float64, ...string)) {
		for _, k := range Kinds() {
			emit(float64(s.counts.acks[k]), k.String())
		}
	}},
	{"quadnine_control_nacks_total", "Responses of which nodes rejected something.", []string{"api"}, true, func(s *Server, emit func(float64, ...string)) {
		for _, k := range Kinds() {
			emit(float64(s.counts.nacks[k]), k.String())
		}
	}},
	{"quadnine_control_reloads_total", "How often the directory was read; result is ok or error.", []string{"result"}, true, func(s *Server, emit func(float64, ...string)) {
		emit(float64(s.counts.reloads-s.counts.failures), "ok")
		emit(float64(s.counts.failures), "error")
	}},
	{"quadnine_control_config_error", "1 while the newest files are not served because they are not valid.", nil, false, func(s *Server, emit func(float64, ...string)) {
		if s.problem != nil {
			emit(1)
		} else {
			emit(0)
		}
	}},
	{"quadnine_control_evidence_streams", "Open streams of sidecars that report on trials of model versions.", nil, false, func(s *Server, emit func(float64, ...string)) {
		emit(float64(s.pool.counts().streams))
	}},
	{"quadnine_control_evidence_reports_total", "Reports on trials that were taken.", nil, true, func(s *Server, emit func(float64, ...string)) {
		emit(float64(s.pool.counts().reports))
	}},
	{"quadnine_control_versions", "Model versions by what the pool of sidecars decided: undecided, promoted, blocked.", []string{"decision"}, false, func(s *Server, emit func(float64, ...string)) {
		c := s.pool.counts()
		emit(float64(c.undecided), "undecided")
		emit(float64(c.promoted), "promoted")
		emit(float64(c.blocked), "blocked")
	}},
}

// collector reads the catalog when somebody asks.
type collector struct{ s *Server }

func (m *metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(m.name, m.help, m.labels, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for i := range catalog {
		out <- catalog[i].desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	var all []prometheus.Metric // sending waits for the reader, and the mutex is not to
	c.s.mu.Lock()
	for i := range catalog {
		m, d := &catalog[i], catalog[i].desc()
		kind := prometheus.GaugeValue
		if m.counter {
			kind = prometheus.CounterValue
		}
		m.read(c.s, func(v float64, labels ...string) {
			all = append(all, prometheus.MustNewConstMetric(d, kind, v, labels...))
		})
	}
	c.s.mu.Unlock()
	for _, m := range all {
		out <- m
	}
}
