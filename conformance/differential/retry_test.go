package differential

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3" // cases hold it
)

// attempt does what q-try says of the request's attempt, which include_request_
// attempt_count tells: its n-th word, and nothing special after the last. It
// reports whether that was all.
//
//	503          the status
//	abort        the stream is reset without a response
//	hang         no response
//	hold         no response until release(q-hold)
//	name=value   a response field
func (b *backend) attempt(w http.ResponseWriter, r *http.Request) bool {
	words := strings.Fields(r.Header.Get("Q-Try"))
	n, _ := strconv.Atoi(r.Header.Get("X-Envoy-Attempt-Count"))
	if n < 1 || n > len(words) {
		return false
	}
	word := words[n-1]
	name, value, isField := strings.Cut(word, "=")
	switch {
	case word == "abort":
		panic(http.ErrAbortHandler)
	case word == "hang":
		<-r.Context().Done()
	case word == "hold":
		h := b.holding(r.Header.Get("Q-Key"))
		h.arrived <- struct{}{}
		select {
		case <-h.gate:
		case <-r.Context().Done():
		}
		return false
	case isField:
		w.Header().Set(name, value)
		return false
	default:
		status, _ := strconv.Atoi(word)
		w.WriteHeader(status)
	}
	return true
}

// again is a route with a retry policy to the case's cluster, in a host that tells
// attempts.
func again(policy, route string) string {
	return `virtual_hosts: [{name: v, domains: ['*'], include_request_attempt_count: true, include_attempt_count_in_response: true, include_is_timeout_retry_header: true, routes: [
		{match: {prefix: /}, route: {cluster: e$seq, timeout: 0s, ` + route + `retry_policy: {` + policy + `}}}]}]`
}

// retried is a case of a retry policy on one backend over HTTP/2.
func retried(name, policy string, requests ...*request) trial {
	p := eds("", lb("b0", ""))
	p.routes, p.table = "", again(policy, "")
	return one(name, p, requests...)
}

func tries(words string) *request { return get("/").h("q-try", words) }

var quick = "retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}, "

var retryTrials = []trial{
	retried("retry on 5xx", quick+"retry_on: 5xx, num_retries: 2", tries("503").is("200 b0"), tries("503 500").is("200 b0"), tries("503 503 503").is("503 b0"), tries("abort").is("200 b0"),
		tries("abort abort abort").is("503"), tries("404").is("404 b0"), post("/", "body").h("q-try", "503").is("200 b0"), tries("503").one().is("200 b0")),
	retried("retry once", quick+"retry_on: 5xx", tries("503").is("200 b0"), tries("503 503").is("503 b0")),
	retried("retry not at all", quick+"retry_on: '', num_retries: 3", tries("503").is("503 b0"), tries("abort").is("503")),
	retried("retry on gateway error", quick+"retry_on: gateway-error", tries("502").is("200 b0"), tries("504").is("200 b0"), tries("500").is("500 b0"), tries("abort").is("200 b0")),
	retried("retry on reset", quick+"retry_on: reset", tries("abort").is("200 b0"), tries("503").is("503 b0"), post("/", "body").h("q-try", "abort").is("200 b0")),
	retried("retry on refusal", quick+"retry_on: 'refused-stream,connect-failure'", tries("abort").is("503"), tries("503").is("503 b0")),
	retried("retry on statuses", quick+"retry_on: retriable-status-codes, retriable_status_codes: [418, 404]", tries("418").is("200 b0"), tries("404").is("200 b0"), tries("503").is("503 b0"), tries("abort").is("503")),
	retried("retry on conflict", quick+"retry_on: retriable-4xx", tries("409").is("200 b0"), tries("404").is("404 b0")),
	retried("retry on headers", quick+"retry_on: retriable-headers, retriable_headers: [{name: x-again, string_match: {exact: 'yes'}}]", tries("x-again=yes").is("200 b0"), tries("x-again=no").is("200 b0")),
	retried("retry on rate limit", quick+"retry_on: '5xx,envoy-ratelimited'", tries("x-envoy-ratelimited=1").is("200 b0"), tries("503").is("200 b0")),
	retried("retry not on rate limit", quick+"retry_on: 5xx", tries("x-envoy-ratelimited=1").h("q-status", "503").is("503 b0")),
	retried("retry on grpc status", quick+"retry_on: 'unavailable,cancelled'", tries("grpc-status=14").is("200 b0"), tries("grpc-status=1").is("200 b0"), tries("grpc-status=13").is("200 b0")),
	retried("retry after per try timeout", quick+"retry_on: 5xx, num_retries: 2, per_try_timeout: 0.3s", tries("hang").is("200 b0"), tries("hang hang").is("200 b0"), tries("hang hang hang").is("504")),
	retried("no retry after per try timeout", quick+"retry_on: connect-failure, per_try_timeout: 0.3s", tries("hang").is("504")),
	one("retry policy of a host", part{
		clusters: []string{edsCluster("e$seq", "")}, endpoints: []string{assign("e$seq", lb("b0", ""))},
		table: `virtual_hosts: [{name: v, domains: ['*'], include_request_attempt_count: true, retry_policy: {` + quick + `retry_on: 5xx, num_retries: 2}, routes: [
			{match: {prefix: /own}, route: {cluster: e$seq, timeout: 0s, retry_policy: {` + quick + `retry_on: retriable-4xx}}},
			{match: {prefix: /}, route: {cluster: e$seq, timeout: 0s}}]}]`,
	}, tries("503 503").is("200 b0"), get("/own").h("q-try", "503").is("503 b0"), get("/own").h("q-try", "409").is("200 b0")),
	{"retry on another host", []step{{part: func() part {
		p := eds("lb_policy: ROUND_ROBIN", lb("b0", ""), `{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${nobody}"}}}}`)
		p.routes, p.table = "", again(quick+`retry_on: connect-failure, num_retries: 1, host_selection_retry_max_attempts: 5, retry_host_predicate: [{name: p, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]`, "")
		return p
	}(), do: func(t *testing.T, s *stand) {
		t.Helper()
		for range 20 { // one after the other: of many at once max_retries would leave some out
			for _, x := range s.both() {
				if a := x.send(t, get("/")); a.brief() != "200 b0" {
					t.Errorf("%s answers %s though one of two hosts is well", x.node, a.brief())
				}
			}
		}
	}}}},
	one("retry of a refused connection", func() part {
		p := eds("", `{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: "${nobody}"}}}}`)
		p.routes, p.table = "", again(quick+"retry_on: connect-failure, num_retries: 2", "")
		return p
	}(), get("/").is("503")),
	{"retries at a time", []step{{part: func() part {
		p := eds("circuit_breakers: {thresholds: [{max_retries: 2}]}", lb("b0", ""))
		p.routes, p.table = "", again(quick+"retry_on: 5xx", "")
		return p
	}(), do: func(t *testing.T, s *stand) {
		t.Helper()
		var over [2]answer
		for i, x := range s.both() {
			key, b := t.Name()+x.node, s.backends[0]
			held := make(chan answer, 2)
			for range 2 {
				go func() { held <- x.send(t, tries("503 hold").h("q-key", key)) }()
			}
			for range 2 {
				select {
				case <-b.holding(key).arrived:
				case <-deadline(t, within).Done():
					t.Fatalf("%s: the second tries did not arrive", x.node)
				}
			}
			over[i] = x.send(t, tries("503"))
			b.release(key)
			for range 2 {
				if a := <-held; a.brief() != "200 b0" {
					t.Errorf("%s: a retry that fits ended %s", x.node, a.brief())
				}
			}
		}
		if over[0].brief() != "503 b0" {
			t.Errorf("Envoy answers %s to one retry too many", over[0].brief())
		}
		report(t, s.name, "one too many", diff(tries("503"), over[0], over[1]))
	}}}},
}

// TestRetries: what is sent again, and what is not, as Envoy does it.
func TestRetries(t *testing.T) {
	newStand(t, "DELTA_GRPC").run(t, retryTrials)
}
