package proxy

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/quadnine/quadnine/policy"
	"github.com/quadnine/quadnine/proxy/h1"
	"github.com/quadnine/quadnine/proxy/h2"
	"github.com/quadnine/quadnine/proxy/shard"
	"github.com/quadnine/quadnine/telemetry"
)

const limitsPage = "../docs/limits.md"

// limitRow is a bound with its default, as the page tells it.
type limitRow struct{ what, value, set, sees string }

func limitRows() []limitRow {
	c, d := h2.DefaultConfig(), h1.DefaultConfig()
	kib := func(n int64) string {
		switch {
		case n >= 1<<20 && n%(1<<20) == 0:
			return fmt.Sprintf("%d MiB", n>>20)
		case n%(1<<10) == 0:
			return fmt.Sprintf("%d KiB", n>>10)
		}
		return fmt.Sprintf("%d bytes", n)
	}
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []limitRow{
		{"connections of callers", "half of the open files that the process may have", "`--max-connections`; `global_downstream_max_connections`", "the connection closes at once"},
		{"memory", "GOMEMLIMIT, else 90 % of the control group's limit", "`--max-memory`; `overload_manager`", "see below"},
		{"streams of a connection", num(int64(c.MaxConcurrentStreams)), "`max_concurrent_streams`", "RST_STREAM REFUSED_STREAM"},
		{"window of a stream", kib(int64(c.StreamWindow)), "`initial_stream_window_size`", "RST_STREAM FLOW_CONTROL_ERROR"},
		{"window of a connection", kib(int64(c.ConnWindow)), "`initial_connection_window_size`", "GOAWAY FLOW_CONTROL_ERROR"},
		{"body that waits, HTTP/1.1", kib(int64(d.BodyWindow)), "`per_connection_buffer_limit_bytes`, of clusters", "nothing more is read"},
		{"output of a connection", kib(int64(c.OutputLimit)), "`per_connection_buffer_limit_bytes`", "bodies wait; see the write time-out"},
		{"output with heads, before reading stops", kib(int64(4*c.OutputLimit + 64<<10)), "`per_connection_buffer_limit_bytes`", "nothing more is read"},
		{"write time-out: a peer takes nothing", fmt.Sprint(shard.WriteStall), "", "the connection is aborted"},
		{"head, frame, header block, preface, acknowledgement of SETTINGS", fmt.Sprint(headTime), "`request_headers_timeout`", "408, GOAWAY or close"},
		{"handshake", fmt.Sprint(handshakeTime), "`transport_socket_connect_timeout`", "the connection closes"},
		{"handshakes under way", num(maxHandshakes), "", "the oldest closes"},
		{"body without progress", "`--idle-timeout`; `stream_idle_timeout`", "the same", "408, 504 or RST_STREAM"},
		{"header list", kib(int64(c.MaxHeaderBytes)), "`max_request_headers_kb`", "431"},
		{"fields of a header list", num(int64(c.MaxHeaderFields)), "`max_headers_count`", "431"},
		{"CONTINUATION frames of a block", num(int64(c.MaxContinuations)), "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"frames without payload in a row", num(int64(c.MaxEmptyFrames)), "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"acknowledgements that are not read", num(int64(c.MaxPendingAcks)), "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"streams reset, beyond those that completed", fmt.Sprintf("%d, and %d a second", c.ResetBurst, c.ResetRate), "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"frames that carry nothing", fmt.Sprintf("%d, and %d a second", c.FloodBurst, c.FloodRate), "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"PRIORITY", "100×(1+streams)", "", "GOAWAY ENHANCE_YOUR_CALM"},
		{"WINDOW_UPDATE before it counts as carrying nothing", "5+2×(streams+10×DATA sent)", "", ""},
		{"chunk-size line, HTTP/1.1", kib(int64(d.MaxLineBytes)), "", "400"},
		{"tenant, metric", fmt.Sprintf("%d bytes", maxName), "", "400"},
		{"replies held for all requests", kib(bufferBudget), "", "a reply is passed on as it comes and not stored"},
		{"stored replies", kib(policy.DefaultCacheConfig().MaxBytes), "`maxBytes`", "the oldest go"},
	}
}

// page writes docs/limits.md.
func limitsText() string {
	var b strings.Builder
	c := h2.DefaultConfig()
	fmt.Fprintf(&b, `# Limits, attacks, overload

What a peer can make the process hold or do is bounded. This page is written by a test from the same
values and rows that the program and its tests use (`+"`UPDATE=1 go test ./proxy -run LimitsPage`"+`).

## Limits
| limit | default | where it is set | what the peer sees |
|---|---|---|---|
`)
	for _, r := range limitRows() {
		set := r.set
		if set == "" {
			set = "fixed"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.value, set, r.sees)
	}
	perStream := int64(c.StreamWindow)
	fmt.Fprintf(&b, `
**Memory in total.** A caller's connection holds at most its streams' windows, in both directions, and its
output: %d × 2 × %d KiB + %d KiB, under %d MiB, while it uses all of them. That times the
ceiling of connections is more than most machines have, so the ceiling of memory decides: it sheds new work
before the process is out of memory.

## Overload
Memory is looked at %s while there is traffic, and not at all without. What is compared with the ceiling
is what a collection cannot free: live heap, stacks and the runtime's own (`+"`quadnine.memory.used`"+`). The runtime is
told the ceiling, so that it collects in time.

| from | what is done | what the caller sees | counter |
|---|---|---|---|
`, c.MaxConcurrentStreams, (perStream+1)>>10, c.OutputLimit>>10, (int64(c.MaxConcurrentStreams)*2*perStream+int64(c.OutputLimit))>>20+1, "ten times a second")
	for _, t := range DefaultTriggers(HeapLimit) {
		says := map[Action][2]string{
			EndKeepAlives:     {"HTTP/1.1: `connection: close` with its reply", telemetry.CounterName(telemetry.KeepAlivesEnded)},
			RefuseConnections: {"the connection closes at once", telemetry.CounterName(telemetry.TurnedAwayMemory)},
			RefuseRequests:    {"503 with `retry-after`; on a management server's listeners Envoy's `envoy overloaded`, flag `OM`, `x-quadnine-reason: overload`", telemetry.CounterName(telemetry.RefusedOverload)},
			RefuseStreams:     {"HTTP/2: RST_STREAM REFUSED_STREAM, unread", telemetry.CounterName(telemetry.RefusedOverload)},
		}[t.Action]
		fmt.Fprintf(&b, "| %.0f %% | %s | %s | `%s` |\n", 100*t.From, t.Action, says[0], says[1])
	}
	fmt.Fprintf(&b, `
Requests under way go on. An action ends when pressure is %.0f %% of the ceiling below where it began.
`+"`/ready`"+` stays 200 and says which actions are taken, `+"`/memory`"+` shows the figures, `+"`quadnine.overload.action`"+` the
actions. Above the ceiling of connections a new one closes at once (`+"`%s`"+`).

A bootstrap's `+"`overload_manager`"+` takes the place of the defaults: `+"`fixed_heap`, `cgroup_memory`"+` and
`+"`global_downstream_max_connections`"+` with `+"`stop_accepting_requests`, `stop_accepting_connections`,\n`reject_incoming_connections` and `disable_http_keepalive`"+`, by threshold or scaled; the runtime key
`+"`overload.global_downstream_max_connections`"+` too. What else it sets is named in a warning.

## Attacks of callers
Each row is a test of `+"`TestAttacks`"+` over real sockets: the connection is ended or bounded, the counter counts it,
frames and bytes that it costs are bounded, and requests on another connection of the same shard all
succeed meanwhile. `+"`TestGentleCallers`"+` has callers that use much and are never cut off.

| test | what the caller does | what it sees | counter |
|---|---|---|---|
`, 100*slack, telemetry.CounterName(telemetry.TurnedAwayFull))
	for _, r := range attacks {
		id := "`" + telemetry.CounterName(r.id) + "`"
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.does, r.sees, id)
	}
	fmt.Fprintf(&b, "| `TestConnectionCeiling` | opens connections without end | the connection closes at once | `%s` |\n", telemetry.CounterName(telemetry.TurnedAwayFull))
	b.WriteString(`
## Attacks of apps
What an app does to its connections harms its own requests only (` + "`TestHostileApps`" + `).

| test | what the app does | what becomes of it | counter |
|---|---|---|---|
`)
	for _, r := range hostiles {
		fmt.Fprintf(&b, "| %s | %s | %s | `%s` |\n", r.name, r.does, r.sees, telemetry.CounterName(r.id))
	}
	return b.String()
}

// TestLimitsPage compares docs/limits.md with the limits and the attacks that are
// tested; UPDATE=1 rewrites it.
func TestLimitsPage(t *testing.T) {
	want := limitsText()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(limitsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(limitsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the program does: run UPDATE=1 go test ./proxy -run LimitsPage", limitsPage)
	}
}
