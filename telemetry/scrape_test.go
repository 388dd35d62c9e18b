package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	acceptText     = "text/plain;version=0.0.4"
	acceptProtobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	acceptOpen     = "application/openmetrics-text;version=1.0.0"
)

func scrapeOnce(h http.Handler, accept string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodGet, "/stats/prometheus", nil)
	req.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// scrapeFamilies reads the protobuf exposition, which holds everything.
func scrapeFamilies(t *testing.T, r *Registry) map[string]*dto.MetricFamily {
	t.Helper()
	w := scrapeOnce(r.Handler(), acceptProtobuf)
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	families := make(map[string]*dto.MetricFamily)
	dec := expfmt.NewDecoder(w.Body, expfmt.ResponseFormat(w.Header()))
	for {
		f := new(dto.MetricFamily)
		if err := dec.Decode(f); errors.Is(err, io.EOF) {
			return families
		} else if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
}

func TestScrapeFormats(t *testing.T) {
	h := populate(NewRegistry()).Handler()
	for accept, wants := range map[string][]string{
		acceptText: {
			"# TYPE http_server_request_duration_seconds histogram\n",
			`http_server_request_duration_seconds_bucket{le="0.0001"} 1` + "\n",
			`http_server_request_duration_seconds_bucket{le="0.005"} 2` + "\n",
			"http_server_request_duration_seconds_count 2\n",
			`quadnine_requests_total{outcome="degraded",tenant="t-7"} 1` + "\n",
			`quadnine_requests_total{outcome="ok",tenant="_other"} 0` + "\n",
			`quadnine_degraded_responses_total{step="stale",tenant="t-7"} 1` + "\n",
			`quadnine_downstream_connections_opened_total{network_protocol_version="1.1"} 1` + "\n",
		},
		acceptOpen:     {"\n# EOF\n", "# TYPE quadnine_requests counter\n"},
		acceptProtobuf: {"quadnine_requests_total"},
	} {
		w := scrapeOnce(h, accept)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), strings.Split(accept, ";")[0]) {
			t.Fatalf("%s: %d, %s", accept, w.Code, w.Header().Get("Content-Type"))
		}
		for _, want := range wants {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: no %q in\n%s", accept, want, w.Body)
			}
		}
	}
}

func TestHistogramHasClassicAndNativeBuckets(t *testing.T) {
	r := NewRegistry()
	s := r.NewShard()
	want := []int64{200, 50_000, 3_000_000, 3_100_000, 70_000_000, 9_000_000_000, 200_000_000_000}
	for _, ns := range want {
		s.Request("t", OK, StepNone, ns)
	}
	h := scrapeFamilies(t, r)["http_server_request_duration_seconds"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 7 || math.Abs(h.GetSampleSum()-209.07615) > 1e-4 {
		t.Fatalf("count %d sum %v", h.GetSampleCount(), h.GetSampleSum())
	}
	classic := map[float64]uint64{0.0001: 2, 0.0025: 2, 0.005: 4, 0.05: 4, 0.075: 5, 7.5: 5, 10: 6}
	for _, b := range h.GetBucket() {
		if n, ok := classic[b.GetUpperBound()]; ok && n != b.GetCumulativeCount() {
			t.Errorf("le=%v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), n)
		}
	}
	// Each value must lie within one native bucket of where it is counted.
	if h.GetSchema() != nativeSchema || h.GetZeroCount() != 1 {
		t.Fatalf("schema %d, zero bucket %d, want %d and the 200 ns one", h.GetSchema(), h.GetZeroCount(), nativeSchema)
	}
	var uppers []float64
	index, count := int32(0), int64(0)
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count += deltas[0]
			deltas = deltas[1:]
			for range count {
				uppers = append(uppers, math.Exp2(float64(index)/8))
			}
			index++
		}
	}
	if len(uppers) != 6 {
		t.Fatalf("native buckets %v, want 6 values", uppers)
	}
	step := math.Exp2(1.0 / 8)
	for i, ns := range want[1:6] { // the last is beyond the range
		v := float64(ns) / 1e9
		if upper := uppers[i]; v > upper*1.0625 || v < upper/step/1.0625 {
			t.Errorf("%v s is counted in the native bucket up to %v", v, upper)
		}
	}
}

// TestScrapeStorm has 100 scrapers arrive while one collection is under way.
func TestScrapeStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry()
		collecting, release := make(chan struct{}), make(chan struct{})
		var collections int // written by one collection at a time: the race detector would tell
		r.Gauge(Ready, func() float64 {
			if collections++; collections == 1 {
				close(collecting)
				<-release
			}
			return 1
		})
		h := r.Handler()
		var storm sync.WaitGroup
		bodies := make([][]byte, 100)
		scrape := func(i int, accept string) {
			storm.Go(func() { bodies[i] = scrapeOnce(h, accept).Body.Bytes() })
		}
		scrape(0, acceptText)
		<-collecting
		for i := range 98 {
			scrape(i+1, acceptText)
		}
		scrape(99, acceptOpen) // another format waits for its own turn
		gone, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodGet, "/", nil))
		}()
		synctest.Wait()
		leave()
		<-left // a scraper that goes away does not wait for the others
		if shared := r.Total(ScrapesShared); shared != 99 || collections != 1 {
			t.Fatalf("%d scrapers share %d collections, want 99 and 1", shared, collections)
		}
		close(release)
		storm.Wait()
		if encoded := r.Total(ScrapesEncoded); encoded != 2 || collections != 2 {
			t.Fatalf("100 scrapers in two formats cost %d encodings of %d collections, want 2", encoded, collections)
		}
		for i, b := range bodies[:99] {
			if len(b) == 0 || !bytes.Equal(b, bodies[0]) {
				t.Fatalf("scraper %d got %d bytes, the first %d", i, len(b), len(bodies[0]))
			}
		}
		scrapeOnce(h, acceptText)
		if collections != 3 {
			t.Fatal("a later scrape got old numbers")
		}
	})
}

func TestPanickingScrapeLeavesNobodyWaiting(t *testing.T) {
	r := NewRegistry()
	r.Gauge(Ready, func() float64 { return 1 })
	h := r.Handler().(*scrapes)
	one, mine := h.join("text")
	if !mine {
		t.Fatal("joined nothing")
	}
	func() {
		defer func() { _ = recover() }()
		h.gatherer = nil // any panic will do
		h.encode(one, "text")
	}()
	<-one.done
	if !errors.Is(one.err, errUnfinished) {
		t.Fatalf("sharers got %v, want %v", one.err, errUnfinished)
	}
	if _, mine := h.join("text"); !mine {
		t.Fatal("the broken encoding is still shared")
	}
}

func BenchmarkScrape(b *testing.B) {
	r := populate(NewRegistry())
	s := r.NewShard()
	for i := range MaxTenants {
		s.Request(string(rune('a'+i%26))+string(rune('a'+i/26)), OK, StepNone, int64(i)*1000)
	}
	h := r.Handler()
	b.ReportAllocs()
	for b.Loop() {
		scrapeOnce(h, acceptText)
	}
}
