package conformance

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// Lines of /breakers: state, tenant, metric, why.
var (
	openAcme   = regexp.MustCompile(`(?m)^open +acme `)
	openOthers = regexp.MustCompile(`(?m)^open +(globex|initech|umbrella) .*`)
)

// TestOneTenantsFailureStaysItsOwn makes the service fail for one tenant under
// load: that tenant gets its own last answers, marked; every other tenant's
// answer stays fresh and whole; the breaker is to be seen.
func TestOneTenantsFailureStaysItsOwn(t *testing.T) {
	tenants := []string{"acme", "globex", "initech", "umbrella"}
	upstream := addrs(t, 1)[0]
	startStats(t, upstream, tenants)
	s := startSidecar(t, nil, "--upstream", "http://"+upstream, "--degrade", "/api/v2/metrics/query")

	others, own := map[string][]byte{}, map[string][]byte{}
	c := client(t, true)
	for _, tenant := range tenants {
		path := "/api/v2/metrics/query?metric=uv&tenant=" + tenant
		body := mustGet(t, c, s.url(path))
		if tenant == "acme" {
			own[path] = body
		} else {
			others[path] = body
		}
	}
	rest, sick := watch(t, s, others), watch(t, s, own)
	rest.await(t, "fresh answers before the fault", func() bool { return rest.fresh.Load() > 200 })

	fault(t, upstream, "acme", `{"kind":"error","status":503}`)
	sick.await(t, "stale answers of the failing tenant", func() bool { return sick.stale.Load() > 500 })
	before := rest.fresh.Load()
	rest.await(t, "fresh answers of the others meanwhile", func() bool { return rest.fresh.Load() > before+500 })
	sick.await(t, "open breaker in /breakers", func() bool {
		_, page, err := get(sick.ctx, http.DefaultClient, "http://"+s.admin+"/breakers")
		if other := openOthers.Find(page); other != nil {
			t.Errorf("/breakers: %s: the service was well for that tenant", other)
		}
		return err == nil && openAcme.Match(page)
	})
	rest.end(t)
	sick.end(t)
	if n := rest.stale.Load(); n != 0 {
		t.Errorf("%d answers of other tenants were degraded; their service was well", n)
	}
}

// fault switches a fault on at the statistics service.
func fault(t *testing.T, upstream, tenant, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+upstream+"/faults/"+tenant, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("PUT /faults/%s: %s", tenant, res.Status)
	}
}
