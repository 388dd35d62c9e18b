package policy

import (
	"errors"
	"testing"
	"time"

	"github.com/quadnine/quadnine"
)

func TestNext(t *testing.T) {
	up := &quadnine.Error{Code: quadnine.Unavailable, Origin: quadnine.Upstream}
	early := &quadnine.Error{Code: quadnine.Unavailable, Origin: quadnine.Upstream, Retryable: true}
	open := &quadnine.Error{Code: quadnine.Unavailable, Origin: quadnine.Local, Reason: BreakerOpen.String()}
	nan := &quadnine.Error{Code: quadnine.Unavailable, Origin: quadnine.Local, Reason: ModelNotFinite.String()}
	all := Possible{Peer: true, Fresh: true, Stale: true}
	previous := Possible{Peer: true, Fresh: true, Stale: true, Previous: true}
	for _, x := range []struct {
		name string
		p    Possible
		err  *quadnine.Error
		want Step
	}{
		{"peer first", all, up, Peer},
		{"a hop goes nowhere else", Possible{Peer: true, Hop: true, Fresh: true, Stale: true}, up, Stale},
		{"a hop without an answer", Possible{Peer: true, Hop: true, Fresh: true}, early, Explain},
		{"cannot be sent again", Possible{Peer: true, Stale: true}, up, Stale},
		{"was never sent", Possible{Peer: true, Stale: true}, early, Peer},
		{"breaker open", all, open, Peer},
		{"breaker open, no peer", Possible{Stale: true}, open, Stale},
		{"not finite: previous first", previous, nan, Previous},
		{"not finite, nothing stands in", all, nan, Peer},
		{"previous last", previous, up, Peer},
		{"previous after stale", Possible{Stale: true, Previous: true}, up, Stale},
		{"previous alone", Possible{Previous: true}, up, Previous},
		{"nothing left", Possible{}, up, Explain},
		{"caller's fault", all, &quadnine.Error{Code: quadnine.BadRequest, Origin: quadnine.Downstream}, Explain},
		{"caller gone", all, &quadnine.Error{Code: quadnine.Canceled, Origin: quadnine.Upstream}, Explain},
		{"our defect", all, &quadnine.Error{Code: quadnine.Internal}, Explain},
		{"no error", all, nil, Explain},
	} {
		if got := Next(x.p, x.err); got != x.want {
			t.Errorf("%s: %v, want %v", x.name, got, x.want)
		}
	}
}

func TestQualify(t *testing.T) {
	for status := 100; status < 600; status++ {
		want := Success
		if status >= 500 && status != 501 && status != 505 {
			want = Failure
		}
		if got := Qualify(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
	for _, x := range []struct {
		err  *quadnine.Error
		want Outcome
	}{
		{nil, Success},
		{&quadnine.Error{Origin: quadnine.Upstream, Code: quadnine.Timeout}, Failure},
		{&quadnine.Error{Origin: quadnine.Upstream, Code: quadnine.Canceled}, Neutral},
		{&quadnine.Error{Origin: quadnine.Downstream, Code: quadnine.Canceled}, Neutral},
		{&quadnine.Error{Origin: quadnine.Local, Code: quadnine.Internal}, Neutral},
	} {
		if got := QualifyError(x.err); got != x.want {
			t.Errorf("%v: %v, want %v", x.err, got, x.want)
		}
	}
}

func TestAppendDegraded(t *testing.T) {
	for _, x := range []struct {
		s    Step
		why  Reason
		age  time.Duration
		want string
	}{
		{Stale, BreakerOpen, 12*time.Second + 999*time.Millisecond, "stale; reason=breaker-open; age=12"},
		{Stale, UpstreamTimeout, 0, "stale; reason=upstream-timeout; age=0"},
		{Previous, ModelNotFinite, -1, "previous; reason=non-finite"},
		{Peer, ConnectFailed, -1, "peer; reason=connect-failed"},
		{Explain, ClusterOpen, -1, "none; reason=cluster-open"},
	} {
		if got := string(AppendDegraded(nil, x.s, x.why, x.age)); got != x.want {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
}

func TestAppendCacheStatus(t *testing.T) {
	for _, x := range []struct {
		s    CacheStatus
		want string
	}{
		{CacheStatus{Hit: true, TTL: 48 * time.Second, Detail: "degraded"}, "quadnine; hit; ttl=48; detail=degraded"},
		{CacheStatus{Hit: true, TTL: 48*time.Second + 1}, "quadnine; hit; ttl=48"},
		{CacheStatus{Hit: true, TTL: -time.Millisecond}, "quadnine; hit; ttl=-1"},
		{CacheStatus{Forward: "uri-miss", FwdStatus: 200, Stored: true}, "quadnine; fwd=uri-miss; fwd-status=200; stored"},
		{CacheStatus{Forward: "bypass", Detail: "vary"}, "quadnine; fwd=bypass; detail=vary"},
	} {
		if got := string(AppendCacheStatus([]byte("x"), x.s)); got != "x"+x.want {
			t.Errorf("%q, want %q", got, "x"+x.want)
		}
	}
}

func TestRetryAfterSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-time.Second: 1, 0: 1, 1: 1, time.Second: 1, time.Second + 1: 2, 30 * time.Second: 30, 1<<63 - 1: 365 * 24 * 3600,
	} {
		if got := RetryAfterSeconds(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}

func TestReasons(t *testing.T) {
	for r := range numReasons {
		if got, ok := ParseReason(r.String()); !ok || got != r || r.String() == "" {
			t.Errorf("reason %d %q parses as %v, %v", r, r, got, ok)
		}
	}
	if r, ok := ParseReason("of-course"); ok || r != Unspecified {
		t.Errorf("%v, %v", r, ok)
	}
	for _, x := range []struct {
		err  *quadnine.Error
		want Reason
	}{
		{nil, Unspecified},
		{&quadnine.Error{Reason: "upstream-reset", Err: errors.New("RST_STREAM")}, UpstreamReset},
		{&quadnine.Error{Code: quadnine.Timeout, Origin: quadnine.Upstream}, UpstreamTimeout},
		{&quadnine.Error{Code: quadnine.BadGateway, Origin: quadnine.Upstream}, UpstreamProtocol},
		{&quadnine.Error{Code: quadnine.Unavailable, Origin: quadnine.Upstream}, ConnectFailed},
		{&quadnine.Error{Code: quadnine.Internal, Origin: quadnine.Upstream}, Upstream5xx},
		{&quadnine.Error{Code: quadnine.NotFound, Origin: quadnine.Upstream}, Unspecified},
		{&quadnine.Error{Code: quadnine.Timeout, Origin: quadnine.Downstream}, Unspecified},
	} {
		if got := ReasonOf(x.err); got != x.want {
			t.Errorf("%v: %v, want %v", x.err, got, x.want)
		}
	}
	for want, got := range map[string]string{
		"half-open": StateHalfOpen.String(), "tenant": LevelTenant.String(), "probe": Probe.String(), "neutral": Neutral.String(),
		"half-opened": HalfOpened.String(), "unknown": Event(200).String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
