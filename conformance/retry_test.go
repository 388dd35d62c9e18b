package conformance

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestEndpointDiesAndReturns kills one of two upstream processes with SIGKILL under
// load and starts it again after a second, in turn: not one query sees an error, a
// broken body or an answer that is not the upstream's own.
func TestEndpointDiesAndReturns(t *testing.T) {
	for _, scheme := range []string{"h2c", "h1"} {
		t.Run(scheme, func(t *testing.T) {
			tenants := []string{"acme", "globex"}
			at := addrs(t, 2)
			for i := range at { // an address of its own: nobody else takes the port while it is free
				at[i] = strings.Replace(at[i], "127.0.0.1", "127.0.83.1", 1)
			}
			procs := startAll(t, at, tenants)
			s := startSidecar(t, nil, "--upstream", scheme+"://"+at[0], "--upstream", scheme+"://"+at[1])
			want := make(map[string][]byte)
			for _, tenant := range tenants {
				for _, metric := range []string{"pv", "uv"} {
					path := "/api/v2/metrics/query?tenant=" + tenant + "&metric=" + metric
					want[path] = mustGet(t, client(t, true), s.url(path))
				}
			}
			ctx, stop := context.WithCancel(deadline(t, time.Duration(soak(2, 20))*time.Minute))
			var answered, wrong atomic.Int64
			var callers sync.WaitGroup
			for i := range 8 {
				c := client(t, i%2 == 0) // HTTP/2 and HTTP/1.1 side by side
				callers.Go(func() {
					for ctx.Err() == nil {
						for path, body := range want {
							status, got, err := get(ctx, c, s.url(path))
							switch {
							case ctx.Err() != nil:
							case err != nil || status != http.StatusOK || !bytes.Equal(got, body):
								if wrong.Add(1) <= 5 {
									t.Errorf("%s: %d %v %.200q", path, status, err, got)
								}
							default:
								answered.Add(1)
							}
						}
					}
				})
			}
			more := func(n int64, what string) {
				t.Helper()
				goal := answered.Load() + n
				if !until(ctx, func() bool { return answered.Load() >= goal }) {
					t.Fatalf("no %d answers %s", n, what)
				}
			}
			for i := range soak(4, 100) {
				dies := i % 2
				more(500, "before the death")
				killed := time.Now()
				procs[dies].Kill()
				more(500, "from the other one")
				select { // it is gone for a second
				case <-time.After(time.Until(killed.Add(time.Second))):
				case <-ctx.Done():
				}
				procs[dies] = startStats(t, at[dies], tenants)
				back := func() bool { // only then may the other one die
					_, page, err := get(ctx, http.DefaultClient, "http://"+s.admin+"/stats/prometheus")
					return err == nil && connected(string(page), at)
				}
				if !until(ctx, back) {
					t.Fatalf("%s is not connected to after its return", at[dies])
				}
				more(500, "after the return")
			}
			stop()
			callers.Wait()
			_, page, err := get(deadline(t, within), http.DefaultClient, "http://"+s.admin+"/stats/prometheus")
			if err != nil {
				t.Fatal(err)
			}
			var counted []string
			for line := range strings.Lines(string(page)) {
				if strings.HasPrefix(line, "quadnine_upstream_retries") && !strings.HasSuffix(line, " 0\n") {
					counted = append(counted, strings.TrimSpace(line))
				}
			}
			t.Logf("%d answers, %d wrong; %s", answered.Load(), wrong.Load(), strings.Join(counted, ", "))
			if wrong.Load() != 0 {
				t.Errorf("%d callers saw that an endpoint died", wrong.Load())
			}
			if !strings.Contains(fmt.Sprint(counted), "retries_succeeded_total") {
				t.Error("nothing was sent again: no request was on its way when an endpoint died")
			}
		})
	}
}

// connected reports whether there are connections to all of these endpoints.
func connected(page string, endpoints []string) bool {
	for _, e := range endpoints {
		_, rest, ok := strings.Cut(page, "quadnine_upstream_connections{cluster=\"local\",endpoint=\""+e+"\"} ")
		if !ok || strings.HasPrefix(rest, "0") {
			return false
		}
	}
	return true
}
