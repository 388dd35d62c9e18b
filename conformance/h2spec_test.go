package conformance

import (
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quadnine/quadnine/bench/proc"
)

// The tests of h2spec 2.6, without and with --strict.
const (
	h2specTests  = 145
	h2specStrict = 146
)

// junit is the part of h2spec's report that is read.
type junit struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Name    string  `xml:"classname,attr"`
			Package string  `xml:"package,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
			Skipped *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestH2Spec runs h2spec against the sidecar, by every driver, in plain text and
// over TLS: nothing fails. In plain text the port speaks HTTP/2 alone: one that speaks
// HTTP/1.1 too answers what is no preface with a 400, not with a GOAWAY (section 3.5
// of RFC 7540, which h2spec tests). The upstream answers with a body: without one,
// h2spec cannot see that flow control works. It reads the request first, as services
// do: an answer that overtakes the request's last, broken frame would make some
// verdicts a matter of luck.
func TestH2Spec(t *testing.T) {
	upstream := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // h2spec resets many streams on purpose
		}
		w.Header().Set("Content-Length", "4096")
		_, _ = w.Write(make([]byte, 4096)) // likewise
	})
	certs := newCerts(t)
	for driver := range drivers {
		for _, c := range []struct {
			name      string
			run, spec []string
			tests     int
		}{
			{"plain", []string{"--codec", "http2"}, nil, h2specTests},
			{"plain strict", []string{"--codec", "http2"}, []string{"--strict"}, h2specStrict},
			{"TLS", certs.flags(), []string{"-t", "-k"}, h2specTests},
			{"TLS strict", certs.flags(), []string{"-t", "-k", "--strict"}, h2specStrict},
		} {
			t.Run(driver+" "+c.name, func(t *testing.T) {
				s := startSidecar(t, nil, append([]string{"--upstream", "h2c://" + upstream, "--driver", driver}, c.run...)...)
				h2spec(t, s, c.tests, c.spec...)
			})
		}
	}
}

// h2spec runs it and wants all of its tests to pass.
func h2spec(t *testing.T, s *sidecar, tests int, args ...string) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "h2spec.xml")
	p := tool(t, "h2spec", append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(proc.Port(s.addr)), "-P", "/", "-o", "3", "-j", report}, args...)...)
	_ = p.Wait(deadline(t, 3*time.Minute)) // it ends with 1 when one test fails: the report says which

	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("h2spec wrote no report: %v\n%s", err, p.Output())
	}
	var r junit
	if err := xml.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	total, passed := 0, 0
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			total++
			switch {
			case c.Failure != nil:
				t.Logf("failed: %s %s: %s", c.Package, c.Name, strings.Join(strings.Fields(*c.Failure), " "))
			case c.Error != nil:
				t.Logf("error: %s %s: %s", c.Package, c.Name, strings.Join(strings.Fields(*c.Error), " "))
			case c.Skipped != nil:
				t.Logf("skipped: %s %s", c.Package, c.Name)
			default:
				passed++
			}
		}
	}
	t.Logf("h2spec: %d of %d", passed, total)
	if total != tests || passed != tests {
		t.Errorf("h2spec: %d of %d passed, want %d of %d", passed, total, tests, tests)
	}
}

// serve starts an upstream in this process that speaks HTTP/1.1 and HTTP/2, and
// returns its address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1024}, ReadHeaderTimeout: within}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}
