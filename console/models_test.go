package console

import "testing"

func TestModelsAsText(t *testing.T) {
	want := `score (embedded, answers score)
  @2    active       95 % of callers, 3 leases, since 2026-01-02T03:04:05Z, root ab12
  @3    canary        5 % of callers, 1 leases, since 2026-01-02T03:04:05Z, root cd34
        verdict=hold why=too-early
        at 9 requests/s telling 0.1 % from 1 % takes about 160 s
  @1    refused   2026-01-02T03:04:05Z: verdict=rollback why=non-finite
  drop  quarantined "score-4\n": wrong digest
uplift (routed)
`
	if got := get(t, New(sample()), "/models"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The names are what scripts may rely on.
func TestModelsAsJSON(t *testing.T) {
	want := `{"name":"score","mode":"embedded","metric":"score","versions":[` +
		`{"number":2,"root":"ab12","state":"active","since":"2026-01-02T03:04:05Z","leases":3,"durable":false,"weight":95},` +
		`{"number":3,"root":"cd34","state":"canary","since":"2026-01-02T03:04:05Z","leases":1,"durable":false,"weight":5,"evidence":"verdict=hold why=too-early","expect":"at 9 requests/s telling 0.1 % from 1 % takes about 160 s"}],` +
		`"refused":[{"number":1,"reason":"verdict=rollback why=non-finite","at":"2026-01-02T03:04:05Z"}],` +
		`"quarantined":[{"drop":"score-4\n","reason":"wrong digest"}]}` + "\n" +
		`{"name":"uplift","mode":"routed","versions":[],"refused":[],"quarantined":[]}` + "\n"
	if got := get(t, New(sample()), "/models?format=jsonl"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
