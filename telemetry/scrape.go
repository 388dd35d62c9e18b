package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Handler returns the handler that answers scrapes in the format the scraper
// asks for. One collection runs at a time, and scrapers that arrive while their
// format is being encoded share that result, so a storm of scrapers costs what
// one does.
func (r *Registry) Handler() http.Handler {
	g := prometheus.NewRegistry()
	g.MustRegister(r.Collector())
	return &scrapes{
		registry: r,
		gatherer: g,
		formats:  expfmt.DefaultOpenMetricsAcceptedFormats(),
		turn:     make(chan struct{}, 1),
		running:  make(map[expfmt.Format]*scrape),
	}
}

// errUnfinished is what sharers of an encoding get when it panicked.
var errUnfinished = errors.New("telemetry: the scrape was not finished")

type scrapes struct {
	registry *Registry
	gatherer prometheus.Gatherer
	formats  []expfmt.Format
	turn     chan struct{} // holds one token while a collection runs

	mu      sync.Mutex
	running map[expfmt.Format]*scrape // guarded by mu; by the format being encoded
}

// scrape is one encoding; its fields may be read when done is closed.
type scrape struct {
	done chan struct{}
	body []byte
	err  error
}

// ServeHTTP implements http.Handler.
func (s *scrapes) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	format := expfmt.NegotiateAccept(req.Header, s.formats...)
	one, mine := s.join(format)
	if mine {
		s.encode(one, format)
	} else {
		select {
		case <-one.done:
		case <-req.Context().Done():
			return
		}
	}
	if one.err != nil {
		http.Error(w, fmt.Sprintf("metrics: %v", one.err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	w.Header().Set("Content-Length", strconv.Itoa(len(one.body)))
	_, _ = w.Write(one.body) // a scraper that went away has nobody to tell
}

// join returns the encoding of format that is under way, or a new one that the
// caller must carry out.
func (s *scrapes) join(format expfmt.Format) (one *scrape, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one = s.running[format]; one != nil {
		s.registry.Count(ScrapesShared, 1)
		return one, false
	}
	one = &scrape{done: make(chan struct{}), err: errUnfinished}
	s.running[format] = one
	return one, true
}

// encode fills one. It leaves nobody waiting, even when it panics.
func (s *scrapes) encode(one *scrape, format expfmt.Format) {
	s.turn <- struct{}{}
	s.registry.Count(ScrapesEncoded, 1)
	defer func() {
		<-s.turn
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, format)
		close(one.done)
	}()
	one.body, one.err = encode(s.gatherer, format)
}

func encode(g prometheus.Gatherer, format expfmt.Format) ([]byte, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("telemetry: collect: %w", err)
	}
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return nil, fmt.Errorf("telemetry: encode %s: %w", f.GetName(), err)
		}
	}
	if c, ok := enc.(expfmt.Closer); ok { // OpenMetrics ends with "# EOF"
		if err := c.Close(); err != nil {
			return nil, fmt.Errorf("telemetry: end the exposition: %w", err)
		}
	}
	return b.Bytes(), nil
}
